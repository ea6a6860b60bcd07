"""Times that lie ahead whenever the tests run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from order_engine.clock import timestamp_text


def in_an_hour() -> str:
    """Return the time in an hour, as clients write it."""
    return timestamp_text(datetime.now(UTC) + timedelta(hours=1))
