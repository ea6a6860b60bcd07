"""What the routes say of themselves in the OpenAPI document."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from order_engine.api.problems import PROBLEM_CONTENT_TYPE, PROBLEMS, Problem

if TYPE_CHECKING:
    from aws_lambda_powertools.event_handler.openapi.types import OpenAPIResponse

API_VERSION = "0.1.0"

_FROM_THE_GATEWAY = {429: "too many requests for the route: the gateway says so, without a code"}


def problem_description(status: int, *, is_own: bool = True) -> str:
    """Return when a status is answered, by the codes that its problems carry.

    ``is_own`` is false for what only the gateway answers on the route.
    """
    kinds = [(code, kind) for code, kind in PROBLEMS.items() if kind.status == status and is_own]
    said = [f"`{code}`: {kind.meaning}" for code, kind in kinds]
    if status in _FROM_THE_GATEWAY:
        said.append(_FROM_THE_GATEWAY[status])
    return "; ".join(said)


_ALWAYS = (429, 500, 503)


def replies(
    status: int, description: str, *problems: int, headers: Mapping[str, str] | None = None
) -> "dict[int, OpenAPIResponse]":
    """Return a route's documented replies: the good one, and the problems it can answer with."""
    documented: dict[int, OpenAPIResponse] = {
        status: {
            "description": description,
            "headers": {
                name: {"description": text, "schema": {"type": "string"}}
                for name, text in (headers or {}).items()
            },
        }
    }
    for problem in sorted({*problems, 401, *_ALWAYS}):
        documented[problem] = {
            "description": problem_description(
                problem, is_own=problem in problems or problem not in _FROM_THE_GATEWAY
            ),
            "content": {PROBLEM_CONTENT_TYPE: {"model": Problem}},
        }
    return documented
