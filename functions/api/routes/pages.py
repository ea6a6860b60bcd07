"""The pages for people, the console and the API's documentation, and the OpenAPI document."""

from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime, time
from functools import cache

from aws_lambda_powertools.event_handler import Response
from content.assets import ASK_AGAIN, FOLDER, Asset, accepts_gzip, packed_response
from http_api import JSON, new_router

from order_engine import bootstrap

HTML = "text/html; charset=utf-8"
JAVASCRIPT = "text/javascript; charset=utf-8"
CSS = "text/css; charset=utf-8"

router = new_router()


@router.get("/", include_in_schema=False)
def console() -> Response[str]:
    """Serve the console."""
    from content.console_page import console_page

    page = console_page()
    headers = _page_headers(page.policy)
    if not accepts_gzip(_request_headers().get("accept-encoding") or ""):
        return Response(200, HTML, page.text, headers)
    return packed_response(HTML, b64encode(page.packed).decode(), headers)


@router.get("/docs", include_in_schema=False)
def documentation() -> Response[str]:
    """Serve the page of the API's documentation."""
    # Swagger UI sets style attributes and shows images from data: URLs.
    policy = "script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
    # Its links are relative, because the laptop's gateway serves the API below a path of its own.
    page = (FOLDER / "index.html").read_text(encoding="utf-8")
    return Response(200, HTML, page, _page_headers(policy))


@router.get(r"/docs/start\.js", include_in_schema=False)
def start() -> Response[str]:
    """Serve what starts Swagger UI."""
    return _file(JAVASCRIPT, "start.js").answer(_request_headers())


@router.get(r"/docs/swagger-ui-bundle\.js", include_in_schema=False)
def script() -> Response[str]:
    """Serve Swagger UI's script."""
    return _file(JAVASCRIPT, "swagger-ui-bundle.js").answer(_request_headers())


@router.get(r"/docs/swagger-ui\.css", include_in_schema=False)
def style() -> Response[str]:
    """Serve Swagger UI's stylesheet."""
    return _file(CSS, "swagger-ui.css").answer(_request_headers())


@router.get(r"/api/openapi\.json", include_in_schema=False)
def get_openapi_document() -> Response[str]:
    """Return the description of this API."""
    # Of the day, not of the moment: whichever process answers, it answers the same.
    today = datetime.combine(bootstrap.clock.now().date(), time(), UTC)
    document = _openapi_document(bootstrap.api_settings().caller_required, today)
    return document.answer(_request_headers())


_file = cache(Asset.of_file)


@cache
def _openapi_document(authenticated: bool, today: datetime) -> Asset:
    # The models of all routes: nothing else here needs them.
    from content.openapi_document import document_of

    return Asset.of_text(JSON, document_of(authenticated=authenticated, now=today), ASK_AGAIN)


def _request_headers() -> Mapping[str, str]:
    return router.current_event.headers


def _page_headers(policy: str) -> dict[str, str | list[str]]:
    return {
        "Content-Security-Policy": f"default-src 'self'; {policy}; base-uri 'self'; "
        "object-src 'none'; form-action 'self'; frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",
        # Browsers heed it over TLS only.
        "Strict-Transport-Security": "max-age=31536000",
        "X-Frame-Options": "DENY",
    }
