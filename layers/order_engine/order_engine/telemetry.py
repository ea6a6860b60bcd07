"""Logs of every function: JSON lines, the engine's own among them."""

import logging
from contextlib import AbstractContextManager

from aws_lambda_powertools import Logger


def function_logger() -> Logger:
    """Return the function's logger, through which the engine's own lines go out too."""
    logger = Logger()
    engine = logging.getLogger("order_engine")
    engine.handlers = [logger.registered_handler]
    engine.setLevel(logger.log_level)
    engine.propagate = False
    return logger


def invocation(logger: Logger, context: object, **keys: object) -> AbstractContextManager[None]:
    """Name the invocation in every line logged while the block runs.

    ``context`` is Lambda's; ``keys`` are for example ``order_id`` and ``execution``. Those that
    are None are left out.
    """
    named = {
        "request_id": getattr(context, "aws_request_id", None),
        "function": getattr(context, "function_name", None),
        **keys,
    }
    given = {name: value for name, value in named.items() if value is not None}
    return logger.append_context_keys(**given)
