"""The functions' logs, out of the emulator's CloudWatch Logs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from local import aws
from local.stack import Stack

POLL_SECONDS = 1.0
# Lambda's own lines about each invocation.
_PLATFORM_LINES = ("START RequestId", "END RequestId", "REPORT RequestId", "INIT_START")


@dataclass(frozen=True)
class LogLine:
    """A line of a function's log. `fields` is set when the line is a JSON object."""

    moment: datetime
    source: str
    text: str
    fields: dict[str, Any] | None

    @property
    def is_metric(self) -> bool:
        """Tell whether the line is a metric for CloudWatch rather than for a reader."""
        return self.text.startswith('{"_aws":')


class FunctionLogs:
    """Read the log groups of a stack."""

    def __init__(self, stack: Stack) -> None:
        self._logs = aws.client("logs", stack.emulator_url)
        self._names = {
            physical: logical
            for logical, physical in aws.physical_ids(stack.emulator_url, stack.stack_name).items()
        }

    def since(
        self, start_epoch_ms: int, *, source: str = "", containing: str = ""
    ) -> list[LogLine]:
        """Return the lines from `start_epoch_ms` on, oldest first.

        `source` selects functions by a part of their name, `containing` lines by their text.
        """
        lines = [
            line
            for group in self._groups()
            if source.lower() in self._source(group).lower()
            for line in self._read(group, start_epoch_ms)
            if containing in line.text
        ]
        return sorted(lines, key=lambda line: line.moment)

    def follow(
        self, start_epoch_ms: int, *, source: str = "", containing: str = ""
    ) -> Iterator[LogLine]:
        """Yield lines as they come, forever."""
        seen: set[LogLineKey] = set()
        start = start_epoch_ms
        while True:
            lines = self.since(start, source=source, containing=containing)
            for line in lines:
                key = (line.moment, line.source, line.text)
                if key not in seen:
                    seen.add(key)
                    yield line
            if lines:
                # Lines arrive late and share milliseconds: read the last seconds again.
                start = max(start, int(lines[-1].moment.timestamp() * 1000) - 5_000)
                oldest = datetime.fromtimestamp(start / 1000, UTC)
                seen = {key for key in seen if key[0] >= oldest}
            time.sleep(POLL_SECONDS)

    def _groups(self) -> Iterator[str]:
        for page in self._logs.get_paginator("describe_log_groups").paginate():
            for group in page["logGroups"]:
                yield group["logGroupName"]

    def _source(self, group: str) -> str:
        logical = self._names.get(group) or self._names.get(group.removeprefix("/aws/lambda/"))
        return (logical or group.rsplit("/", 1)[-1]).removesuffix("Logs").removesuffix("Function")

    def _read(self, group: str, start_epoch_ms: int) -> Iterator[LogLine]:
        pages = self._logs.get_paginator("filter_log_events").paginate(
            logGroupName=group, startTime=start_epoch_ms
        )
        for page in pages:
            for event in page["events"]:
                text = event["message"].rstrip()
                if text and not text.startswith(_PLATFORM_LINES):
                    moment = datetime.fromtimestamp(event["timestamp"] / 1000, UTC)
                    yield LogLine(moment, self._source(group), text, _fields(text))


LogLineKey = tuple[datetime, str, str]


def _fields(text: str) -> dict[str, Any] | None:
    if not text.startswith("{"):
        return None
    try:
        parsed = json.loads(text)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) and "message" in parsed else None
