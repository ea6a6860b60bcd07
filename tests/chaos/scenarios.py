"""What is broken while orders run. Each scenario leaves everything whole again."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psutil
from botocore.exceptions import BotoCoreError, ClientError
from tests.chaos import proxy
from tests.chaos.proxy import Effect, Fault
from tests.chaos.replay import Call, calls_of
from tests.chaos.rig import Rig

EVERY_EFFECT = (Effect.REFUSE, Effect.CUT, Effect.LOSE_ANSWER)
FATES = (
    "quote_timeout",
    "quote_timeout@raydium",
    "venue_down*1",
    "venue_down@meteora",
    "lands_with_error",
    "lands_with_error*1",
    "send_timeout_landed",
    "send_timeout_dropped",
    "dropped_until_expiry",
    "dropped_until_expiry*1",
    "",
)
# Those that an order survives: what else happens to it takes its attempts and its time.
SURVIVABLE_FATES = (
    "",
    "quote_timeout@raydium",
    "venue_down@meteora",
    "lands_with_error*1",
    "send_timeout_landed",
    "send_timeout_dropped",
    "dropped_until_expiry*1",
)


@dataclass
class Disruption:
    """The time in which things break: until `over`, and what has been broken so far."""

    expected_seconds: float
    user_prefix: str
    chance: random.Random
    cut_sockets: Callable[[], None] = lambda: None
    over: threading.Event = field(default_factory=threading.Event)
    tally: Counter[str] = field(default_factory=Counter)
    began_at: float = field(default_factory=time.monotonic)

    def goes_on_after(self, least_seconds: float, most_seconds: float | None = None) -> bool:
        """Wait; tell whether it is not over yet."""
        seconds = self.chance.uniform(least_seconds, most_seconds or least_seconds)
        return not self.over.wait(seconds)

    def wait_for_share(self, share: float) -> None:
        """Wait until this share of the orders should have been placed."""
        left = self.began_at + share * self.expected_seconds - time.monotonic()
        self.over.wait(max(0.0, left))


@dataclass(frozen=True)
class Scenario:
    """A way of breaking things. `loses_stream`: the order stream itself is lost with its table."""

    name: str
    title: str
    disrupt: Callable[[Rig, Disruption], None]
    fates: Sequence[str] = ("",)
    parameters: Mapping[str, str] = field(default_factory=dict)
    loses_stream: bool = False
    most_orders: int | None = None


# Processes


def kill_workers(rig: Rig, disruption: Disruption) -> None:
    """Kill -9 a worker at random, whatever it is doing.

    Not too often: the emulator ends all workers of a function when one of them dies, those that
    are just starting too, and a start takes half a second of processor time and more.
    """
    while disruption.goes_on_after(3, 8):
        workers = rig.workers()
        for worker in disruption.chance.sample(workers, min(len(workers), 1)):
            function = rig.function_of(worker)
            with suppress(psutil.NoSuchProcess):
                worker.kill()
                disruption.tally[f"killed {function}"] += 1


def restart_postgres(rig: Rig, disruption: Disruption) -> None:
    """Restart Postgres twice: once orderly, once as after a crash."""
    for share, immediately in ((0.25, False), (0.6, True)):
        disruption.wait_for_share(share)
        rig.stop_postgres(immediately=immediately)
        disruption.over.wait(disruption.chance.uniform(2, 5))
        rig.start_postgres()
        disruption.tally["Postgres restarts"] += 1


def restart_emulator(rig: Rig, disruption: Disruption) -> None:
    """Stop the emulator, with every running execution and worker, and start it again."""
    disruption.wait_for_share(0.4)
    disruption.tally["running executions"] += sum(1 for _ in _running(rig))
    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(rig.stop_emulator)
        # The emulator accepts nobody any more, but would wait for open sockets before it saves.
        while not stopping.done():
            disruption.cut_sockets()
            time.sleep(0.25)
        stopping.result()
    disruption.over.wait(2)
    rig.start_emulator()
    disruption.tally["emulator restarts"] += 1


def kill_everything_at_submitted(rig: Rig, disruption: Disruption) -> None:
    """Kill -9 all that runs orders while they are submitted; start and deploy again.

    The emulator forgets its tables. The chain's is written back from what the proxy saw being
    written, since no chain forgets with its clients.
    """
    disruption.over.wait()
    deadline = time.monotonic() + 60
    while set(rig.open_orders(disruption.user_prefix).values()) - {"submitted"}:
        if time.monotonic() > deadline:
            break
        time.sleep(0.25)
    statuses = Counter(rig.open_orders(disruption.user_prefix).values())
    disruption.tally.update({f"at {status}": count for status, count in statuses.items()})
    disruption.tally["processes killed"] += rig.kill_everything()
    restoring = threading.Thread(target=restore_chain, args=(rig, disruption), daemon=True)
    restoring.start()
    rig.start_again()
    restoring.join()
    rig.install_proxy()


def restore_chain(rig: Rig, disruption: Disruption) -> None:
    """Write the chain's rows back as soon as its table exists."""
    items = list(rig.chain.values())
    deadline = time.monotonic() + 120
    client = rig.client("dynamodb")
    while time.monotonic() < deadline:
        try:
            for item in items:
                client.put_item(TableName=rig.ledger_table, Item=item)
        except (BotoCoreError, ClientError):
            time.sleep(0.05)
        else:
            disruption.tally["chain rows kept"] = len(items)
            return
    raise TimeoutError("the ledger's table did not come back")


