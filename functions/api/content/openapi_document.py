"""The OpenAPI document, generated from the routes' types and completed where those are silent."""

import json
from collections.abc import Iterator, Mapping
from copy import copy
from datetime import datetime, timedelta
from typing import Any

from aws_lambda_powertools.event_handler.openapi.types import COMPONENT_REF_TEMPLATE
from http_api import HttpApi
from public_routes import ORDER_PATHS
from route_documents import API_VERSION, problem_description
from routes import health, market, orders, submission

from order_engine.api.problems import PROBLEM_CONTENT_TYPE
from order_engine.api.requests import AmendRequest, OrderRequest
from order_engine.clock import timestamp_text

# In the order in which the document shows them.
ROUTERS = (submission.router, orders.router, market.router, health.router)
EXAMPLE_REST = timedelta(days=7)

DESCRIPTION = """\
Takes orders and executes each against two DEXs on Solana at the better price.

- Amounts and prices are strings in replies, so that no reader rounds them; requests may carry
  strings or numbers. Unknown fields are ignored, `null` counts as left out.
- Every error is an RFC 9457 problem with a `code` to branch on. What the gateway refuses by itself
  (throttling, a missing token) is a JSON object with a `message` instead.
- `wsUrl` of an accepted order replays and then streams the order's events, however late it is
  opened.
"""

WITHIN_THE_EXAMPLE = ""
"""Where an example's time goes: it is a few days ahead of whoever reads it."""

EXAMPLES: Mapping[str, Mapping[str, Any]] = {
    "number": {
        "summary": "Amount as a number",
        "value": {"tokenIn": "SOL", "tokenOut": "USDC", "amount": 1.5, "side": "buy"},
    },
    "text": {
        "summary": "Amounts as texts, which no client rounds",
        "value": {
            "userId": "00000000-0000-0000-0000-000000000006",
            "type": "market",
            "tokenIn": "SOL",
            "tokenOut": "USDC",
            "amountIn": "1",
            "slippageTolerance": "0.01",
        },
    },
    "short": {
        "summary": "Short names",
        "value": {"tokenIn": "SOL", "tokenOut": "USDC", "amount": 0.5, "slippage": 0.01},
    },
    "orderType": {
        "summary": "With orderType",
        "value": {
            "orderType": "market",
            "tokenIn": "SOL",
            "tokenOut": "USDC",
            "amountIn": "2",
            "slippage": "0.005",
        },
    },
    "user": {
        "summary": "For a user",
        "value": {
            "type": "market",
            "tokenIn": "USDC",
            "tokenOut": "ETH",
            "amountIn": 1000,
            "userId": "user123",
        },
    },
    "repeatable": {
        "summary": "With an id of your own, which makes it safe to send again",
        "value": {
            "clientOrderId": "my-42",
            "userId": "user123",
            "type": "market",
            "side": "sell",
            "tokenIn": "SOL",
            "tokenOut": "USDC",
            "amountIn": "1.5",
            "slippageBps": 50,
            "maxRetries": 3,
        },
    },
    "limit": {
        "summary": "A limit order: rests until a venue pays 155 USDC or more per SOL",
        "value": {
            "type": "limit",
            "tokenIn": "SOL",
            "tokenOut": "USDC",
            "amountIn": "1.5",
            "limitPrice": "155.00",
            "expiresAt": WITHIN_THE_EXAMPLE,
        },
    },
    "sniper": {
        "summary": "A sniper order: rests until a pool of MOON opens",
        "value": {
            "type": "sniper",
            "tokenIn": "SOL",
            "tokenOut": "MOON",
            "amountIn": "2",
            "expiresAt": WITHIN_THE_EXAMPLE,
            "trigger": {"type": "poolCreated", "venue": "any", "minLiquidity": "10"},
        },
    },
}

_FROM_THE_GATEWAY_TOO = (401, 413, 429, 500, 503)
_GATEWAY_MESSAGE = {
    "application/json": {
        "schema": {"type": "object", "properties": {"message": {"type": "string"}}}
    }
}


