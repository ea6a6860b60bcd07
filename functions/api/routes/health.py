"""The route of those who watch whether the engine works."""

from aws_lambda_powertools.event_handler import Response
from http_api import JSON, new_router
from route_documents import API_VERSION, replies

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
