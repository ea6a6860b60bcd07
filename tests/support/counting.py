"""Count what is asked of DynamoDB."""

from collections import Counter
from typing import Any


class Counting:
    """Stand for a client and count its calls, and the rows that each reads or evaluates.

    ``rows`` is what DynamoDB returned. ``evaluated`` adds, for each query, all rows of the
    partition: an emulator looks at each of them, whatever the range of the query.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self.clear()

    def clear(self) -> None:
        """Begin again."""
        self.calls: Counter[str] = Counter()
        self.rows = 0
        self.evaluated = 0

    @property
    def reads(self) -> int:
        """Return how many calls have read."""
        return self.calls["query"] + self.calls["batch_get_item"]

    @property
    def writes(self) -> int:
        """Return how many calls have written."""
        return self.calls.total() - self.reads

    def __getattr__(self, operation: str) -> Any:
        def call(**parameters: Any) -> Any:
            self.calls[operation] += 1
            answer = getattr(self._client, operation)(**parameters)
            found = len(answer.get("Items", ()))
            found += sum(len(items) for items in answer.get("Responses", {}).values())
            self.rows += found
            self.evaluated += self._partition(parameters) if operation == "query" else found
            return answer

        return call

    def _partition(self, parameters: dict[str, Any]) -> int:
        values = parameters["ExpressionAttributeValues"]
        if ":pk" not in values:
            return 0
        paginator = self._client.get_paginator("query")
        pages = paginator.paginate(
            TableName=parameters["TableName"],
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": values[":pk"]},
            Select="COUNT",
        )
        return sum(page["Count"] for page in pages)
