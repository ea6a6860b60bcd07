"""The pages for people: the console, and the API's documentation."""

from importlib import resources

from aws_lambda_powertools.event_handler import Response
from console_page import console_page
from request_parts import new_router

HTML = "text/html; charset=utf-8"
JAVASCRIPT = "text/javascript; charset=utf-8"
CSS = "text/css; charset=utf-8"

# Relative, because the laptop's gateway serves the API below a path of its own.
SWAGGER_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Order Execution Engine API</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""

SWAGGER_START = """const base = new URL(".", window.location.href);
const response = fetch(new URL("api/openapi.json", base));
response.then((answer) => answer.json()).then((spec) => {
  spec.servers = [{ url: base.href.replace(/\\/$/, "") }];
  SwaggerUIBundle({
    spec,
    dom_id: "#swagger-ui",
    deepLinking: true,
    displayRequestDuration: true,
    tryItOutEnabled: true,
    validatorUrl: null,
  });
});
"""


router = new_router()


@router.get("/", include_in_schema=False, compress=True)
def console() -> Response[str]:
    """Serve the console."""
    page, policy = console_page()
    return Response(200, HTML, page, _page_headers(policy))


@router.get("/docs", include_in_schema=False)
def documentation() -> Response[str]:
    """Serve the page of the API's documentation."""
    # Swagger UI sets style attributes and shows images from data: URLs.
    policy = "script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
    return Response(200, HTML, SWAGGER_PAGE, _page_headers(policy))


@router.get(r"/docs/start\.js", include_in_schema=False)
def start() -> Response[str]:
    """Serve what starts Swagger UI."""
    return Response(200, JAVASCRIPT, SWAGGER_START)


@router.get(r"/docs/swagger-ui-bundle\.js", include_in_schema=False, compress=True)
def script() -> Response[str]:
    """Serve Swagger UI's script."""
    return _asset("swagger-ui-bundle.min.js", JAVASCRIPT)


@router.get(r"/docs/swagger-ui\.css", include_in_schema=False, compress=True)
def style() -> Response[str]:
    """Serve Swagger UI's stylesheet."""
    return _asset("swagger-ui.min.css", CSS)


def _asset(name: str, content_type: str) -> Response[str]:
    folder = resources.files("aws_lambda_powertools.event_handler.openapi.swagger_ui")
    text = (folder / name).read_text(encoding="utf-8")
    return Response(200, content_type, text, {"Cache-Control": "public, max-age=86400"})


def _page_headers(policy: str) -> dict[str, str | list[str]]:
    return {
        "Content-Security-Policy": f"default-src 'self'; {policy}; base-uri 'self'; "
        "object-src 'none'; form-action 'self'; frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",
        # Browsers heed it over TLS only.
        "Strict-Transport-Security": "max-age=31536000",
        "X-Frame-Options": "DENY",
    }
