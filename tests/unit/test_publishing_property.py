"""Whatever happens on the way, each client first hears of the events in order, and of all."""

from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.support.order_stream_fakes import FakeClock, FakeGateway, FakeStream, Inline, Record

from order_engine.streaming.ports import PostOutcome
from order_engine.streaming.posting import Timing
from order_engine.streaming.publisher import Publisher
from order_engine.streaming.rows import Topic

ORDERS = ("o1", "o2", "o3")
CLIENTS = ("ann1", "ann2", "ann3")
EVENTS = 5
FAILURES = (PostOutcome.TIMED_OUT, PostOutcome.UNAVAILABLE)
OPERATIONS = (
    "look",
    "order_listeners",
    "order_rows",
    "user_rows",
    "recent_orders",
    "mark_greeted",
    "mark_failing",
    "mark_reachable",
    "remove_subscription",
    "save_cursors",
    "remove_wakes",
    "wake_again",
    "forget_connection",
    "forget_listened",
)

order_ids = st.sampled_from(ORDERS)
clients = st.sampled_from(CLIENTS)


class Client:
    """Listen to one order or all of them, and connect again when the connection is closed."""

    def __init__(self, name: str, order_id: str | None, after_seq: int) -> None:
        self.name = name
        self.order_id = order_id
        self.after_seq = after_seq
        self.connections: list[str] = []
        self.answers_gone = 0

    @property
    def topic(self) -> Topic:
        return Topic(self.order_id, "ann" if self.order_id is None else None)

    @property
    def wanted(self) -> dict[str, int]:
        """Return the orders listened to, with the ``seq`` after which each starts."""
        if self.order_id is not None:
            return {self.order_id: self.after_seq}
        return dict.fromkeys(ORDERS, 0)

    def heard(self, gateway: FakeGateway, order_id: str) -> list[int]:
        """Return what the client did not drop as a repetition."""
        seqs = [seq for key in self.connections for seq in gateway.seqs(key, order_id)]
        return list(dict.fromkeys(seqs))


