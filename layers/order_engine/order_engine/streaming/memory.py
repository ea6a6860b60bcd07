"""What an execution environment remembers of its deliveries."""

from collections import OrderedDict
from collections.abc import Mapping

from order_engine.streaming.rows import Subscription

REMEMBERED_CURSORS = 100_000


class Memory:
    """Remember, for the life of the execution environment, what was posted to whom."""

    def __init__(self, capacity: int = REMEMBERED_CURSORS) -> None:
        self._capacity = capacity
        self._cursors: OrderedDict[tuple[str, str], int] = OrderedDict()

    def cursor(self, subscription_id: str, order_id: str) -> int:
        """Return the highest ``seq`` posted to a subscription, 0 when none is remembered."""
        return self._cursors.get((subscription_id, order_id), 0)

    def reached(self, subscription: Subscription, order_id: str, stored: Mapping[str, int]) -> int:
        """Return the highest ``seq`` known to be posted, or that a subscription starts after.

        ``stored`` has the cursors that were written down.
        """
        key = subscription.subscription_id
        return max(
            subscription.after_seq,
            subscription.replayed.get(order_id, 0),
            stored.get(key, 0),
            self.cursor(key, order_id),
        )

    def advance(self, subscription_id: str, order_id: str, seq: int) -> None:
        """Note that the events up to ``seq`` have been posted."""
        key = (subscription_id, order_id)
        self._cursors[key] = max(seq, self._cursors.get(key, 0))
        self._cursors.move_to_end(key)
        while len(self._cursors) > self._capacity:
            self._cursors.popitem(last=False)

    def was_greeted(self, subscription_id: str) -> bool:
        """Tell whether the subscription's greeting has been posted."""
        return (subscription_id, "") in self._cursors

    def note_greeting(self, subscription_id: str) -> None:
        """Note that the subscription's greeting has been posted."""
        self.advance(subscription_id, "", 0)