# Calls


def strike_in_turns(
    make: Callable[[Rig], Fault], *, on_seconds: float, off_seconds: float
) -> Callable[[Rig, Disruption], None]:
    """Have a fault of the proxy strike and rest in turns; it strikes once at least."""

    def disrupt(rig: Rig, disruption: Disruption) -> None:
        fault = make(rig)
        goes_on = disruption.goes_on_after(1)
        while goes_on or not disruption.tally["outages"]:
            with rig.proxy.striking(fault):
                disruption.tally["outages"] += 1
                if goes_on:
                    goes_on = disruption.goes_on_after(on_seconds)
                else:
                    time.sleep(on_seconds)
            goes_on = goes_on and disruption.goes_on_after(off_seconds)
        disruption.tally["requests struck"] = fault.struck

    return disrupt


def refused_starts(rig: Rig) -> Fault:
    """Refuse StartExecution, or break its connection before or after it is carried out."""
    return Fault(proxy.starts_of(rig.state_machine_arn), EVERY_EFFECT)


def refused_event_writes(rig: Rig) -> Fault:
    """Refuse writes of events, after their commit in Postgres."""
    return Fault(proxy.event_writes_to(rig.order_stream_table), EVERY_EFFECT)


def refused_posts(_rig: Rig) -> Fault:
    """Refuse the posts to WebSocket connections."""
    return Fault(proxy.posts_to_connections, status=503, code="ServiceUnavailable")


# Executions


def stop_executions(rig: Rig, disruption: Disruption) -> None:
    """Stop executions at random moments of their lives, restarted ones less often."""
    due: dict[str, float] = {}
    while disruption.goes_on_after(0.1):
        now = time.monotonic()
        for execution in _running(rig):
            arn, is_restart = execution["executionArn"], len(execution["name"]) > len(ORDER_ID)
            if arn not in due:
                spared = is_restart and disruption.chance.random() < 0.7
                due[arn] = float("inf") if spared else now + disruption.chance.uniform(0, 2.2)
            elif due[arn] <= now:
                due[arn] = float("inf")
                _stop(rig, arn, disruption)


ORDER_ID = "00000000-0000-0000-0000-000000000000"


def _stop(rig: Rig, arn: str, disruption: Disruption) -> None:
    with suppress(BotoCoreError, ClientError):
        recent = rig.step_functions.get_execution_history(
            executionArn=arn, reverseOrder=True, maxResults=10
        )["events"]
        rig.step_functions.stop_execution(executionArn=arn, error="Chaos")
        entered = (event.get("stateEnteredEventDetails") for event in recent)
        state = next((details["name"] for details in entered if details), "the start")
        disruption.tally[f"stopped at {state}"] += 1


def _running(rig: Rig) -> Iterator[dict[str, Any]]:
    pages = rig.step_functions.get_paginator("list_executions")
    with suppress(BotoCoreError, ClientError):
        for page in pages.paginate(stateMachineArn=rig.state_machine_arn, statusFilter="RUNNING"):
            yield from page["executions"]


