"""The few AWS calls of the runtime itself, always against an emulator's endpoint."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from local.emulator import REGION

if TYPE_CHECKING:
    from collections.abc import Iterator


def client(service: str, endpoint_url: str) -> Any:
    """Create a client that knows the endpoint, a test key and nothing of the caller's settings."""
    import botocore.config
    import botocore.session

    # No profile and no files, whatever the caller's environment names.
    nothing = (None, None, None, None)
    files = (None, None, os.devnull, None)
    session = botocore.session.Session(
        session_vars={"profile": nothing, "config_file": files, "credentials_file": files}
    )
    return session.create_client(
        service,
        region_name=REGION,
        endpoint_url=endpoint_url,
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 - the emulator's fixed key
        # The emulator has no host names per operation.
        config=botocore.config.Config(
            proxies={}, retries={"max_attempts": 2}, inject_host_prefix=False
        ),
    )


def ensure_bucket(endpoint_url: str, bucket: str) -> None:
    """Create the bucket that `sam deploy` uploads to, unless it is there."""
    s3 = client("s3", endpoint_url)
    try:
        s3.head_bucket(Bucket=bucket)
    except ClientError:
        s3.create_bucket(Bucket=bucket)


def stack_status(endpoint_url: str, stack_name: str) -> str | None:
    """Return the stack's CloudFormation status, or None when there is no such stack."""
    description = _describe(endpoint_url, stack_name)
    return None if description is None else str(description["StackStatus"])


def stack_outputs(endpoint_url: str, stack_name: str) -> dict[str, str]:
    """Return the stack's outputs by name (empty when there is no such stack)."""
    description = _describe(endpoint_url, stack_name) or {}
    return {item["OutputKey"]: item["OutputValue"] for item in description.get("Outputs", [])}


def failures(endpoint_url: str, stack_name: str) -> list[str]:
    """Return what failed in the stack's last deploy and why, first failure first."""
    cloudformation = client("cloudformation", endpoint_url)
    found: list[str] = []
    try:
        events = cloudformation.describe_stack_events(StackName=stack_name)["StackEvents"]
    except ClientError:
        return found
    for event in events:  # the newest first
        status, logical_id = event["ResourceStatus"], event["LogicalResourceId"]
        if logical_id == stack_name and status in ("CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS"):
            break
        if status.endswith("_FAILED"):
            found.append(f"{logical_id}: {event.get('ResourceStatusReason', status)}")
    return found[::-1]


def delete_stack(endpoint_url: str, stack_name: str) -> None:
    """Delete the stack and wait until it is gone."""
    cloudformation = client("cloudformation", endpoint_url)
    cloudformation.delete_stack(StackName=stack_name)
    waiter = cloudformation.get_waiter("stack_delete_complete")
    waiter.wait(StackName=stack_name, WaiterConfig={"Delay": 1, "MaxAttempts": 120})


def physical_ids(endpoint_url: str, stack_name: str) -> dict[str, str]:
    """Return the physical id of each resource of the stack by its logical one."""
    return {
        item["LogicalResourceId"]: item["PhysicalResourceId"]
        for item in _resources(endpoint_url, stack_name)
        if item.get("PhysicalResourceId")
    }


def _resources(endpoint_url: str, stack_name: str) -> Iterator[dict[str, Any]]:
    cloudformation = client("cloudformation", endpoint_url)
    for page in cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack_name):
        yield from page["StackResourceSummaries"]


def _describe(endpoint_url: str, stack_name: str) -> dict[str, Any] | None:
    try:
        answer = client("cloudformation", endpoint_url).describe_stacks(StackName=stack_name)
    except ClientError as error:
        if error.response["Error"]["Code"] == "ValidationError":
            return None
        raise
    stacks: list[dict[str, Any]] = answer["Stacks"]
    return next((stack for stack in stacks if stack["StackStatus"] != "DELETE_COMPLETE"), None)
