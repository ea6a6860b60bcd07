"""What one invocation of the publisher did."""

from dataclasses import dataclass, field
from typing import Any

from order_engine.errors import StreamUnavailable
from order_engine.measures import Measure

MAX_MEASURED_DELAYS = 100
"""CloudWatch takes so many values of a metric in one line of the log."""


@dataclass(slots=True)
class Report:
    """Count what an invocation did.

    ``failed`` names the partitions that could not be served because DynamoDB did not: their
    records must come again. ``delays_ms`` run from an event's timestamp to its post.
    """

    events_published: int = 0
    greetings: int = 0
    posts_failed: int = 0
    connections_removed: int = 0
    connections_put_off: int = 0
    records_unreadable: int = 0
    delays_ms: list[float] = field(default_factory=list)
    order_ids: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)

    def to_log(self) -> dict[str, Any]:
        """Return what the log tells of the invocation."""
        return {
            "order_ids": sorted(self.order_ids),
            "events": self.events_published,
            "greetings": self.greetings,
            "posts_failed": self.posts_failed,
            "removed": self.connections_removed,
            "put_off": self.connections_put_off,
            "unreadable": self.records_unreadable,
            "slowest_ms": round(max(self.delays_ms, default=0)),
        }

    def measures(self) -> list[Measure]:
        """Return the counts that are not 0 as metrics, and at most 100 of the delays."""
        counts = {
            "EventsPublished": self.events_published,
            "PostsFailed": self.posts_failed,
            "StaleConnectionsRemoved": self.connections_removed,
            "ConnectionsPutOff": self.connections_put_off,
            "UnreadableRecords": self.records_unreadable,
        }
        return [
            *(Measure(name, count) for name, count in counts.items() if count),
            *(
                Measure("DeliveryDelay", delay_ms, "Milliseconds")
                for delay_ms in self.delays_ms[:MAX_MEASURED_DELAYS]
            ),
        ]

    def raise_if_failed(self) -> None:
        """Raise ``StreamUnavailable`` when some partitions could not be served."""
        if self.failed:
            raise StreamUnavailable(f"{len(self.failed)} partitions not served")