# Invocations


def repeat_invocations(rig: Rig, disruption: Disruption) -> None:
    """Invoke functions as executions did: at once again, and once more much later."""
    late: list[tuple[float, str, str]] = []
    seen: set[str] = set()
    with ThreadPoolExecutor(4) as pool:
        while disruption.goes_on_after(0.25):
            for execution in _running(rig):
                arn, name = execution["executionArn"], execution["name"]
                if arn in seen or disruption.chance.random() < 0.7:
                    continue
                seen.add(arn)
                late.append((time.monotonic() + disruption.chance.uniform(3, 20), arn, name))
                pool.submit(_repeat, rig, disruption, _calls(rig, arn, name)[-1:], "duplicated")
            now = time.monotonic()
            due = [entry for entry in late if entry[0] <= now]
            late = [entry for entry in late if entry[0] > now]
            for _, arn, name in due:
                pool.submit(_repeat_late, rig, disruption, arn, name)
        for _, arn, name in late:
            pool.submit(_repeat_late, rig, disruption, arn, name)


def _repeat_late(rig: Rig, disruption: Disruption, arn: str, name: str) -> None:
    calls = _calls(rig, arn, name)
    if calls:
        _repeat(rig, disruption, disruption.chance.choices(calls, k=2), "late")


def _calls(rig: Rig, arn: str, name: str) -> list[Call]:
    try:
        history = rig.step_functions.get_execution_history(executionArn=arn, maxResults=1000)
    except (BotoCoreError, ClientError):
        return []
    return calls_of(history["events"], name)


def _repeat(rig: Rig, disruption: Disruption, calls: Sequence[Call], when: str) -> None:
    for call in calls:
        rig.invoke(call.function, call.payload)
        disruption.tally[f"{when} {call.action}"] += 1


# All of it


def everything_at_once(rig: Rig, disruption: Disruption) -> None:
    """Do all of the above at the same time, and restart both servers one after the other."""
    parts: Sequence[Callable[[Rig, Disruption], None]] = (
        kill_workers,
        stop_executions,
        repeat_invocations,
        strike_in_turns(refused_starts, on_seconds=4, off_seconds=6),
        strike_in_turns(refused_event_writes, on_seconds=5, off_seconds=5),
        strike_in_turns(refused_posts, on_seconds=6, off_seconds=6),
    )
    with ThreadPoolExecutor(len(parts)) as pool:
        running = [pool.submit(part, rig, disruption) for part in parts]
        restart_postgres(rig, disruption)
        restart_emulator(rig, disruption)
        for part in running:
            part.result()


def nothing(_rig: Rig, _disruption: Disruption) -> None:
    """Break nothing: what the venues do is in the orders' fates."""


SCENARIOS: Mapping[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario("workers", "Workers killed with kill -9", kill_workers),
        Scenario("venues", "Every fault of the venues", nothing, fates=FATES),
        Scenario("stops", "Executions stopped at every state", stop_executions),
        Scenario(
            "starts",
            "StartExecution refused",
            strike_in_turns(refused_starts, on_seconds=15, off_seconds=10),
        ),
        Scenario(
            "stream",
            "DynamoDB write refused after the commit",
            strike_in_turns(refused_event_writes, on_seconds=15, off_seconds=10),
        ),
        Scenario("postgres", "Postgres restarted twice", restart_postgres),
        Scenario("emulator", "MiniStack stopped and started", restart_emulator),
        Scenario(
            "publish",
            "Publish failing for 20 s",
            strike_in_turns(refused_posts, on_seconds=20, off_seconds=15),
        ),
        Scenario("repeats", "Duplicated and late invocations", repeat_invocations),
        Scenario("storm", "All of these at once", everything_at_once, fates=SURVIVABLE_FATES),
        Scenario(
            "kill-9",
            "kill -9 of everything at `submitted`",
            kill_everything_at_submitted,
            fates=("", "", "send_timeout_dropped"),
            parameters={"MockLandingMs": "30000", "MockExpiryBlocks": "600"},
            loses_stream=True,
            most_orders=200,
        ),
    )
}
