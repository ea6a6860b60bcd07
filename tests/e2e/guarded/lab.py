"""A guarded stack: its engine as a caller with a token sees it, and its parts one by one."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from tests.e2e.engine import Engine, Json, market_order, new_user, wait_until
from tests.e2e.issuer import Issuer

from local import aws
from local.deploy import BUCKET
from local.stack import Stack

UNREACHABLE_PRICE = "1000000000"
"""A limit that no market here meets."""


@dataclass(frozen=True)
class Grant:
    """One action that one statement of a role allows."""

    role: str
    sid: str
    action: str

    def __str__(self) -> str:
        return f"{self.role}-{self.sid}-{self.action}"


@dataclass(frozen=True)
class Answer:
    """What came of an invocation of a function."""

    payload: Any
    failed: bool


class Lab(Engine):
    """A running guarded stack, used by one caller (`user`)."""

    def __init__(self, stack: Stack, issuer: Issuer) -> None:
        super().__init__(stack)
        self.issuer = issuer
        self.user = new_user()
        self.token = issuer.token(self.user)
        self.http.headers["Authorization"] = f"Bearer {self.token}"
        self._ids = aws.physical_ids(stack.emulator_url, stack.stack_name)
        self._functions = aws.client("lambda", stack.emulator_url)
        self._roles = aws.client("iam", stack.emulator_url)
        self._scheduler = aws.client("scheduler", stack.emulator_url)
        self._secrets = aws.client("secretsmanager", stack.emulator_url)
        self._events = aws.client("events", stack.emulator_url)
        self._queue = aws.client("sqs", stack.emulator_url)
        self.stream_table = stack.outputs["OrderStreamTableName"]
        self.ledger_table = stack.outputs["LedgerTableName"]

    # Rights

    @contextmanager
    def without(self, grants: Sequence[Grant]) -> Iterator[None]:
        """Take grants away for the length of the block."""
        taken = {role: [g for g in grants if g.role == role] for role in {g.role for g in grants}}
        policies = {role: self._policy(role) for role in taken}
        try:
            for role, lost in taken.items():
                name, document = policies[role]
                self._put_policy(role, name, reduced(document, lost))
            yield
        finally:
            for role, (name, document) in policies.items():
                self._put_policy(role, name, document)

    def _policy(self, role: str) -> tuple[str, Json]:
        role_name = self._ids[role]
        (policy_name,) = self._roles.list_role_policies(RoleName=role_name)["PolicyNames"]
        answer = self._roles.get_role_policy(RoleName=role_name, PolicyName=policy_name)
        return policy_name, answer["PolicyDocument"]

    def _put_policy(self, role: str, policy_name: str, document: Json) -> None:
        self._roles.put_role_policy(
            RoleName=self._ids[role],
            PolicyName=policy_name,
            PolicyDocument=json.dumps(document),
        )

    # Functions

    def invoke(self, function: str, event: Json) -> Answer:
        """Invoke a function and wait for its answer."""
        answer = self._functions.invoke(FunctionName=self._ids[function], Payload=json.dumps(event))
        return Answer(json.loads(answer["Payload"].read()), "FunctionError" in answer)

    def invoke_later(self, function: str, event: Json) -> None:
        """Hand a function an event the way schedules, rules and CloudFormation do."""
        self._functions.invoke(
            FunctionName=self._ids[function], Payload=json.dumps(event), InvocationType="Event"
        )

    def restart(self, function: str) -> None:
        """Have the function's next invocation begin with nothing in its memory."""
        # The emulator ends a function's processes when their environment changes.
        name = self._ids[function]
        before = self._functions.get_function_configuration(FunctionName=name)["Environment"]
        self._functions.update_function_configuration(
            FunctionName=name,
            Environment={"Variables": {**before["Variables"], "RESTARTED": str(uuid.uuid4())}},
        )

    @contextmanager
    def environment(self, function: str, **changes: str) -> Iterator[None]:
        """Change a function's environment for the length of the block."""
        name = self._ids[function]
        before = self._functions.get_function_configuration(FunctionName=name)["Environment"]
        changed = {"Variables": {**before["Variables"], **changes}}
        self._functions.update_function_configuration(FunctionName=name, Environment=changed)
        try:
            yield
        finally:
            self._functions.update_function_configuration(FunctionName=name, Environment=before)

    @contextmanager
    def database_secret(self, url: str) -> Iterator[None]:
        """Change the secret with the database's URL for the length of the block."""
        secret_id = self.stack.outputs["DatabaseSecretArn"]
        before = self._secrets.get_secret_value(SecretId=secret_id)["SecretString"]
        self._secrets.put_secret_value(SecretId=secret_id, SecretString=json.dumps({"url": url}))
        try:
            yield
        finally:
            self._secrets.put_secret_value(SecretId=secret_id, SecretString=before)

    # What runs by itself

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Stop rules and the stream's mapping for the length of the block."""
        mapping = self.stream_mapping()["UUID"]
        rules = [rule["Name"] for rule in self._events.list_rules()["Rules"]]
        for rule in rules:
            self._events.disable_rule(Name=rule)
        self._functions.update_event_source_mapping(UUID=mapping, Enabled=False)
        try:
            yield
        finally:
            self._functions.update_event_source_mapping(UUID=mapping, Enabled=True)
            for rule in rules:
                self._events.enable_rule(Name=rule)

    def stream_mapping(self) -> Json:
        """Return the mapping of the order stream to the publish function."""
        (mapping,) = self._functions.list_event_source_mappings(
            FunctionName=self._ids["PublishFunction"]
        )["EventSourceMappings"]
        found: Json = mapping
        return found

    @contextmanager
    def giving_records_up_after(self, seconds: int) -> Iterator[None]:
        """Shorten the age at which records of the stream are given up."""
        mapping = self.stream_mapping()
        update = self._functions.update_event_source_mapping
        update(UUID=mapping["UUID"], MaximumRecordAgeInSeconds=seconds)
        try:
            yield
        finally:
            update(
                UUID=mapping["UUID"],
                MaximumRecordAgeInSeconds=mapping["MaximumRecordAgeInSeconds"],
            )

    def stop_schedules(self) -> None:
        """Stop what happens by the minute: the tests do it when they want it."""
        for summary in self._scheduler.list_schedules()["Schedules"]:
            schedule = self._scheduler.get_schedule(
                Name=summary["Name"], GroupName=summary["GroupName"]
            )
            kept = ("Name", "GroupName", "ScheduleExpression", "FlexibleTimeWindow", "Target")
            self._scheduler.update_schedule(
                **{key: schedule[key] for key in kept}, State="DISABLED"
            )

    # The failed events' queue

    def failed_events(self) -> list[Json]:
        """Take the messages out of the queue of failed events."""
        url = self.stack.outputs["FailedEventsQueueUrl"]
        messages = []
        while found := self._queue.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get(
            "Messages"
        ):
            for message in found:
                self._queue.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                messages.append(json.loads(message["Body"]))
        return messages

    # Rows

    def put_row(self, partition_key: str, sort_key: str, **attributes: str | int) -> None:
        """Write a row into the order stream's table."""
        self._dynamodb.put_item(
            TableName=self.stream_table,
            Item={
                "pk": {"S": partition_key},
                "sk": {"S": sort_key},
                **{
                    name: {"N": str(value)} if isinstance(value, int) else {"S": value}
                    for name, value in attributes.items()
                },
            },
        )

    def row(self, partition_key: str, sort_key: str) -> Json | None:
        """Read a row of the order stream's table."""
        answer = self._dynamodb.get_item(
            TableName=self.stream_table,
            Key={"pk": {"S": partition_key}, "sk": {"S": sort_key}},
            ConsistentRead=True,
        )
        item: Json | None = answer.get("Item")
        return item

    def has_event(self, order_id: str, seq: int) -> bool:
        """Tell whether the stream has an order's event."""
        return self.row(f"order#{order_id}", f"event#{seq:010d}") is not None

    def open_pool(self, token: str) -> None:
        """Write down that a token's pool has long been open."""
        self._dynamodb.put_item(
            TableName=self.ledger_table,
            Item={
                "signature": {"S": f"pool#{token}@raydium"},
                "opensAt": {"S": "2026-01-01T00:00:00.000Z"},
            },
        )

    def forget_transactions(self, order_id: str) -> None:
        """Delete what the chain knows of an order, as if nothing had ever been sent."""
        for transaction in self.ledger(order_id):
            self._dynamodb.delete_item(
                TableName=self.ledger_table,
                Key={"signature": {"S": transaction["signature"]}},
            )

    # Orders in a certain state

    def place_resting(self, token_out: str = "USDC") -> str:  # noqa: S107 - a symbol
        """Place an order that waits for a price which does not come; return its id."""
        expires_at = datetime.now(UTC) + timedelta(hours=1)
        body = market_order(
            type="limit",
            tokenOut=token_out,
            limitPrice=UNREACHABLE_PRICE,
            expiresAt=expires_at.isoformat(),
            userId=None,
        )
        order_id: str = self.place(body)["orderId"]
        return order_id

    def place(self, body: Json | None = None, **fields: Any) -> Json:
        """Submit a market order of this caller (or `body`)."""
        return super().place(body or market_order(userId=None, **fields))

    def place_doomed(self, fate: str) -> str:
        """Place a market order with a scripted fate; return its id."""
        order_id: str = self.place(clientOrderId=f"{fate}-{uuid.uuid4().hex}")["orderId"]
        return order_id

    def amend(self, order_id: str, **fields: str) -> None:
        """Change the terms of an order at rest."""
        response = self.http.patch(f"api/orders/{order_id}", json=fields)
        assert response.status_code == 200, response.text

    def cancel(self, order_id: str) -> httpx.Response:
        """Call an order off."""
        return self.http.delete(f"api/orders/{order_id}")

    def await_status(self, order_id: str, *wanted: str) -> None:
        """Wait until an order has one of the statuses."""
        wait_until(
            lambda: self.order_row(order_id)["status"] in wanted,
            seconds=30,
            what=f"order {order_id} is {' or '.join(wanted)}",
        )

    def set_columns(self, order_id: str, assignments: str) -> None:
        """Change an order's row behind the engine's back."""
        with self.database() as connection:
            connection.execute(
                f"UPDATE orders SET {assignments} WHERE id = %s".encode(),  # noqa: S608
                (order_id,),
            )

    def hide_from_passes(self, order_id: str) -> None:
        """Make the order look as if it had just moved, for as long as any test runs.

        Passes over all orders may be under way that began before the schedules were stopped, or
        that are repeated because they failed once: each takes what has not moved for a while.
        """
        with self.database() as connection:
            connection.execute(
                "UPDATE orders SET updated_at = clock_timestamp() + interval '1 day' WHERE id = %s"
                " AND EXISTS (SELECT FROM order_transitions WHERE from_status = status)",
                (order_id,),
            )

    @contextmanager
    def due_now(self, order_id: str) -> Iterator[None]:
        """Let a pass that asks for this order find it; hide it from the others before and after."""
        with self.database() as connection:
            connection.execute(
                "UPDATE orders SET updated_at = clock_timestamp(), reconciled_at = NULL"
                " WHERE id = %s AND updated_at > clock_timestamp()"
                " AND EXISTS (SELECT FROM order_transitions WHERE from_status = status)",
                (order_id,),
            )
        try:
            yield
        finally:
            self.hide_from_passes(order_id)

    def stop_executions(self, order_id: str) -> None:
        """Stop the executions of an order, as an operator's mistake would."""
        for execution in self.executions(order_id):
            self._step_functions.stop_execution(executionArn=execution["executionArn"])

    def block_height(self) -> int:
        """Return the chain's height, which a venue's quote tells."""
        request = {
            "action": "quote",
            "orderId": None,
            "tokenIn": "SOL",
            "tokenOut": "USDC",
            "amountIn": "1",
        }
        height: int = self.invoke("RaydiumFunction", request).payload["quote"]["slot"]
        return height

    def upload_url(self, key: str) -> str:
        """Return a URL to put an object to, like the one that CloudFormation hands out."""
        s3 = aws.client("s3", self.stack.emulator_url)
        url: str = s3.generate_presigned_url("put_object", Params={"Bucket": BUCKET, "Key": key})
        return url

    def execution_status(self, order_id: str) -> str:
        """Return the status of an order's one execution, an empty text when there is none."""
        found = self.executions(order_id)
        return found[0]["status"] if found else ""


def reduced(document: Json, lost: Sequence[Grant]) -> Json:
    """Return a policy without some of its grants."""
    statements = []
    for statement in document["Statement"]:
        actions = statement["Action"]
        actions = actions if isinstance(actions, list) else [actions]
        gone = {grant.action for grant in lost if grant.sid == statement["Sid"]}
        left = [action for action in actions if action not in gone]
        if left:
            statements.append({**statement, "Action": left})
    # A policy must say something.
    nothing = {"Effect": "Deny", "Action": "none:None", "Resource": "*"}
    return {**document, "Statement": statements or [nothing]}
