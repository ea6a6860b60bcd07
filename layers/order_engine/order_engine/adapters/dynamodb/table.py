"""One DynamoDB table: reads and writes whose failures the engine knows."""

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import batched
from typing import Any

from order_engine.adapters import aws
from order_engine.adapters.dynamodb.keys import Item, text
from order_engine.errors import StreamUnavailable

MAX_BATCH_ITEMS = 25
MAX_BATCH_KEYS = 100
MAX_BATCH_ATTEMPTS = 5
MAX_TRANSACTION_ATTEMPTS = 6

CONDITION_FAILED = "ConditionalCheckFailed"
_FAULTS_OF_THE_REQUEST = frozenset({"ValidationException", "SerializationException"})


class ConditionsRefusedError(Exception):
    """Report, per action, why a conditional write was not carried out."""

    def __init__(self, codes: Sequence[str]) -> None:
        super().__init__(", ".join(codes))
        self.codes = tuple(codes)


class ConflictError(StreamUnavailable):
    """Report that another transaction on the same rows was under way."""


class Table:
    """Call DynamoDB on one table.

    Every method raises ``StreamUnavailable`` when DynamoDB does not serve, whatever the reason:
    what is refused today (throttling, an outage, a permission) may be served when the call is
    repeated.
    """

    def __init__(self, table: str, client: Callable[[], Any] | None = None) -> None:
        self._table = table
        self._make_client = client or (lambda: aws.client("dynamodb"))
        self._made_client: Any = None
        self._lock = threading.Lock()

    def _client(self) -> Any:
        # A cold publish reads many orders at once, and each client made costs 0.2 s.
        with self._lock:
            if self._made_client is None:
                self._made_client = self._make_client()
            return self._made_client

    def _call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        from botocore.exceptions import (
            ClientError,
            ConnectionError,  # noqa: A004
            HTTPClientError,
        )
        from botocore.parsers import ResponseParserError

        try:
            answer: dict[str, Any] = getattr(self._client(), operation)(**parameters)
        except ClientError as error:
            if error.response["Error"]["Code"] in _FAULTS_OF_THE_REQUEST:
                raise
            codes = _refusals(error.response)
            if CONDITION_FAILED in codes:
                raise ConditionsRefusedError(codes) from error
            if "TransactionConflict" in codes:
                raise ConflictError(f"{operation}: {error}") from error
            raise StreamUnavailable(f"{operation}: {error}") from error
        except (ConnectionError, HTTPClientError, ResponseParserError) as error:
            raise StreamUnavailable(f"{operation}: {error}") from error
        return answer

    def _get(
        self, keys: Sequence[Item], attributes: str | None = None
    ) -> dict[tuple[str, str], Item]:
        found: dict[tuple[str, str], Item] = {}
        for chunk in batched(keys, MAX_BATCH_KEYS):
            found |= self._get_chunk(chunk, attributes)
        return found

    def _get_chunk(
        self, keys: Sequence[Item], attributes: str | None
    ) -> dict[tuple[str, str], Item]:
        found: dict[tuple[str, str], Item] = {}
        wanted: dict[str, Any] = {"Keys": list(keys), "ConsistentRead": True}
        if attributes is not None:
            wanted["ProjectionExpression"] = attributes
        request = {self._table: wanted}
        for _ in range(MAX_BATCH_ATTEMPTS):
            answer = self._call("batch_get_item", RequestItems=request)
            for item in answer["Responses"].get(self._table, []):
                found[item["pk"]["S"], item["sk"]["S"]] = item
            request = answer.get("UnprocessedKeys") or {}
            if not request:
                return found
        raise StreamUnavailable("batch_get_item: left keys unprocessed")

    def _partition(self, partition_key: str, prefix: str | None = None) -> Iterator[Item]:
        condition, values = "pk = :pk", {":pk": text(partition_key)}
        if prefix is not None:
            condition += " AND begins_with(sk, :prefix)"
            values[":prefix"] = text(prefix)
        return self._query(
            KeyConditionExpression=condition, ExpressionAttributeValues=values, ConsistentRead=True
        )

    def _query(self, **parameters: Any) -> Iterator[Item]:
        position: dict[str, Any] = {}
        while True:
            answer = self._call("query", TableName=self._table, **parameters, **position)
            yield from answer["Items"]
            if not answer.get("LastEvaluatedKey"):
                return
            position = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}

    def _write_batch(self, requests: Sequence[Mapping[str, Any]]) -> None:
        for chunk in batched(requests, MAX_BATCH_ITEMS):
            remaining: dict[str, Any] = {self._table: list(chunk)}
            for _ in range(MAX_BATCH_ATTEMPTS):
                answer = self._call("batch_write_item", RequestItems=remaining)
                remaining = answer.get("UnprocessedItems") or {}
                if not remaining:
                    break
            else:
                raise StreamUnavailable("batch_write_item: left items unprocessed")

    def _put(self, item: Item, **more: Any) -> dict[str, Any]:
        return {"Put": {"TableName": self._table, "Item": item, **more}}

    def _transact(self, actions: Sequence[Mapping[str, Any]]) -> None:
        for attempt in range(MAX_TRANSACTION_ATTEMPTS):
            try:
                self._call("transact_write_items", TransactItems=list(actions))
            except ConflictError:
                # Two subscriptions of one connection count it up at once: one has to try again.
                if attempt == MAX_TRANSACTION_ATTEMPTS - 1:
                    raise
                time.sleep(random.uniform(0.01, 0.05) * 2**attempt)  # noqa: S311
            else:
                return

    def _delete_if(self, key: Item, condition: str, values: Mapping[str, Any]) -> None:
        with suppress(ConditionsRefusedError):
            self._call(
                "delete_item",
                TableName=self._table,
                Key=key,
                ConditionExpression=condition,
                ExpressionAttributeValues=dict(values),
            )

    def _update(
        self, key: Item, expression: str, condition: str, values: Mapping[str, Any]
    ) -> None:
        with suppress(ConditionsRefusedError):
            self._call(
                "update_item",
                TableName=self._table,
                Key=key,
                UpdateExpression=expression,
                ConditionExpression=condition,
                ExpressionAttributeValues=dict(values),
            )


def _refusals(response: Mapping[str, Any]) -> list[str]:
    if response["Error"]["Code"] == "ConditionalCheckFailedException":
        return [CONDITION_FAILED]
    return [reason.get("Code", "None") for reason in response.get("CancellationReasons", [])]
