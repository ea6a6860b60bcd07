"""The functions run on the dependencies layer alone, as they do on AWS."""

from __future__ import annotations

import pytest
from tests.e2e.engine import HAPPY_LIFE, Engine, statuses
from tests.e2e.stacks import own_stack

# Each cold worker unpacks the whole layer.
SECONDS = 180.0


@pytest.mark.bundle
@pytest.mark.timeout(600)
def test_order_on_the_bundled_dependencies_is_confirmed() -> None:
    with own_stack("bundle", bundle_dependencies=True) as stack:
        # given
        engine = Engine(stack)
        # when
        order = engine.place()
        with engine.listening(order["wsUrl"]) as listener:
            events = listener.events_until_final(order["orderId"], SECONDS)
        engine.close()
    # then
    assert statuses(events) == HAPPY_LIFE
