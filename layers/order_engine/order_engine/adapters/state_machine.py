"""Executions of the order state machine."""

import json

from order_engine.adapters import aws
from order_engine.errors import ExecutionNotStarted


class StepFunctionsStarter:
    """Start one Step Functions execution per order and generation."""

    def __init__(self, state_machine_arn: str) -> None:
        self._state_machine_arn = state_machine_arn

    def start(self, order_id: str, execution: str) -> None:
        """Start the execution; one of this name that exists already is success.

        Raises ``ExecutionNotStarted``.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            aws.client("stepfunctions").start_execution(
                stateMachineArn=self._state_machine_arn,
                name=execution,
                input=json.dumps({"orderId": order_id}),
            )
        except ClientError as error:
            if error.response["Error"]["Code"] == "ExecutionAlreadyExists":
                return
            raise ExecutionNotStarted(f"execution {execution} was refused") from error
        except BotoCoreError as error:
            raise ExecutionNotStarted(f"execution {execution} could not be started") from error
