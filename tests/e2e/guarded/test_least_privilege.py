"""No role may do more than its function needs: each grant is taken away, and something breaks."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
from tests.e2e.engine import HAPPY_LIFE, Json, market_order, statuses, wait_until
from tests.e2e.guarded.gateway import refusing_gateway
from tests.e2e.guarded.lab import UNREACHABLE_PRICE, Answer, Grant, Lab
from tests.support.times import in_an_hour

from local.deploy import load_template
from local.paths import DEFAULT_TEMPLATE

type Probe = Callable[[Lab], bool]


def grants_of_template() -> list[Grant]:
    """Return every action of every statement of every role."""
    return [
        Grant(role, statement["Sid"], action)
        for role, resource in load_template(DEFAULT_TEMPLATE)["Resources"].items()
        if resource["Type"] == "AWS::IAM::Role"
        for policy in resource["Properties"].get("Policies", [])
        for statement in policy["PolicyDocument"]["Statement"]
        for action in as_list(statement["Action"])
    ]


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


# What cannot break here, by the statement's name. That it does not is tested, too: once the
# emulator looks at one of these, its grants need probes.
UNCHECKED = {
    "WriteLogs": "the emulator writes the functions' logs itself",
    "SendTraces": "the emulator has no X-Ray",
    "DeliverLogs": "the emulator keeps no logs of state machines",
    "ReadStream": "the emulator reads streams for the functions without asking their roles",
    "ReportFailedRecords": "the emulator fills on-failure queues itself",
    "ReportFailedEvents": "the emulator fills on-failure queues itself",
    "InvokeFunctions": "the emulator's Step Functions and Scheduler do not ask their roles",
    "StartWatch": "the emulator's Scheduler does not ask its role",
}


# The functions of the HTTP API


def reads_secret_for_submissions(lab: Lab) -> bool:
    lab.restart("SubmitFunction")
    return bool(lab.http.post("api/orders", json=market_order(userId=None)).status_code == 202)


def reads_secret_for_requests(lab: Lab) -> bool:
    lab.restart("ApiFunction")
    return bool(lab.http.get("api/orders").status_code == 200)


def reads_secret_for_health(lab: Lab) -> bool:
    lab.restart("HealthFunction")
    return bool(lab.http.get("api/health").status_code == 200)


def issues_tickets(lab: Lab) -> bool:
    return bool(lab.http.post("api/stream-tickets").status_code == 201)


def looks_up_whether_a_pool_is_open(lab: Lab) -> bool:
    lab.open_pool("MOON")
    lab.restart("SubmitFunction")
    order = {
        "type": "sniper",
        "tokenIn": "SOL",
        "tokenOut": "MOON",
        "amountIn": "1",
        "trigger": {"type": "poolCreated"},
        "expiresAt": in_an_hour(),
    }
    return bool(lab.http.post("api/orders", json=order).json().get("code") == "POOL_ALREADY_OPEN")


def waiting_order(lab: Lab) -> str:
    """Return an order that waits for its turn."""
    order_id = lab.place_resting()
    lab.set_columns(order_id, "status = 'triggered', previous_status = 'open', seq = seq + 1")
    return order_id


def hands_a_canceled_orders_slot_on(lab: Lab) -> bool:
    order_id = lab.place_doomed("venue_down")
    lab.await_status(order_id, "routing")
    waiting = waiting_order(lab)
    lab.cancel(order_id)
    has_started = lab.execution_status(waiting) != ""
    lab.cancel(waiting)
    return has_started


def hands_an_expired_orders_slot_on(lab: Lab) -> bool:
    # Asked directly: a tick that began before the schedules were stopped would start it, too.
    order_id = stuck_order(lab)
    waiting = waiting_order(lab)
    terms = {
        "orderId": order_id,
        "tokenIn": "SOL",
        "tokenOut": "USDC",
        "amountIn": "1.5",
        "slippageBps": 50,
        "expiresAt": "2020-01-01T00:00:00Z",
    }
    decide = {"action": "decide", "execution": order_id, "attempt": 1, "answers": []}
    assert not lab.invoke("LifecycleFunction", {**decide, "order": terms}).failed
    has_started = lab.execution_status(waiting) != ""
    lab.cancel(waiting)
    return has_started


def announces_orders(lab: Lab) -> bool:
    return lab.has_event(lab.place_resting(), seq=1)


def executes_over_websocket(lab: Lab) -> bool:
    connection_id = connected(lab)
    order = {
        "action": "execute",
        "type": "limit",
        "tokenIn": "SOL",
        "tokenOut": "USDC",
        "amountIn": "1",
        "limitPrice": UNREACHABLE_PRICE,
        "expiresAt": in_an_hour(),
    }
    answer = lab.invoke("SubmitFunction", message(connection_id, "execute", order))
    return bool(answer.payload == {"statusCode": 200})


def quotes_launched_tokens(lab: Lab) -> bool:
    query = {"tokenIn": "SOL", "tokenOut": "WIF", "amountIn": "1"}
    missing = lab.http.get("api/quotes", params=query).json()["missing"]
    return all(quote["code"] == "NO_ROUTE" for quote in missing)


def starts_executions(lab: Lab) -> bool:
    return lab.execution_status(lab.place()["orderId"]) != ""


def stops_executions(lab: Lab) -> bool:
    order_id = lab.place_doomed("venue_down")
    lab.await_status(order_id, "routing")
    assert lab.cancel(order_id).status_code == 200
    was_stopped = lab.execution_status(order_id) == "ABORTED"
    lab.stop_executions(order_id)
    return was_stopped


# The lifecycle function


def reads_secret_for_transitions(lab: Lab) -> bool:
    lab.restart("LifecycleFunction")
    claim = {"action": "route", "orderId": str(uuid.uuid4()), "execution": "probe"}
    return not lab.invoke("LifecycleFunction", claim).failed


def streams_transitions(lab: Lab) -> bool:
    order_id = lab.place()["orderId"]
    lab.await_status(order_id, "confirmed")
    return all(lab.has_event(order_id, seq) for seq in (2, 3, 4, 5))


# The venues


def send(lab: Lab) -> tuple[Json, Answer]:
    swap: Json = {
        "orderId": str(uuid.uuid4()),
        "clientOrderId": None,
        "attempt": 1,
        "tokenIn": "SOL",
        "tokenOut": "USDC",
        "amountIn": "1",
        "minAmountOut": "1",
    }
    built = lab.invoke("RaydiumFunction", {**swap, "action": "build"})
    request = {**swap, "transaction": built.payload["transaction"]}
    return request, lab.invoke("RaydiumFunction", {**request, "action": "send"})


def sends_transactions(lab: Lab) -> bool:
    _, answer = send(lab)
    return not answer.failed


def looks_transactions_up(lab: Lab) -> bool:
    request, _ = send(lab)
    return not lab.invoke("RaydiumFunction", {**request, "action": "check"}).failed


# The websocket function


def message(connection_id: str, route: str, body: Json) -> Json:
    return {
        "requestContext": {
            "routeKey": route,
            "eventType": "MESSAGE",
            "connectionId": connection_id,
            "requestId": "probe",
        },
        "body": json.dumps(body),
    }


def lifecycle_of_connection(connection_id: str, event_type: str, **query: str) -> Json:
    return {
        "requestContext": {
            "routeKey": f"${event_type.lower()}",
            "eventType": event_type,
            "connectionId": connection_id,
            "requestId": "probe",
        },
        "queryStringParameters": query,
    }


def connected(lab: Lab) -> str:
    connection_id = f"probe-{uuid.uuid4().hex}"
    lab.put_row(
        f"connection#{connection_id}",
        "connection",
        connectionId=connection_id,
        userId=lab.user,
        subscriptions=0,
    )
    return connection_id


@cache
def known_order(lab: Lab) -> str:
    return lab.place_resting()


def subscribe(lab: Lab) -> tuple[str, Answer]:
    connection_id = connected(lab)
    wish = {"action": "subscribe", "orderId": known_order(lab)}
    return connection_id, lab.invoke("WebSocketFunction", message(connection_id, "subscribe", wish))


def subscribes(lab: Lab) -> bool:
    _, answer = subscribe(lab)
    return bool(answer.payload == {"statusCode": 200})


def unsubscribes(lab: Lab) -> bool:
    connection_id, _ = subscribe(lab)
    wish = {"action": "unsubscribe", "orderId": known_order(lab)}
    answer = lab.invoke("WebSocketFunction", message(connection_id, "unsubscribe", wish))
    return bool(json.loads(answer.payload["body"])["type"] == "unsubscribed")


def connects(lab: Lab) -> bool:
    ticket = lab.http.post("api/stream-tickets").json()["ticket"]
    event = lifecycle_of_connection(f"probe-{uuid.uuid4().hex}", "CONNECT", ticket=ticket)
    return bool(lab.invoke("WebSocketFunction", event).payload["statusCode"] == 200)


def disconnects(lab: Lab) -> bool:
    connection_id, _ = subscribe(lab)
    lab.invoke("WebSocketFunction", lifecycle_of_connection(connection_id, "DISCONNECT"))
    return lab.row(f"connection#{connection_id}", "connection") is None


# The publish function


def published(lab: Lab, order_id: str, sort_key: str) -> Answer:
    keys = {"pk": {"S": f"order#{order_id}"}, "sk": {"S": sort_key}}
    record = {"eventName": "INSERT", "dynamodb": {"Keys": keys}}
    return lab.invoke("PublishFunction", {"Records": [record]})


def reads_events(lab: Lab) -> bool:
    return not published(lab, known_order(lab), "event#0000000001").failed


def looks_for_listeners(lab: Lab) -> bool:
    row = lab.row(f"order#{known_order(lab)}", "event#0000000001")
    assert row is not None
    keys = {"pk": row["pk"], "sk": row["sk"]}
    record = {"eventName": "INSERT", "dynamodb": {"Keys": keys, "NewImage": row}}
    return not lab.invoke("PublishFunction", {"Records": [record]}).failed


def posts_to_connections(lab: Lab) -> bool:
    order = lab.place(resting_body())
    with lab.listening(order["wsUrl"]) as listener:
        published(lab, order["orderId"], connection_row(lab, order["orderId"]))
        # Frames come in the order in which they were posted, and the answer is posted after all
        # that the publish function had to say: it is waited for in place of a length of time.
        listener.request({"action": "ping"}, "pong")
        return bool(listener.events(order["orderId"]))


def notes_greetings(lab: Lab) -> bool:
    order = lab.place(resting_body())
    with lab.listening(order["wsUrl"]):
        sort_key = connection_row(lab, order["orderId"])
        published(lab, order["orderId"], sort_key)
        row = lab.row(f"order#{order['orderId']}", sort_key)
        return row is not None and "greeting" not in row


def saves_cursors(lab: Lab) -> bool:
    order = lab.place(resting_body())
    with lab.listening(order["wsUrl"]):
        published(lab, order["orderId"], connection_row(lab, order["orderId"]))
        assert lab.cancel(order["orderId"]).status_code == 200
        published(lab, order["orderId"], "event#0000000003")
        return lab.row(f"order#{order['orderId']}", "cursors") is not None


def removes_subscriptions(lab: Lab) -> bool:
    order_id = lab.place_resting()
    lab.put_row(f"order#{order_id}", "conn#gone", connectionId="gone", afterSeq=0)
    published(lab, order_id, "event#0000000001")
    return lab.row(f"order#{order_id}", "conn#gone") is None


def closes_connections(lab: Lab) -> bool:
    callback = f"/_aws/execute-api/{lab.stack.web_socket_url.split('/')[-2]}/live"
    order = lab.place(resting_body())
    # API Gateway tells the websocket function of the end, too, which then deletes the same rows.
    other_way = Grant("WebSocketRole", "FindRowsOfConnection", "dynamodb:Query")
    with (
        lab.without([other_way]),
        refusing_gateway(lab.stack.emulator_url) as gateway_url,
        lab.environment("PublishFunction", WEBSOCKET_CALLBACK_URL=gateway_url + callback),
        lab.listening(order["wsUrl"]),
    ):
        sort_key = connection_row(lab, order["orderId"])
        published(lab, order["orderId"], sort_key)
        connection_id = sort_key.removeprefix("conn#")
        return lab.row(f"connection#{connection_id}", "connection") is None


def resting_body() -> Json:
    return {
        "type": "limit",
        "tokenIn": "SOL",
        "tokenOut": "USDC",
        "amountIn": "1",
        "limitPrice": UNREACHABLE_PRICE,
        "expiresAt": in_an_hour(),
    }


def connection_row(lab: Lab, order_id: str) -> str:
    (row,) = lab.subscriptions(f"order#{order_id}")
    return str(row["sk"]["S"])


# The triggers function


def reads_secret_for_ticks(lab: Lab) -> bool:
    lab.restart("TriggersFunction")
    return not lab.invoke("TriggersFunction", {}).failed


def streams_expiries(lab: Lab) -> bool:
    order_id = lab.place_resting()
    lab.set_columns(order_id, "expires_at = clock_timestamp()")
    lab.invoke("TriggersFunction", {})
    return lab.has_event(order_id, seq=3)


def records_launches(lab: Lab) -> bool:
    event = {"detail-type": "PoolCreated", "source": "dex.raydium", "detail": {"token": "MOON"}}
    return not lab.invoke("TriggersFunction", event).failed


def looks_launches_up(lab: Lab) -> bool:
    lab.open_pool("PEPE")
    lab.restart("TriggersFunction")
    return released(lab, "PEPE") is not None


def starts_released_orders(lab: Lab) -> bool:
    order_id = released(lab, "USDC")
    return order_id is not None and lab.execution_status(order_id) != ""


def released(lab: Lab, token_out: str) -> str | None:
    order_id = lab.place_resting(token_out)
    lab.amend(order_id, limitPrice="0.000001")
    answer = lab.invoke("TriggersFunction", {})
    return order_id if order_id in answer.payload.get("order_ids", []) else None


# The reconcile function


def reconciled(lab: Lab, order_id: str) -> Answer:
    """Have one pass look at the order, and no other that may be under way."""
    event = {"detail-type": "Step Functions Execution Status Change", "detail": {"name": order_id}}
    with lab.due_now(order_id):
        return lab.invoke("ReconcileFunction", event)


def reads_secret_for_reconciling(lab: Lab) -> bool:
    lab.restart("ReconcileFunction")
    return not reconciled(lab, str(uuid.uuid4())).failed


def streams_the_outbox(lab: Lab) -> bool:
    order_id = known_order(lab)
    with lab.database() as connection:
        wait_until(
            lambda: (
                connection.execute(
                    "UPDATE order_events SET streamed_at = NULL WHERE order_id = %s AND seq = 2"
                    " AND created_at < clock_timestamp() - interval '11 s'",
                    (order_id,),
                ).rowcount
            ),
            seconds=15,
            what="the event is old enough for the outbox",
        )
    return bool(reconciled(lab, order_id).payload["events_streamed"])


def stuck_order(lab: Lab) -> str:
    """Make an order at `routing` whose execution was stopped."""
    order_id = lab.place_doomed("venue_down")
    lab.await_status(order_id, "routing")
    lab.hide_from_passes(order_id)
    lab.stop_executions(order_id)
    return order_id


def restarts_orders(lab: Lab) -> bool:
    order_id = stuck_order(lab)
    has_restarted = bool(reconciled(lab, order_id).payload["restarted"] == 1)
    lab.cancel(order_id)
    lab.stop_executions(order_id)
    return has_restarted


def sees_that_executions_live(lab: Lab) -> bool:
    order_id = lab.place_doomed("venue_down")
    lab.await_status(order_id, "routing")
    is_seen = bool(reconciled(lab, order_id).payload["alive"] == 1)
    lab.cancel(order_id)
    return is_seen


@cache
def dropped_order(lab: Lab, _purpose: str) -> str:
    """Make an order that was submitted, restarted as often as it may be, and never landed."""
    order_id = lab.place_doomed("dropped_until_expiry")
    lab.await_status(order_id, "submitted")
    wait_until(lambda: lab.ledger(order_id), seconds=30, what="the transaction was sent")
    lab.hide_from_passes(order_id)
    lab.stop_executions(order_id)
    lab.set_columns(order_id, "restarts = 5")
    return order_id


def settles_sent_transactions(lab: Lab) -> bool:
    return settled(lab, dropped_order(lab, "sent"))


def settles_unsent_transactions(lab: Lab) -> bool:
    order_id = dropped_order(lab, "unsent")
    lab.forget_transactions(order_id)
    return settled(lab, order_id)


def settled(lab: Lab, order_id: str) -> bool:
    row = lab.order_row(order_id)
    wait_until(
        lambda: lab.block_height() > row["tx_last_valid_block_height"],
        seconds=20,
        what="the transaction can no longer land",
    )
    return bool(reconciled(lab, order_id).payload["resolved"])


# The migrate function


def migrates(lab: Lab) -> bool:
    event = {
        "RequestType": "Update",
        "RequestId": "probe",
        "StackId": "probe",
        "LogicalResourceId": "SchemaMigration",
        "ResponseURL": lab.upload_url("migration-answer.json"),
    }
    lab.restart("MigrateFunction")
    return not lab.invoke("MigrateFunction", event).failed


READ_SECRET = ("ReadDatabaseSecret", "secretsmanager:GetSecretValue")

PROBES: dict[Grant, Probe] = {
    Grant("SubmitRole", *READ_SECRET): reads_secret_for_submissions,
    Grant("SubmitRole", "WriteEventsAndTickets", "dynamodb:PutItem"): announces_orders,
    Grant("SubmitRole", "SubscribeConnections", "dynamodb:BatchGetItem"): executes_over_websocket,
    Grant("SubmitRole", "SubscribeConnections", "dynamodb:UpdateItem"): executes_over_websocket,
    Grant("SubmitRole", "LookUpLaunches", "dynamodb:GetItem"): looks_up_whether_a_pool_is_open,
    Grant("SubmitRole", "StartExecutions", "states:StartExecution"): starts_executions,
    Grant("ApiRole", *READ_SECRET): reads_secret_for_requests,
    Grant("ApiRole", "WriteEventsAndTickets", "dynamodb:PutItem"): issues_tickets,
    Grant("ApiRole", "LookUpLaunches", "dynamodb:GetItem"): quotes_launched_tokens,
    Grant("ApiRole", "StartExecutions", "states:StartExecution"): hands_a_canceled_orders_slot_on,
    Grant("ApiRole", "StopCanceledExecutions", "states:StopExecution"): stops_executions,
    Grant("HealthRole", *READ_SECRET): reads_secret_for_health,
    Grant("LifecycleRole", *READ_SECRET): reads_secret_for_transitions,
    Grant("LifecycleRole", "StartExecutions", "states:StartExecution"): (
        hands_an_expired_orders_slot_on
    ),
    Grant("LifecycleRole", "StreamEvents", "dynamodb:PutItem"): streams_transitions,
    Grant("VenueRole", "KeepLedger", "dynamodb:PutItem"): sends_transactions,
    Grant("VenueRole", "KeepLedger", "dynamodb:GetItem"): looks_transactions_up,
    Grant("WebSocketRole", "ReadConnections", "dynamodb:BatchGetItem"): subscribes,
    Grant("WebSocketRole", "CountConnections", "dynamodb:Query"): connects,
    Grant("WebSocketRole", "WriteSubscriptions", "dynamodb:PutItem"): subscribes,
    Grant("WebSocketRole", "WriteSubscriptions", "dynamodb:UpdateItem"): subscribes,
    Grant("WebSocketRole", "WriteSubscriptions", "dynamodb:DeleteItem"): unsubscribes,
    Grant("WebSocketRole", "WriteSubscriptions", "dynamodb:BatchWriteItem"): connects,
    Grant("WebSocketRole", "FindRowsOfConnection", "dynamodb:Query"): disconnects,
    Grant("PublishRole", "ReadEventsAndSubscriptions", "dynamodb:Query"): reads_events,
    Grant("PublishRole", "LookForListeners", "dynamodb:BatchGetItem"): looks_for_listeners,
    Grant("PublishRole", "KeepSubscriptions", "dynamodb:UpdateItem"): notes_greetings,
    Grant("PublishRole", "KeepSubscriptions", "dynamodb:DeleteItem"): removes_subscriptions,
    Grant("PublishRole", "KeepSubscriptions", "dynamodb:BatchWriteItem"): saves_cursors,
    Grant("PublishRole", "FindRowsOfConnection", "dynamodb:Query"): closes_connections,
    Grant(
        "PublishRole", "PostToConnections", "execute-api:ManageConnections"
    ): posts_to_connections,
    Grant("PublishRole", "CloseConnections", "execute-api:ManageConnections"): closes_connections,
    Grant("TriggersRole", *READ_SECRET): reads_secret_for_ticks,
    Grant("TriggersRole", "StreamEvents", "dynamodb:PutItem"): streams_expiries,
    Grant("TriggersRole", "KeepLaunches", "dynamodb:PutItem"): records_launches,
    Grant("TriggersRole", "KeepLaunches", "dynamodb:GetItem"): looks_launches_up,
    Grant("TriggersRole", "StartExecutions", "states:StartExecution"): starts_released_orders,
    Grant("ReconcileRole", *READ_SECRET): reads_secret_for_reconciling,
    Grant("ReconcileRole", "StreamEvents", "dynamodb:PutItem"): streams_the_outbox,
    Grant("ReconcileRole", "LookUpSignatures", "dynamodb:GetItem"): settles_sent_transactions,
    Grant("ReconcileRole", "LookUpSignatures", "dynamodb:PutItem"): settles_unsent_transactions,
    Grant("ReconcileRole", "StartExecutions", "states:StartExecution"): restarts_orders,
    Grant("ReconcileRole", "LookUpExecutions", "states:DescribeExecution"): (
        sees_that_executions_live
    ),
    Grant("MigrateRole", *READ_SECRET): migrates,
}


def test_every_grant_is_probed_or_cannot_be_checked_here() -> None:
    grants = grants_of_template()

    assert set(PROBES) == {grant for grant in grants if grant.sid not in UNCHECKED}
    assert set(UNCHECKED) <= {grant.sid for grant in grants}


def test_grants_that_cannot_be_checked_here_are_not_needed_here(lab: Lab) -> None:
    unchecked = [grant for grant in grants_of_template() if grant.sid in UNCHECKED]

    with lab.without(unchecked):
        order = lab.place()
        with lab.listening(order["wsUrl"]) as listener:
            events = listener.events_until_final(order["orderId"])

    assert statuses(events) == HAPPY_LIFE


@pytest.fixture(scope="module")
def quiet_lab(lab: Lab) -> Iterator[Lab]:
    """The lab with nothing going on but the probes."""
    with lab.undisturbed():
        dropped_order(lab, "sent")
        dropped_order(lab, "unsent")
        yield lab


@pytest.mark.parametrize("grant", PROBES, ids=str)
def test_grant_is_needed(quiet_lab: Lab, grant: Grant) -> None:
    works = PROBES[grant]
    with quiet_lab.without([grant]):
        assert not works(quiet_lab), f"nothing breaks without {grant}: it is too much"
    assert works(quiet_lab)
