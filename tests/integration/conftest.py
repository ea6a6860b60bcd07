"""The functions with a real Postgres, and moto in the place of the other AWS services."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlencode

import pytest
from moto import mock_aws
from tests.support.functions import import_handler
from tests.support.functions import load_function as load_function_module
from tests.support.gateways import handler_of_http, handlers

from order_engine import bootstrap
from order_engine.adapters import aws

REPOSITORY = Path(__file__).parents[2]
API_FUNCTION = REPOSITORY / "functions" / "api"
STREAM_TABLE = "order-stream"
LEDGER_TABLE = "ledger"
IN_THE_YEAR_2100 = 4_102_444_800


def sample_event(name: str) -> dict[str, Any]:
    """Return a sample of what a function is invoked with."""
    event: dict[str, Any] = json.loads((REPOSITORY / f"events/{name}.json").read_text())
    return event


@dataclass
class Reply:
    """Show what a client of the HTTP API gets."""

    status: int
    headers: dict[str, str]
    text: str
    base64_encoded: bool = False

    @property
    def json(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.text)
        return value

    @property
    def faulty_fields(self) -> list[str]:
        return [error["field"] for error in self.json["errors"]]


@dataclass
class Api:
    """Invoke the functions of the HTTP API as the gateways do: each has its own routes."""

    modules: Mapping[str, ModuleType]

    def invoke(self, event: dict[str, Any]) -> dict[str, Any]:
        request = event["requestContext"]
        if "connectionId" in request:
            handler = handlers("WebSocketApi")[request["routeKey"]]
        else:
            handler = handler_of_http(request["http"]["method"], event["rawPath"])
        answer: dict[str, Any] = self.modules[handler].handler(event, None)
        json.dumps(answer)  # Lambda takes nothing else.
        return answer

    def request(
        self,
        method: str,
        path: str,
        *,
        body: str | None = None,
        base64_encoded: bool = False,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        claims: dict[str, str] | None = None,
    ) -> Reply:
        event = sample_event("api-execute-order" if body is not None else "api-health")
        event["rawPath"] = event["requestContext"]["http"]["path"] = path
        event["requestContext"]["http"]["method"] = method
        event["headers"].pop("idempotency-key", None)
        event["headers"] |= {name.lower(): value for name, value in (headers or {}).items()}
        event["isBase64Encoded"] = base64_encoded
        if body is not None:
            event["body"] = body
        if query:
            event["rawQueryString"] = urlencode(query)
            event["queryStringParameters"] = query
        if claims is not None:
            claims = {"exp": str(IN_THE_YEAR_2100), **claims}
            event["requestContext"]["authorizer"] = {"jwt": {"claims": claims, "scopes": None}}
        return self.answer(event)

    def answer(self, event: dict[str, Any]) -> Reply:
        answer = self.invoke(event)
        headers = {name.lower(): value for name, value in answer["headers"].items()}
        return Reply(answer["statusCode"], headers, answer["body"], answer["isBase64Encoded"])

    def post(self, fields: dict[str, Any], **options: Any) -> Reply:
        return self.request("POST", "/api/orders/execute", body=json.dumps(fields), **options)

    def get(self, path: str, query: dict[str, str] | None = None, **options: Any) -> Reply:
        return self.request("GET", path, query=query, **options)

    def send(self, message: object, connection_id: str) -> dict[str, Any] | None:
        """Send a WebSocket message and return the message that comes back at once, if any."""
        event = sample_event("api-websocket-execute")
        event["requestContext"]["connectionId"] = connection_id
        event["body"] = message if isinstance(message, str) else json.dumps(message)
        answer = self.invoke(event)
        assert answer["statusCode"] == 200
        return json.loads(answer["body"]) if answer.get("body") else None


class CurrentOutput:
    """Write to whatever stands for the standard output now: pytest replaces it for each test."""

    def write(self, text: str) -> None:
        sys.stdout.write(text)

    def flush(self) -> None:
        sys.stdout.flush()


@pytest.fixture(autouse=True)
def _nothing_is_kept() -> Iterator[None]:
    """Have no test find what another has composed."""
    bootstrap.reset()
    yield
    bootstrap.reset()


@pytest.fixture(scope="session")
def _api_modules() -> Iterator[Mapping[str, ModuleType]]:
    """Import the functions once, as Lambda does: from their folder, by their handlers' names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POWERTOOLS_SERVICE_NAME", "api")
        patch.setenv("POWERTOOLS_METRICS_NAMESPACE", "OrderEngine")
        patch.syspath_prepend(API_FUNCTION)
        names = {*handlers("HttpApi").values(), handlers("WebSocketApi")["execute"]}
        yield {name: import_handler("api", name.removesuffix(".handler")) for name in names}


