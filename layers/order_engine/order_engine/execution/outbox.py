"""Hand what is committed to the order stream; what does not get there stays in the outbox."""

import logging
from collections.abc import Sequence

from order_engine.domain.events import OrderEvent
from order_engine.errors import StreamUnavailable
from order_engine.execution.ports import EventStream, OrderRepository

logger = logging.getLogger(__name__)


def stream_outbox(
    orders: OrderRepository, stream: EventStream, events: Sequence[OrderEvent]
) -> bool:
    """Hand committed events to the stream and note it; tell whether they are there.

    A stream that is away never holds an order up: what stays in the outbox goes out with the
    order's next transition or by the reconciler.
    """
    if not events:
        return True
    try:
        stream.append(events)
    except StreamUnavailable:
        logger.warning("events left to the outbox", extra={"order_id": events[0].order_id})
        return False
    for event in events:
        orders.note_streamed(event.order_id, event.seq)
    return True
