"""The routes of those who operate the engine or build upon it."""

from functools import cache

from aws_lambda_powertools.event_handler import Response
from http_api import app
from openapi_document import API_VERSION, document_of, replies
from request_parts import JSON, new_router

from order_engine import bootstrap
from order_engine.api.replies import DatabaseHealth, Health

router = new_router()


@router.get(
    "/api/health",
    summary="Ask whether orders can be taken",
    tags=["Operations"],
    responses=replies(200, "The engine and its database answer."),
)
def get_health() -> Response[Health]:
    """Return the state of the engine; a problem (503) when its database is away."""
    bootstrap.orders().ping()
    access = "authenticated" if bootstrap.api_settings().caller_required else "open"
    return Response(
        200, JSON, Health(version=API_VERSION, access=access, database=DatabaseHealth())
    )


@router.get(r"/api/openapi\.json", include_in_schema=False)
def get_openapi_document() -> Response[str]:
    """Return the description of this API."""
    return Response(200, JSON, _openapi_document(bootstrap.api_settings().caller_required))


@cache
def _openapi_document(authenticated: bool) -> str:
    return document_of(app, authenticated=authenticated, now=bootstrap.clock.now())
