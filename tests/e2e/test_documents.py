"""What the API tells about itself, and to browsers on other origins."""

from __future__ import annotations

import json
import re
import subprocess
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from openapi_spec_validator import validate
from tests.e2e.engine import Engine, Json, market_order

ORIGIN = "https://front.example"
HTTP_API_PAGE = Path(__file__).parents[2] / "docs" / "http-api.md"


def test_health_names_version_and_database(engine: Engine) -> None:
    health = engine.http.get("api/health").json()
    assert health["status"] == "ok"
    assert health["version"]
    assert health["database"]["status"] == "ok"


def test_health_and_deploy_tell_that_the_stack_is_open(engine: Engine) -> None:
    assert engine.http.get("api/health").json()["access"] == "open"
    assert engine.stack.outputs["Access"].startswith("OPEN")


@pytest.fixture(scope="module")
def document(engine: Engine) -> Json:
    response = engine.http.get("api/openapi.json")
    assert response.status_code == 200, response.text
    document: Json = response.json()
    return document


def test_openapi_document_is_valid(document: Json) -> None:
    validate(document)


def test_openapi_document_has_every_route(document: Json) -> None:
    assert {
        "/api/orders",
        "/api/orders/execute",
        "/orders/execute",
        "/api/orders/{orderId}",
        "/api/orders/by-client-id/{clientOrderId}",
        "/api/quotes",
        "/api/health",
    } <= {path.replace("<", "{").replace(">", "}") for path in document["paths"]}


def test_documentation_is_a_page(engine: Engine) -> None:
    response = engine.http.get("docs")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/html")
    assert "swagger" in response.text.lower()


@pytest.mark.parametrize("path", ["docs/swagger-ui-bundle.js", "docs/start.js", "api/openapi.json"])
def test_what_has_not_changed_is_not_sent_again(engine: Engine, path: str) -> None:
    first = engine.http.get(path)
    again = engine.http.get(path, headers={"If-None-Match": first.headers["ETag"]})

    assert (first.status_code, first.headers["Content-Encoding"]) == (200, "gzip")
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["Content-Type"] == first.headers["Content-Type"]


def test_examples_of_the_api_page_work_as_pasted(engine: Engine) -> None:
    # given
    base, *examples = re.findall(r"```sh\n(.*?)```", HTTP_API_PAGE.read_text(), re.DOTALL)
    here = re.sub(r"http://\S+", engine.stack.http_url.rstrip("/"), base)
    # when
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\necho\n".join([here, *examples])],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    # then
    assert run.returncode == 0, run.stderr
    limit, sniper, amended, canceled, ticket = map(json.loads, run.stdout.split("\n")[1:])
    assert [order["status"] for order in (limit, sniper, amended)] == ["open"] * 3
    assert (amended["orderId"], amended["limitPrice"]) == (limit["orderId"], "90000")
    assert (canceled["orderId"], canceled["status"]) == (limit["orderId"], "canceled")
    assert ticket["ticket"] in ticket["wsUrl"]


@pytest.mark.parametrize("page", ["", "docs"])
def test_page_is_locked_down(engine: Engine, page: str) -> None:
    headers = engine.http.get(page).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "'unsafe-eval'" not in policy
    assert "'unsafe-inline'" not in policy.split("script-src")[1].split(";")[0]
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "Strict-Transport-Security" in headers
    assert headers["Cache-Control"] == "no-store"


def test_console_has_no_code_that_its_policy_does_not_know(engine: Engine) -> None:
    response = engine.http.get("")
    policy, page = response.headers["Content-Security-Policy"], response.text
    [nonce] = re.findall(r"script-src 'nonce-([\w-]+)';", policy)
    scripts = re.findall(r"<script ([^>]*)>", page)
    assert scripts
    for script in scripts:
        assert script.endswith(f'nonce="{nonce}"') or script.startswith('type="application/json"')
    [styles] = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = b64encode(sha256(styles.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}';" in policy
    # Attributes with code or styles have no nonce, and files from elsewhere no place.
    markup = re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)
    assert not re.search(r"""<[^>]*\s(on\w+|style|srcdoc)\s*=""", markup)
    assert not re.search(r"""<[^>]*\s(src|href)\s*=\s*["']?(https?:)?//""", markup)
    assert not re.search(r"""\b(eval|new Function)\(|\.innerHTML\b""", page)


SECRETS = r"Traceback|psycopg|postgres|botocore|arn:aws|/var/task|\.py\b|[Pp]assword"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "api/orders", "no json"),
        ("POST", "api/orders", '{"userId": "\\u0000"}'),
        ("POST", "api/orders", '{"tokenIn": {"$ref": "x"}}'),
        ("GET", "api/orders?cursor=MTIzNA", ""),
        ("GET", "api/orders?status=%27%3B--", ""),
        ("GET", "api/orders/%00", ""),
        ("GET", "api/orders/by-client-id/%ff", ""),
        ("PATCH", "api/orders/00000000-0000-4000-8000-000000000000", '{"limitPrice": []}'),
        ("DELETE", "api/orders/1", ""),
        ("PUT", "api/orders", ""),
        ("GET", "api/.env", ""),
        ("GET", "docs/app.py", ""),
        ("GET", "docs/../app.py", ""),
    ],
)
def test_refusal_tells_nothing_about_the_inside(
    engine: Engine, method: str, path: str, body: str
) -> None:
    response = engine.http.request(method, path, content=body)
    assert 400 <= response.status_code < 500, response.text
    assert not re.search(SECRETS, response.text)
    assert str(urlsplit(engine.stack.database_url).password) not in response.text


def preflight(engine: Engine, path: str) -> httpx.Response:
    return engine.http.options(
        path,
        headers={
            "Origin": ORIGIN,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type,idempotency-key",
        },
    )


@pytest.mark.parametrize("path", ["api/orders/execute", "api/orders", "orders/execute"])
def test_preflight_of_a_foreign_page_is_allowed(engine: Engine, path: str) -> None:
    response = preflight(engine, path)
    assert response.is_success, response.text
    assert response.headers["Access-Control-Allow-Origin"] in ("*", ORIGIN)
    assert "POST" in response.headers["Access-Control-Allow-Methods"]
    allowed = response.headers["Access-Control-Allow-Headers"].lower()
    assert "content-type" in allowed
    assert "idempotency-key" in allowed


def test_answer_to_a_foreign_page_may_be_read_by_it(engine: Engine) -> None:
    response = engine.http.post(
        "api/orders/execute", json=market_order(), headers={"Origin": ORIGIN}
    )
    assert response.status_code == 202
    assert response.headers.get_list("Access-Control-Allow-Origin") in (["*"], [ORIGIN])


def test_refusal_to_a_foreign_page_may_be_read_by_it(engine: Engine) -> None:
    response = engine.http.post("api/orders/execute", json={}, headers={"Origin": ORIGIN})
    assert response.status_code == 422
    assert response.headers.get_list("Access-Control-Allow-Origin") in (["*"], [ORIGIN])
