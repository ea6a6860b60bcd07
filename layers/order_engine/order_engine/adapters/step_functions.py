"""Executions of the order state machine."""

import json
import logging

from order_engine.adapters import aws
from order_engine.errors import ExecutionNotStarted, Retryable
from order_engine.execution.ports import ExecutionState

logger = logging.getLogger(__name__)


class StepFunctionsExecutions:
    """Keep one Step Functions execution per order and generation."""

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

    def state_of(self, execution: str) -> ExecutionState:
        """Return whether the execution runs; raise ``Retryable`` when that cannot be told."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = aws.client("stepfunctions").describe_execution(
                executionArn=self._execution_arn(execution)
            )
        except ClientError as error:
            if error.response["Error"]["Code"] == "ExecutionDoesNotExist":
                return ExecutionState.MISSING
            raise Retryable(f"execution {execution} cannot be described") from error
        except BotoCoreError as error:
            raise Retryable(f"execution {execution} cannot be described") from error
        return ExecutionState.RUNNING if answer["status"] == "RUNNING" else ExecutionState.ENDED

    def stop(self, execution: str) -> None:
        """Stop the execution if it runs; failing to is logged, the order's status fences it."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            aws.client("stepfunctions").stop_execution(
                executionArn=self._execution_arn(execution), error="OrderCanceled"
            )
        except (BotoCoreError, ClientError):
            logger.warning("could not stop an execution", extra={"execution": execution})

    def _execution_arn(self, execution: str) -> str:
        machine = self._state_machine_arn.replace(":stateMachine:", ":execution:", 1)
        return f"{machine}:{execution}"
