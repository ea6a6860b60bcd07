"""What the API tells about itself, and to browsers on other origins."""

from __future__ import annotations

import httpx
import pytest
from openapi_spec_validator import validate
from tests.e2e.engine import Engine, Json, market_order

ORIGIN = "https://front.example"


def test_health_names_version_and_database(engine: Engine) -> None:
    health = engine.http.get("api/health").json()
    assert health["status"] == "ok"
    assert health["version"]
    assert health["database"]["status"] == "ok"


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
