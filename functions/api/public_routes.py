"""Every route of the HTTP API, whichever function answers it."""

from collections.abc import Mapping
from types import MappingProxyType

ORDER_PATHS = ("/api/orders/execute", "/api/orders", "/orders/execute")

# A path stands before those with parameters that it would match, too. tests/integration compares
# the table with the routes of all functions.
METHODS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "/": ("GET",),
        "/docs": ("GET",),
        r"/docs/start\.js": ("GET",),
        r"/docs/swagger-ui-bundle\.js": ("GET",),
        r"/docs/swagger-ui\.css": ("GET",),
        r"/api/openapi\.json": ("GET",),
        "/api/health": ("GET",),
        "/orders/execute": ("POST",),
        "/api/orders/execute": ("POST",),
        "/api/orders": ("GET", "POST"),
        "/api/stream-tickets": ("POST",),
        "/api/quotes": ("GET",),
        "/api/orders/by-client-id/<clientOrderId>": ("GET",),
        "/api/orders/<orderId>": ("DELETE", "GET", "PATCH"),
    }
)
