"""Errors as problem documents."""

import json

import pytest

from order_engine.api.problems import PROBLEMS, problem_of
from order_engine.errors import (
    DatabaseUnavailable,
    ExecutionNotStarted,
    FieldError,
    ProblemCode,
    Rejected,
    StreamUnavailable,
)


def test_a_refusal_becomes_a_problem_with_every_member() -> None:
    refusal = Rejected(
        ProblemCode.VALIDATION_FAILED,
        "amount must be greater than 0.",
        errors=[FieldError("amount", "must be greater than 0", "greater_than")],
    )

    assert json.loads(problem_of(refusal, "request-1").to_json()) == {
        "type": "urn:order-execution-engine:problem:validation-failed",
        "title": "The request is not valid",
        "status": 422,
        "detail": "amount must be greater than 0.",
        "code": "VALIDATION_FAILED",
        "requestId": "request-1",
        "errors": [
            {"field": "amount", "message": "must be greater than 0", "code": "greater_than"}
        ],
    }


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (DatabaseUnavailable("password wrong"), 503, "DATABASE_UNAVAILABLE"),
        (StreamUnavailable("throttled"), 503, "SERVICE_UNAVAILABLE"),
        (ExecutionNotStarted("refused"), 503, "SERVICE_UNAVAILABLE"),
        (ZeroDivisionError("secret detail"), 500, "INTERNAL_ERROR"),
    ],
)
def test_trouble_of_our_own_tells_the_client_nothing_about_it(
    error: Exception, status: int, code: str
) -> None:
    problem = problem_of(error, "request-1")

    assert (problem.status, problem.code) == (status, code)
    assert str(error) not in problem.to_json()


def test_every_code_has_a_row_in_the_table_of_problems() -> None:
    assert set(PROBLEMS) == set(ProblemCode)