class Delivery(RuleBasedStateMachine):
    """Write, subscribe and publish in any order, with failures, on environments that come and go.

    The table's stream keeps the order of records within a partition only, and a batch that failed
    comes again; two environments serve the partitions.
    """

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.stream = FakeStream(self.clock)
        self.gateway = FakeGateway()
        self.shards: dict[str, list[Record]] = {}
        self.clients: dict[str, Client] = {}
        self.failing_posts: list[PostOutcome] = []
        self.publishers: list[Publisher] = []
        self.under_way: list[Callable[[], None]] = []
        self.opened = 0

    @initialize()
    def start(self) -> None:
        self.publishers = [self.environment(), self.environment()]

    def environment(self) -> Publisher:
        return Publisher(
            self.stream,
            self.gateway,
            self.clock,
            timing=Timing(self.clock.timer, self.clock.sleep),
            executor=Inline,
        )

    @rule(order_id=order_ids)
    def announce(self, order_id: str) -> None:
        if not self.stream.partitions[f"order#{order_id}"].events:
            self.stream.write(order_id, 1)

    @rule(order_id=order_ids, seq=st.integers(2, EVENTS))
    def write_some_event(self, order_id: str, seq: int) -> None:
        """Write an event, which may be early: the one before it is still in the outbox."""
        if self.stream.partitions[f"order#{order_id}"].events:
            self.stream.write(order_id, seq)

    @rule(order_id=order_ids)
    def write_next_event(self, order_id: str) -> None:
        events = self.stream.partitions[f"order#{order_id}"].events
        missing = [seq for seq in range(1, EVENTS + 1) if seq not in events]
        if events and missing:
            self.stream.write(order_id, missing[0])

    @rule(
        name=clients,
        order_id=st.none() | order_ids,
        after_seq=st.integers(0, 3),
        answers_gone=st.integers(0, 8),
        is_slow=st.booleans(),
    )
    def subscribe(
        self, name: str, order_id: str | None, after_seq: int, answers_gone: int, is_slow: bool
    ) -> None:
        """Subscribe at once, or mark the topic as listened to first and subscribe later."""
        if name not in self.clients:
            client = self.clients[name] = Client(name, order_id, after_seq)
            if is_slow:
                self.stream.mark_listened(client.topic, self.clock.now())
                self.under_way.append(lambda: self.connect(client, answers_gone, is_marked=True))
            else:
                self.connect(client, answers_gone)

    @rule()
    def end_what_is_under_way(self) -> None:
        """End it within the seconds that Lambda leaves it."""
        under_way, self.under_way = self.under_way, []
        for end in under_way:
            end()

    def connect(self, client: Client, answers_gone: int = 0, *, is_marked: bool = False) -> None:
        """Open a connection, which answers 410 a few times until its handshake is over."""
        self.opened += 1
        connection_id = f"{client.name}-{self.opened}"
        client.answers_gone = answers_gone

        def post() -> PostOutcome:
            if client.answers_gone:
                client.answers_gone -= 1
                return PostOutcome.GONE
            return self.failing_posts.pop(0) if self.failing_posts else PostOutcome.DELIVERED

        self.gateway.scripts[connection_id] = post
        after_seq = client.after_seq
        if client.order_id is not None:
            after_seq += len(client.heard(self.gateway, client.order_id))
        client.connections.append(connection_id)
        self.stream.listen(
            connection_id,
            order_id=client.order_id,
            user_id=client.topic.user_id,
            after_seq=0 if client.order_id is None else after_seq,
            connecting=True,
            is_marked=is_marked,
        )

    @rule()
    def reconnect_the_closed(self) -> None:
        for client in self.clients.values():
            if client.connections and client.connections[-1] in self.gateway.disconnected:
                self.connect(client)

    @rule(name=clients)
    def leave_and_come_back(self, name: str) -> None:
        client = self.clients.get(name)
        if self.leave(client) and client is not None:
            self.connect(client)

    @rule(name=clients)
    def leave_for_good(self, name: str) -> None:
        if self.leave(self.clients.get(name)):
            del self.clients[name]

    def leave(self, client: Client | None) -> bool:
        if client is None or not client.connections:
            return False
        if "forget_connection" in self.stream.unavailable:
            return False
        self.stream.forget_connection(client.connections[-1])
        return True

    @rule(data=st.data(), environment=st.integers(0, 1))
    def publish(self, data: st.DataObject, environment: int) -> None:
        """Serve a batch from the heads of some partitions' records."""
        self.sort_records()
        heads = {
            key: data.draw(st.integers(0, len(records)), label=key)
            for key, records in self.shards.items()
        }
        self.serve(environment, heads)

    @rule(environment=st.integers(0, 1))
    def publish_everything(self, environment: int) -> None:
        self.sort_records()
        self.serve(environment, {key: len(records) for key, records in self.shards.items()})

    def serve(self, environment: int, heads: dict[str, int]) -> None:
        batch = [record for key, count in heads.items() for record in self.shards[key][:count]]
        if not self.publishers[environment].publish(batch).failed:
            for key, count in heads.items():
                del self.shards[key][:count]
        self.stream.unavailable = set()

    @rule(environment=st.integers(0, 1))
    def start_cold(self, environment: int) -> None:
        self.publishers[environment] = self.environment()

    @rule(failures=st.lists(st.sampled_from(FAILURES), max_size=20))
    def let_posts_fail(self, failures: list[PostOutcome]) -> None:
        self.failing_posts = failures

    @rule(operations=st.sets(st.sampled_from(OPERATIONS), min_size=1, max_size=3))
    def let_dynamodb_fail_once(self, operations: set[str]) -> None:
        self.stream.unavailable = set(operations)

    @rule(seconds=st.integers(1, 11))
    def let_time_pass(self, seconds: int) -> None:
        # Handshakes are over by then: API Gateway does not wait for 30 s.
        self.end_what_is_under_way()
        for client in self.clients.values():
            client.answers_gone = 0
        self.clock.advance(seconds)

    @rule()
    def let_minutes_pass(self) -> None:
        self.let_time_pass(100)

    def sort_records(self) -> None:
        for record in self.stream.take_records():
            key: str = record["dynamodb"]["Keys"]["pk"]["S"]
            self.shards.setdefault(key, []).append(record)

    @invariant()
    def each_event_is_first_heard_of_in_its_turn(self) -> None:
        for client in self.clients.values():
            for order_id, after_seq in client.wanted.items():
                heard = client.heard(self.gateway, order_id)
                assert heard == list(range(after_seq + 1, after_seq + 1 + len(heard)))

    @invariant()
    def each_connection_hears_its_greeting_first(self) -> None:
        for connection_id, messages in self.gateway.inbox.items():
            assert not messages or messages[0].get("type") == "subscribed", connection_id

    def teardown(self) -> None:
        """End all failures, empty the outbox, and find everything delivered."""
        self.failing_posts, self.stream.unavailable = [], set()
        self.end_what_is_under_way()
        last = {}
        for order_id in ORDERS:
            last[order_id] = max(self.stream.partitions[f"order#{order_id}"].events, default=0)
            self.stream.write(order_id, *range(1, last[order_id]))
        for _ in range(200):
            self.reconnect_the_closed()
            self.sort_records()
            batch = [record for records in self.shards.values() for record in records]
            if not batch:
                break
            self.shards.clear()
            assert self.publishers[0].publish(batch).failed == set()
        else:
            raise AssertionError("publish keeps waking itself")
        for client in self.clients.values():
            for order_id, after_seq in client.wanted.items():
                heard = client.heard(self.gateway, order_id)
                missed = set(range(after_seq + 1, last[order_id] + 1)) - set(heard)
                assert not missed, (client.name, order_id)


TestDelivery = Delivery.TestCase
TestDelivery.settings = settings(max_examples=600, stateful_step_count=40, deadline=None)