def document_of(*, authenticated: bool, now: datetime) -> str:
    """Return the document of all functions' routes as JSON.

    Its examples expire some days after ``now``.
    """
    # Copies: a router answers for the resolver that has included it last.
    app = HttpApi(*(copy(router) for router in ROUTERS))
    document: dict[str, Any] = json.loads(
        app.get_openapi_json_schema(
            title="Order Execution Engine", version=API_VERSION, description=DESCRIPTION
        )
    )
    # The document is served at <base>/api/openapi.json, wherever the base is.
    document["servers"] = [{"url": ".."}]
    schemas = document["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError", "ResponseValidationError"):
        schemas.pop(unused, None)
    _add_bodies(document, schemas, now)
    for operation in _operations(document):
        _complete_replies(operation["responses"], authenticated=authenticated)
    _allow_absent_details(schemas["OrderEvent"])
    _drop_titles(schemas)
    if authenticated:
        _require_token(document)
    return json.dumps(document, separators=(",", ":"))


def _operations(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for path in document["paths"].values():
        yield from path.values()


def _add_bodies(document: Mapping[str, Any], schemas: dict[str, Any], now: datetime) -> None:
    # The body is read by the engine itself, exactly and under all the names of its fields.
    schema = OrderRequest.model_json_schema(ref_template=COMPONENT_REF_TEMPLATE)
    schemas.update(schema.pop("$defs", {}))
    given = {"type": ["string", "number"]}
    schema["anyOf"] = [
        {"required": [name], "properties": {name: given}} for name in ("amountIn", "amount")
    ]
    schemas["OrderRequest"] = schema
    amend = AmendRequest.model_json_schema(ref_template=COMPONENT_REF_TEMPLATE)
    schemas["AmendRequest"] = amend | {"minProperties": 1}
    expires_at = timestamp_text(now + EXAMPLE_REST)
    examples = {
        name: {**example, "value": _dated(example["value"], expires_at)}
        for name, example in EXAMPLES.items()
    }
    for name, path in document["paths"].items():
        if "post" in path and name in ORDER_PATHS:
            path["post"]["requestBody"] = _body_of("OrderRequest", examples)
        if "patch" in path:
            path["patch"]["requestBody"] = _body_of(
                "AmendRequest",
                {"price": {"summary": "Another limit", "value": {"limitPrice": "156.50"}}},
            )


def _body_of(model: str, examples: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": COMPONENT_REF_TEMPLATE.format(model=model)},
                "examples": examples,
            }
        },
    }


def _dated(value: Mapping[str, Any], expires_at: str) -> dict[str, Any]:
    return {**value, "expiresAt": expires_at} if "expiresAt" in value else dict(value)


def _complete_replies(responses: dict[str, Any], *, authenticated: bool) -> None:
    if PROBLEM_CONTENT_TYPE not in responses["422"]["content"]:
        del responses["422"]
    if not authenticated:
        responses.pop("401", None)
    responses["500"] = {
        **responses["503"],
        "description": problem_description(500),
    }
    for status in _FROM_THE_GATEWAY_TOO:
        if str(status) in responses:
            content = responses[str(status)]["content"]
            responses[str(status)]["content"] = {**content, **_GATEWAY_MESSAGE}
    responses["503"]["headers"] = {
        "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "string"}}
    }


def _allow_absent_details(event: dict[str, Any]) -> None:
    # Events leave out what would be null.
    event["required"] = [
        name for name in event["required"] if "anyOf" not in event["properties"][name]
    ]


def _drop_titles(schemas: Mapping[str, Any]) -> None:
    # pydantic makes a title of every field's name, which says it a second time.
    for schema in schemas.values():
        for field in schema.get("properties", {}).values():
            field.pop("title", None)


def _require_token(document: dict[str, Any]) -> None:
    document["components"]["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    }
    for path, operations in document["paths"].items():
        for operation in operations.values():
            operation["security"] = [] if path == "/api/health" else [{"token": []}]
