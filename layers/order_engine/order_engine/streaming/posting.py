"""An invocation's posts: in parallel, and none for long."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from datetime import datetime

from order_engine.clock import Clock
from order_engine.streaming.delivery import Delivery, Halt, Lane
from order_engine.streaming.ports import ConnectionGateway, PostOutcome
from order_engine.streaming.report import Report
from order_engine.streaming.rows import StoredEvent

LANES_PER_CONNECTION = 4
"""Orders posted to one connection at once; within an order, posts follow one another."""

RETRY_DELAYS_SECONDS = (0.05, 0.1, 0.2, 0.35)
"""Waits between the tries of a post: together less than the second that others may be delayed."""

POST_THREADS = 64
MOST_POST_THREADS = 320
STUCK_AFTER_SECONDS = 0.25
"""So many posts go out at once; one that has not come back for so long lets another one begin
beside it, up to the most. Each thread keeps a connection, and Lambda allows 1,024 files."""

SLOW_AFTER_SECONDS = 1.0
SLOW_POST_SECONDS = 0.25
LONGEST_SECONDS = 5.0
"""A connection whose posts are slow is put off to the next invocation after ``SLOW_AFTER_SECONDS``,
and so is one that nothing was posted to yet, when others are slow or hang; any other after
``LONGEST_SECONDS``: its backlog must not hold up the shard."""

HOPELESS_FAILURES = 16
HOPELESS_PAUSE_SECONDS = 1.0
"""After so many failures without one success the rest of the invocation's posts are put off, and
the next invocation a little, too: it is the management API that does not serve."""


type _Work = Callable[[Delivery], None]


@dataclass(frozen=True, slots=True)
class Timing:
    """Measure and pass time: ``timer`` counts seconds, ``sleep`` waits for some."""

    timer: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Posting:
    """Carry out an invocation's posts: in parallel, and none for long."""

    def __init__(
        self,
        gateway: ConnectionGateway,
        clock: Clock,
        timing: Timing,
        threads: Executor,
        report: Report,
    ) -> None:
        self._gateway = gateway
        self._clock = clock
        self._timing = timing
        self._threads = threads
        self._report = report
        self._changed = threading.Condition()
        self._waiting: deque[tuple[_Work, Delivery]] = deque()
        self._running = 0
        self._in_flight: dict[int, float] = {}
        self._is_beginning = False
        self._limit = POST_THREADS
        self._has_hung = False
        self._bugs: list[BaseException] = []
        self._start = self._timing.timer()
        self._delivered = 0
        self._failed = 0

    def run(self, deliveries: Sequence[Delivery]) -> None:
        """Post everything; returns when each delivery is complete or halted."""
        for delivery in deliveries:
            delivery.queue.extend(lane for lane in delivery.lanes.values() if lane.pending)
            if delivery.greetings:
                self._submit(self._greet, delivery)
            else:
                self._submit_lanes(delivery)
        with self._changed:
            while self._running or self._waiting:
                self._changed.wait(STUCK_AFTER_SECONDS)
                self._make_room()
        if self._bugs:
            raise self._bugs[0]
        self._report.posts_failed += self._failed
        if self._is_hopeless():
            self._timing.sleep(HOPELESS_PAUSE_SECONDS)

    def _greet(self, delivery: Delivery) -> None:
        for key, subscription in delivery.greetings.items():
            if not self._post(delivery, subscription.greeting or ""):
                return
            delivery.greeted.add(key)
            self._count(greetings=1)
        self._submit_lanes(delivery)

    def _submit_lanes(self, delivery: Delivery) -> None:
        for _ in range(min(len(delivery.queue), LANES_PER_CONNECTION)):
            self._submit(self._run_lanes, delivery)

    def _run_lanes(self, delivery: Delivery) -> None:
        while delivery.queue:
            try:
                lane = delivery.queue.popleft()
            except IndexError:
                return
            for event in lane.pending:
                if not self._post(delivery, event.body):
                    return
                lane.sent = event.seq
                self._count(events=1, delay_ms=self._delay_ms(lane, event))

    def _post(self, delivery: Delivery, message: str) -> bool:
        """Post until it is delivered (true) or the connection is halted."""
        for delay in (*RETRY_DELAYS_SECONDS, None):
            if delivery.halt is None and (self._is_hopeless() or self._is_too_slow(delivery)):
                delivery.halt = Halt.NOT_REACHED
            if delivery.halt is not None:
                return False
            outcome, seconds = self._post_once(delivery.connection_id, message)
            delivery.seconds += seconds
            delivery.posts += 1
            if outcome is PostOutcome.DELIVERED:
                self._delivered += 1
                delivery.is_open = True
                return True
            self._has_hung |= outcome is PostOutcome.TIMED_OUT
            self._halt(delivery, outcome, last=delay is None)
            if delay is not None and delivery.halt is None:
                self._timing.sleep(delay)
        return False

    def _post_once(self, connection_id: str, message: str) -> tuple[PostOutcome, float]:
        started, thread = self._timing.timer(), threading.get_ident()
        self._in_flight[thread] = started
        try:
            outcome = self._gateway.post(connection_id, message)
        finally:
            del self._in_flight[thread]
        return outcome, self._timing.timer() - started

    def _halt(self, delivery: Delivery, outcome: PostOutcome, *, last: bool) -> None:
        if outcome is PostOutcome.GONE:
            if not delivery.may_be_connecting(self._clock.now()):
                delivery.halt = Halt.GONE
        else:
            self._failed += 1
        if outcome is PostOutcome.REFUSED:
            delivery.halt = Halt.REFUSED
        elif outcome is PostOutcome.TIMED_OUT:
            # It has cost a second already: no second try while others wait for this invocation.
            delivery.halt = Halt.TIMED_OUT
        elif last and delivery.halt is None:
            delivery.halt = Halt.NOT_REACHED

    def _is_hopeless(self) -> bool:
        return self._delivered == 0 and self._failed >= HOPELESS_FAILURES

    def _is_too_slow(self, delivery: Delivery) -> bool:
        elapsed = self._timing.timer() - self._start
        if elapsed < SLOW_AFTER_SECONDS:
            return False
        if elapsed > LONGEST_SECONDS:
            return True
        if not delivery.posts:
            return self._has_hung
        return delivery.seconds / delivery.posts > SLOW_POST_SECONDS

    def _delay_ms(self, lane: Lane, event: StoredEvent) -> float | None:
        if event.seq not in lane.fresh or event.timestamp is None:
            return None
        try:
            written = datetime.fromisoformat(event.timestamp)
            return (self._clock.now() - written).total_seconds() * 1000
        except (ValueError, TypeError):
            return None  # not worth holding up anything

    def _count(self, *, greetings: int = 0, events: int = 0, delay_ms: float | None = None) -> None:
        with self._changed:
            self._report.greetings += greetings
            self._report.events_published += events
            if delay_ms is not None:
                self._report.delays_ms.append(delay_ms)

    def _submit(self, work: "_Work", delivery: Delivery) -> None:
        with self._changed:
            self._waiting.append((work, delivery))
            self._begin()

    def _begin(self) -> None:
        """Begin what waits, as far as there is room; holds the lock."""
        if self._is_beginning:
            return  # An executor that works at once gets here again from within.
        self._is_beginning = True
        try:
            while self._waiting and self._running < self._limit:
                self._running += 1
                work, delivery = self._waiting.popleft()
                self._threads.submit(work, delivery).add_done_callback(self._finish)
        finally:
            self._is_beginning = False

    def _make_room(self) -> None:
        """Let others begin beside those that have not come back; holds the lock."""
        now = self._timing.timer()
        in_flight = self._in_flight.copy().values()
        stuck = sum(now - started >= STUCK_AFTER_SECONDS for started in in_flight)
        if stuck and self._waiting:
            self._has_hung |= stuck >= POST_THREADS
            self._limit = min(POST_THREADS + stuck, MOST_POST_THREADS)
            self._begin()

    def _finish(self, future: Future[None]) -> None:
        with self._changed:
            self._running -= 1
            error = future.exception()
            if error is not None:
                self._bugs.append(error)
            self._begin()
            if not self._running:
                self._changed.notify_all()
