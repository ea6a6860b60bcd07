import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from moto import mock_aws
from tests.support.functions import load_function

from order_engine.adapters import aws
from order_engine.errors import VenueTimeout, VenueUnavailable
from order_engine.venues.mock.dynamodb import DynamoLedger
from order_engine.venues.mock.ledger import Fate, LedgerRow

REPOSITORY = Path(__file__).parents[2]
TABLE = "ledger"

Handler = Callable[[dict[str, Any], object], dict[str, Any]]


def sample(action: str) -> dict[str, Any]:
    event: dict[str, Any] = json.loads((REPOSITORY / f"events/venue-{action}.json").read_text())
    return event


@pytest.fixture
def dynamodb(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        aws.client.cache_clear()
        table_client = aws.client("dynamodb")
        table_client.create_table(
            TableName=TABLE,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "signature", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "signature", "KeyType": "HASH"}],
        )
        yield table_client
    aws.client.cache_clear()


@pytest.fixture
def load_handler(dynamodb: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Handler]:
    """Import the function afresh, as a cold start with the given environment does."""

    def load(venue: str = "raydium", **overrides: str) -> Handler:
        environment = {
            "POWERTOOLS_SERVICE_NAME": venue,
            "VENUE": venue,
            "LEDGER_TABLE": TABLE,
            "MOCK_QUOTE_LATENCY_MS": "0",
            "MOCK_BUILD_LATENCY_MS": "0",
            "MOCK_SEND_LATENCY_MS": "0",
            "MOCK_CHECK_LATENCY_MS": "0",
            "MOCK_LANDING_MS": "0",
            "MOCK_FAULTS": "{}",
            "MOCK_SCRIPTED_FATES": "true",
        } | overrides
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        handler: Handler = load_function("venue").handler
        return handler

    return load


def ledger_items(dynamodb: Any) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = dynamodb.scan(TableName=TABLE)["Items"]
    return items


@pytest.mark.parametrize("venue", ["raydium", "meteora"])
def test_quote_event_is_answered_by_the_venue_of_the_environment(
    load_handler: Callable[..., Handler], venue: str
) -> None:
    answer = load_handler(venue)(sample("quote"), None)

    assert answer["outcome"] == "quoted"
    assert answer["quote"]["dex"] == venue


def test_build_send_and_check_events_carry_a_swap_to_its_landing(
    load_handler: Callable[..., Handler], dynamodb: Any
) -> None:
    handler = load_handler()
    built = handler(sample("build"), None)
    request = sample("send") | {"transaction": built["transaction"]}

    sent = handler(request, None)
    checked = handler(request | {"action": "check"}, None)

    assert sent == {"outcome": "sent", "checkAfterSeconds": 1}
    assert checked["outcome"] == "landed"
    (item,) = ledger_items(dynamodb)
    assert item["signature"]["S"] == built["transaction"]["signature"]
    assert item["orderId"]["S"] == request["orderId"]
    assert item["attempt"]["N"] == "1"
    assert item["fate"]["S"] == "landed"
    assert item["amountOut"]["S"] == checked["amountOut"]
    assert item["landingSlot"]["N"] == str(checked["slot"])
    assert "error" not in item


def test_sample_transaction_lands_once_however_often_it_is_sent(
    load_handler: Callable[..., Handler], dynamodb: Any
) -> None:
    handler = load_handler()

    assert handler(sample("check"), None)["outcome"] == "unseen"
    for _ in range(3):
        assert handler(sample("send"), None)["outcome"] == "sent"
    assert handler(sample("check"), None)["outcome"] == "landed"
    assert len(ledger_items(dynamodb)) == 1


def test_send_that_timed_out_is_known_to_another_environment(
    load_handler: Callable[..., Handler],
) -> None:
    order = {"clientOrderId": "send_timeout_landed-1"}
    first = load_handler()
    request = sample("send") | order
    request["transaction"] = first(sample("build") | order, None)["transaction"]

    with pytest.raises(VenueTimeout):
        first(request, None)

    assert load_handler()(request | {"action": "check"}, None)["outcome"] == "landed"


def test_fault_settings_reach_the_venue(load_handler: Callable[..., Handler]) -> None:
    handler = load_handler(MOCK_FAULTS='{"venue_down": 1.0}')

    with pytest.raises(VenueUnavailable):
        handler(sample("quote"), None)


def test_invocation_logs_one_line_with_order_action_venue_and_outcome(
    load_handler: Callable[..., Handler], capsys: pytest.CaptureFixture[str]
) -> None:
    # A logger of its own name, because powertools keeps a known logger's stream.
    handler = load_handler(POWERTOOLS_SERVICE_NAME="venue-log-test")

    handler(sample("quote"), None)
    (answered,) = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    with pytest.raises(VenueUnavailable):
        handler(sample("quote") | {"clientOrderId": "venue_down-1"}, None)
    (failed,) = (json.loads(line) for line in capsys.readouterr().out.splitlines())

    expected = {"order_id": sample("quote")["orderId"], "action": "quote", "venue": "raydium"}
    assert answered | expected | {"outcome": "quoted", "level": "INFO"} == answered
    assert failed | expected | {"outcome": "VenueUnavailable", "level": "WARNING"} == failed


@pytest.mark.usefixtures("dynamodb")
def test_ledger_returns_the_row_that_stood_first() -> None:
    ledger = DynamoLedger(TABLE)
    first = LedgerRow("s", "o", 1, "raydium", "1", 150, Fate.LANDED, 1, 3, "2.5")
    second = LedgerRow("s", "o", 1, "raydium", "1", 150, Fate.EXPIRED)

    assert ledger.get("s") is None
    assert ledger.put_if_absent(first) is None
    assert ledger.put_if_absent(second) == first
    assert ledger.get("s") == first


class BrokenDynamo:
    """Fail every call with one error."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def put_item(self, **_: object) -> None:
        raise self._error

    def get_item(self, **_: object) -> None:
        raise self._error


def test_ledger_that_is_throttled_or_silent_raises_what_the_caller_retries() -> None:
    throttled = ClientError({"Error": {"Code": "ThrottlingException"}}, "PutItem")
    silent = ReadTimeoutError(endpoint_url="https://dynamodb")
    row = LedgerRow("s", "o", 1, "raydium", "1", 150, Fate.EXPIRED)

    with pytest.raises(VenueUnavailable):
        DynamoLedger(TABLE, lambda: BrokenDynamo(throttled)).put_if_absent(row)
    with pytest.raises(VenueTimeout):
        DynamoLedger(TABLE, lambda: BrokenDynamo(silent)).put_if_absent(row)
    with pytest.raises(VenueUnavailable):
        DynamoLedger(TABLE, lambda: BrokenDynamo(throttled)).get("s")
    with pytest.raises(VenueUnavailable):
        DynamoLedger(TABLE, lambda: BrokenDynamo(silent)).get("s")
