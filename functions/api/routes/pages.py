"""The pages for people: the console, and the API's documentation."""

import json
import re
from base64 import b64encode
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from importlib import resources
from pathlib import Path

from aws_lambda_powertools.event_handler import Response
from request_parts import new_router

from order_engine.api.console_tables import console_tables

HTML = "text/html; charset=utf-8"
JAVASCRIPT = "text/javascript; charset=utf-8"
CSS = "text/css; charset=utf-8"

CONSOLE = Path(__file__).parents[1] / "console"

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

_STYLESHEET = re.compile(r'<link rel="stylesheet" href="([\w.-]+)">')
_SCRIPT = re.compile(r'<script src="([\w.-]+)"></script>')


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


@cache
def console_page() -> tuple[str, str]:
    """Return the console as one page, and the content policy that lets its own code run.

    A request per file would be an invocation per file, most of them cold at first.
    """
    hashes: dict[str, list[str]] = {"style": [], "script": []}

    def inlined(kind: str) -> Callable[[re.Match[str]], str]:
        def inline(match: re.Match[str]) -> str:
            code = (CONSOLE / match[1]).read_text(encoding="utf-8")
            if f"</{kind}" in code:
                raise ValueError(f"{match[1]} would end the element it is put into")
            hashes[kind].append(_hash_of(code))
            return f"<{kind}>{code}</{kind}>"

        return inline

    page = (CONSOLE / "index.html").read_text(encoding="utf-8")
    for place, markup in _engine_lists().items():
        page = page.replace(f"<!-- {place} -->", markup)
    page = _STYLESHEET.sub(inlined("style"), page)
    page = _SCRIPT.sub(inlined("script"), page)
    return page, (
        f"script-src {' '.join(hashes['script'])}; style-src {' '.join(hashes['style'])}; "
        "img-src 'self' data:; connect-src 'self' ws: wss:"
    )


def _engine_lists() -> dict[str, str]:
    """Return what stands for the page's comments: the engine's lists, as markup."""
    tables = console_tables()
    colors = json.loads((CONSOLE / "status-colors.json").read_text(encoding="utf-8"))
    for status, shown in tables["statuses"].items():
        shown |= colors[status]
    return {
        "tables": json.dumps(tables).replace("<", "\\u003c"),
        "venues": _options(tables["venues"]),
        "order types": _options(tables["orderTypes"]),
        "order types to choose from": "".join(
            f'<label><input type="radio" name="type" value="{name}"'
            f"{' checked' if not number else ''}><span>{_title(name)}</span></label>"
            for number, name in enumerate(tables["orderTypes"])
        ),
    }


def _options(names: list[str]) -> str:
    return "".join(f'<option value="{name}">{_title(name)}</option>' for name in names)


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _hash_of(code: str) -> str:
    return f"'sha256-{b64encode(sha256(code.encode()).digest()).decode()}'"


def _page_headers(policy: str) -> dict[str, str | list[str]]:
    return {
        "Content-Security-Policy": f"default-src 'self'; {policy}; base-uri 'self'; "
        "object-src 'none'; form-action 'self'; frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",
        # Browsers heed it over TLS only.
        "Strict-Transport-Security": "max-age=31536000",
        "X-Frame-Options": "DENY",
    }
