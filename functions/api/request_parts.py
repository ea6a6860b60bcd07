"""What the routes read of a request besides their parameters."""

import base64
from typing import Annotated

from aws_lambda_powertools.event_handler.openapi.params import Query
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from callers import subject_of

from order_engine import bootstrap
from order_engine.api.fields import UserId

UserFilter = Annotated[
    UserId | None,
    Query(alias="userId", description="Whose orders; your own where callers are authenticated."),
]


def body_of(router: APIGatewayHttpRouter) -> str | bytes | None:
    """Return the body as it came, None when there is none."""
    event = router.current_event
    if event.body and event.is_base64_encoded:
        return base64.b64decode(event.body)
    return event.body


def caller_of(router: APIGatewayHttpRouter) -> str | None:
    """Return the authenticated user, None in an open stack; raise ``Rejected`` (401)."""
    settings = bootstrap.api_settings()
    if not settings.caller_required:
        return None
    return subject_of(
        router.current_event.request_context.authorizer.jwt_claim,
        issuer=settings.jwt_issuer,
        now=bootstrap.clock.now(),
    )
