"""Where to look, as a batch of stream records says it."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from order_engine.streaming.report import Report
from order_engine.streaming.rows import OrderRows, StoredEvent, Subscription, UserRows

logger = logging.getLogger(__name__)

ORDER, USER = "order#", "user#"


@dataclass(slots=True)
class WakeUp:
    """Say why to look at a partition, and on whose behalf.

    ``everyone``: an event was written. ``newcomers``: these connections subscribed here.
    ``retries``: these could not be served before. ``fresh``: the events in this batch.
    ``images``: those of them that their records show, with ``user_id``, whose order it is.
    """

    everyone: bool = False
    newcomers: set[str] = field(default_factory=set)
    retries: set[str] = field(default_factory=set)
    fresh: set[int] = field(default_factory=set)
    images: dict[int, StoredEvent] = field(default_factory=dict)
    user_id: str | None = None

    @property
    def connections(self) -> set[str]:
        """Return the connections concerned besides what concerns everyone."""
        return self.newcomers | self.retries

    @property
    def concerns_users(self) -> bool:
        """Tell whether subscribers to all orders of a user are concerned, too."""
        return self.everyone or bool(self.retries)

    @property
    def shows_all(self) -> bool:
        """Tell whether the records show all that those need who have got what came before."""
        return self.everyone and not self.connections and self.images.keys() == self.fresh


def read_wake_ups(records: Iterable[Mapping[str, Any]], report: Report) -> dict[str, WakeUp]:
    """Collect what a batch of stream records says about where to look.

    A record without readable keys is logged, counted and passed over: it names no subscriber, a
    repetition could not mend it, and the rows it stems from are read with the next record of the
    same order. Failing for it would only hold up the orders behind it in the shard.
    """
    wake_ups: dict[str, WakeUp] = {}
    for record in records:
        try:
            event_name = record["eventName"]
            key, sort_key = (str(record["dynamodb"]["Keys"][name]["S"]) for name in ("pk", "sk"))
            seq = int(sort_key.removeprefix("event#")) if sort_key.startswith("event#") else None
        except (KeyError, TypeError, ValueError) as error:
            report.records_unreadable += 1
            logger.error("unreadable stream record", extra={"reason": repr(error)})  # noqa: TRY400
            continue
        # Changes of rows (a subscriber greeted) and deletions need nobody's attention.
        if event_name != "INSERT" or not key.startswith((ORDER, USER)):
            continue
        if seq is not None:
            wake_up = wake_ups.setdefault(key, WakeUp())
            wake_up.everyone = True
            wake_up.fresh.add(seq)
            _add_image(wake_up, record["dynamodb"].get("NewImage"), key, sort_key)
        elif sort_key.startswith("conn#"):
            wake_up = wake_ups.setdefault(key, WakeUp())
            connection_id, _, again = sort_key.removeprefix("conn#").partition("#")
            (wake_up.retries if again else wake_up.newcomers).add(connection_id)
    return wake_ups


def _add_image(wake_up: WakeUp, image: Any, key: str, sort_key: str) -> None:
    """Keep the event that a record shows; one that it does not show will be read."""
    try:
        if (image["pk"]["S"], image["sk"]["S"]) != (key, sort_key):
            return
        body, user_id = image["event"]["S"], image["userId"]["S"]
        timestamp = image["timestamp"]["S"]
    except (KeyError, TypeError):
        return
    if body and user_id:
        seq = int(sort_key.removeprefix("event#"))
        wake_up.images[seq] = StoredEvent(seq, body, timestamp)
        wake_up.user_id = user_id


def concerned(
    wake_up: WakeUp, rows: OrderRows, users: Mapping[str, UserRows]
) -> Iterator[Subscription]:
    """Return the subscriptions that a partition's wake-up concerns."""
    connections = wake_up.connections
    for subscription in rows.subscriptions:
        if wake_up.everyone or subscription.connection_id in connections:
            yield subscription
    user = users.get(rows.user_id) if rows.user_id is not None else None
    for subscription in user.subscriptions if user is not None else ():
        if wake_up.everyone or subscription.connection_id in wake_up.retries:
            yield subscription
