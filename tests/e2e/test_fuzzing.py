"""Requests made out of the OpenAPI document: a short run of what `make fuzz` does at length."""

from __future__ import annotations

from tests.e2e.engine import Engine
from tests.fuzz.fuzzing import fuzz

EXAMPLES = 25
LEAST_REQUESTS = 200


def test_answers_keep_to_the_openapi_document(engine: Engine) -> None:
    # when
    outcome = fuzz(
        engine.stack.http_url,
        examples=EXAMPLES,
        seed=20261121,
        phases=("examples", "fuzzing"),
        seconds=240,
    )
    # then
    assert outcome.is_faultless, outcome.report
    assert outcome.server_errors == 0, outcome.table()
    assert outcome.requests >= LEAST_REQUESTS, outcome.report
    # It is no test of the answers to accepted orders if none was accepted.
    assert {status for _, status in outcome.answers} >= {200, 201, 202, 404, 422}