@pytest.fixture
def own_database(nobody_at_rest: None, database_url: str) -> str:
    """A database where no other test's orders wait, hold slots or count as recent."""
    return database_url


@pytest.fixture
def order_services(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The AWS services that an order needs; yields the function's environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        aws.client.cache_clear()
        secret = aws.client("secretsmanager").create_secret(
            Name="database", SecretString=json.dumps({"url": database_url})
        )
        machine = aws.client("stepfunctions").create_state_machine(
            name="orders",
            definition='{"StartAt": "Done", "States": {"Done": {"Type": "Succeed"}}}',
            roleArn="arn:aws:iam::123456789012:role/orders",
        )
        _create_stream_table()
        _create_ledger_table()
        yield {
            "DATABASE_SECRET_ARN": secret["ARN"],
            "ORDER_STREAM_TABLE": STREAM_TABLE,
            "STATE_MACHINE_ARN": machine["stateMachineArn"],
            # The tests share a database, and few of their orders ever leave `pending`.
            "ORDER_SLOTS": "0",
            "WEBSOCKET_URL": "wss://stream.example.com/live",
            "CALLER_REQUIRED": "false",
            "MOCK_SEED": "42",
            "LEDGER_TABLE": LEDGER_TABLE,
        }
    aws.client.cache_clear()


@pytest.fixture
def start_api(
    _api_modules: Mapping[str, ModuleType],
    order_services: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Api]:
    """Start the functions with changes to their environment."""

    def start(**changes: str) -> Api:
        bootstrap.reset()
        logger = sys.modules["api_telemetry"].logger
        monkeypatch.setattr(logger.registered_handler, "stream", CurrentOutput())
        for name, value in {**order_services, **changes}.items():
            monkeypatch.setenv(name, value)
        return Api(_api_modules)

    return start


@pytest.fixture
def api(start_api: Callable[..., Api]) -> Api:
    """The functions of an open stack."""
    return start_api()


@dataclass
class Function:
    """Invoke a function as Lambda does."""

    app: ModuleType

    def invoke(self, event: dict[str, Any], context: object = None) -> dict[str, Any]:
        answer: dict[str, Any] = self.app.handler(event, context)
        json.dumps(answer)  # Lambda takes nothing else.
        return answer


@pytest.fixture
def load_function(
    order_services: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Function]:
    """Import a function afresh, as a cold start with changes to its environment does."""

    def start(name: str, **changes: str) -> Function:
        defaults = {
            "POWERTOOLS_SERVICE_NAME": name,
            "POWERTOOLS_METRICS_NAMESPACE": "OrderEngine",
        }
        for variable, value in {**order_services, **defaults, **changes}.items():
            monkeypatch.setenv(variable, value)
        module = load_function_module(name)
        monkeypatch.setattr(module.telemetry.logger.registered_handler, "stream", CurrentOutput())
        return Function(module)

    return start


def _create_ledger_table() -> None:
    aws.client("dynamodb").create_table(
        TableName=LEDGER_TABLE,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "signature", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "signature", "KeyType": "HASH"}],
    )


def _create_stream_table() -> None:
    aws.client("dynamodb").create_table(
        TableName=STREAM_TABLE,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[
            {"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk", "connectionId")
        ],
        KeySchema=[
            {"AttributeName": "pk", "KeyType": "HASH"},
            {"AttributeName": "sk", "KeyType": "RANGE"},
        ],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "byConnection",
                "KeySchema": [
                    {"AttributeName": "connectionId", "KeyType": "HASH"},
                    {"AttributeName": "pk", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ],
    )
