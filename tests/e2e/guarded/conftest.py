"""A stack that lets nobody in without a right: IAM is enforced, callers need a token."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.e2e.guarded.lab import Lab
from tests.e2e.issuer import AUDIENCE, running_issuer
from tests.e2e.stacks import PROFILE, RunningStack, expiry_blocks, free_state, noted

from local import runtime

PARAMETERS = {
    **PROFILE,
    # A transaction that was never sent can no longer land after 5 s on an idle machine.
    "MockExpiryBlocks": expiry_blocks(50),
    "MockVolatility": "calm",
    "TickSeconds": "60",
    "LogLevel": "DEBUG",
    "JwtAudience": AUDIENCE,
}


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    with (
        running_issuer() as issuer,
        free_state("guarded") as state,
        runtime.running_stack(
            state.root, parameters={**PARAMETERS, "JwtIssuer": issuer.url}, auth=True
        ) as stack,
        noted(RunningStack(stack, state)),
    ):
        lab = Lab(stack, issuer)
        lab.stop_schedules()
        lab.final_order(lab.place()["orderId"], seconds=120)
        yield lab
        lab.close()
