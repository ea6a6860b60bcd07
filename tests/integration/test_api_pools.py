"""Four functions answer for one HTTP API: together they have every route, each once."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import pytest
from tests.integration.conftest import API_FUNCTION, Api, sample_event
from tests.support.gateways import handler_of_http

REPOSITORY = API_FUNCTION.parents[1]
UUID = "3f0e9a6c-4f5d-4a39-9d0e-7d6c1f2b8a10"
SAMPLES = {"<orderId>": UUID, "<clientOrderId>": "mine", "\\": ""}


def known_routes() -> Mapping[str, tuple[str, ...]]:
    """Return the table that every function has of all routes."""
    methods: Mapping[str, tuple[str, ...]] = sys.modules["public_routes"].METHODS
    return methods


def routes_of(module: ModuleType) -> set[tuple[str, str]]:
    api = module.http_api if hasattr(module, "http_api") else module.handler.__self__
    return {(route.method, route.path) for route in (*api._static_routes, *api._dynamic_routes)}


def sample_path(rule: str) -> str:
    for name, value in SAMPLES.items():
        rule = rule.replace(name, value)
    return rule


def test_the_functions_together_have_every_known_route_once(api: Api) -> None:
    routes = [route for module in api.modules.values() for route in routes_of(module)]

    assert len(api.modules) == 4
    assert sorted(routes) == sorted(
        (method, rule) for rule, methods in known_routes().items() for method in methods
    )


def test_the_gateway_asks_the_function_that_has_the_route(api: Api) -> None:
    for rule, methods in known_routes().items():
        for method in methods:
            handler = handler_of_http(method, sample_path(rule))
            assert (method, rule) in routes_of(api.modules[handler]), (method, rule)


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/nope", "ROUTE_NOT_FOUND"),
        ("GET", "/api/nope", "ROUTE_NOT_FOUND"),
        ("PUT", "/api/orders", "METHOD_NOT_ALLOWED"),
        ("GET", "/api/orders/execute", "METHOD_NOT_ALLOWED"),
        ("POST", f"/api/orders/{UUID}", "METHOD_NOT_ALLOWED"),
        ("DELETE", "/docs", "METHOD_NOT_ALLOWED"),
    ],
)
def test_every_function_says_the_same_of_a_wrong_request(
    api: Api, method: str, path: str, code: str
) -> None:
    event = sample_event("api-health")
    event["rawPath"] = event["requestContext"]["http"]["path"] = path
    event["requestContext"]["http"]["method"] = method

    answers = [module.handler(event, None) for module in api.modules.values()]

    assert {json.loads(answer["body"])["code"] for answer in answers} == {code}
    assert len({json.dumps(answer, sort_keys=True) for answer in answers}) == 1


def test_a_function_that_is_asked_for_a_route_of_another_does_not_have_it(api: Api) -> None:
    event = sample_event("api-health")

    for name, module in api.modules.items():
        answer = module.handler(event, None)
        assert answer["statusCode"] == (200 if name == "health.handler" else 404), name


# Cold starts

HEAVY = ("psycopg", "boto3", "botocore.client")
ANSWER = """
import json, sys
import {module}
event = json.loads(sys.stdin.read())
answers = []
for path in {paths}:
    event["rawPath"] = event["requestContext"]["http"]["path"] = path
    answers.append({module}.handler(event, None)["statusCode"])
print(json.dumps([answers, [name for name in {heavy} if name in sys.modules]]))
"""


def in_a_new_process(module: str, *paths: str) -> tuple[list[int], list[str]]:
    """Return a function's answers, and which heavy packages are imported after them."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{API_FUNCTION}{os.pathsep}{REPOSITORY / 'layers' / 'order_engine'}",
        "POWERTOOLS_SERVICE_NAME": module,
        "POWERTOOLS_METRICS_NAMESPACE": "OrderEngine",
        "POWERTOOLS_LOG_LEVEL": "CRITICAL",
        "AWS_DEFAULT_REGION": "us-east-1",
        "WEBSOCKET_URL": "wss://stream.example.com/live",
    }
    run = subprocess.run(
        [sys.executable, "-c", ANSWER.format(module=module, paths=paths, heavy=HEAVY)],
        input=json.dumps(sample_event("api-health")),
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    answers: Any = json.loads(run.stdout.splitlines()[-1])
    return answers[0], answers[1]


def test_pages_need_neither_the_database_nor_aws() -> None:
    paths = ("/", "/docs", "/docs/start.js", "/docs/swagger-ui-bundle.js", "/api/openapi.json")

    assert in_a_new_process("pages", *paths) == ([200] * len(paths), [])


@pytest.mark.parametrize("module", ["submit", "api", "pages", "health"])
def test_no_function_imports_what_only_some_requests_need(module: str) -> None:
    assert in_a_new_process(module, "/nope") == ([404], [])
