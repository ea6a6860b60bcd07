"""Apply the SQL migrations when the stack is deployed (CloudFormation custom resource)."""

import json
import urllib.request
from typing import Any

from order_engine import bootstrap
from order_engine.telemetry import Telemetry

telemetry = Telemetry()

# Constant, so that an update never looks like a replacement that CloudFormation would clean up.
PHYSICAL_RESOURCE_ID = "order-engine-schema"
ANSWER_TIMEOUT_S = 10


def handler(event: dict[str, Any], context: Any) -> None:
    """Migrate on create and update, do nothing on delete, and answer whatever happens."""
    with telemetry.invocation(context):
        status, reason = "FAILED", f"see the log stream {context.log_stream_name}"
        try:
            if event["RequestType"] != "Delete":
                telemetry.logger.info("migrated", applied=bootstrap.migrate_database())
            status, reason = "SUCCESS", "the schema is current"
        finally:
            answer(event, status, reason)


def answer(event: dict[str, Any], status: str, reason: str) -> None:
    """Put the custom resource's answer where CloudFormation waits for it."""
    body = {
        "Status": status,
        "Reason": reason,
        "PhysicalResourceId": PHYSICAL_RESOURCE_ID,
        "StackId": event["StackId"],
        "RequestId": event["RequestId"],
        "LogicalResourceId": event["LogicalResourceId"],
    }
    request = urllib.request.Request(  # noqa: S310 - the URL is CloudFormation's own
        event["ResponseURL"],
        data=json.dumps(body).encode(),
        method="PUT",
        headers={"Content-Type": ""},
    )
    with urllib.request.urlopen(request, timeout=ANSWER_TIMEOUT_S) as response:  # noqa: S310
        telemetry.logger.info("answered", status=status, http_status=response.status)
