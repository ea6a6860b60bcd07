"""Turn what clients and listeners saw into the figures that are printed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from benchmarks.load import Arrival, Recording


class Distribution(BaseModel):
    """Percentiles (nearest rank) of some durations, in milliseconds."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)

    count: int
    p50_ms: float | None
    p95_ms: float | None
    max_ms: float | None

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Distribution:
        """Summarize durations given in seconds; there may be none."""
        ordered = sorted(seconds)
        return cls(
            count=len(ordered),
            p50_ms=percentile_ms(ordered, 50),
            p95_ms=percentile_ms(ordered, 95),
            max_ms=percentile_ms(ordered, 100),
        )


class LoadFigures(BaseModel):
    """The outcome of one run."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)

    orders: int
    clients: int
    listeners: int
    accepted: int
    refused: int
    refusals_by_status: dict[int, int]
    confirmed: int
    failed_by_code: dict[str, int]
    lost: int
    incomplete: int
    out_of_order: int
    duplicates: int
    disconnects: int
    orders_with_retries: int
    confirmed_per_minute: float
    post: Distribution
    end_to_end: Distribution
    commit_to_client: Distribution


def percentile_ms(ordered_seconds: Sequence[float], percent: int) -> float | None:
    """Return the nearest-rank percentile of ascending durations, in milliseconds."""
    if not ordered_seconds:
        return None
    rank = max(1, -(-len(ordered_seconds) * percent // 100))
    return round(ordered_seconds[rank - 1] * 1000, 1)


def load_figures(recording: Recording) -> LoadFigures:
    """Summarize a run.

    `lost`: accepted orders of which some listener never got a final event. `incomplete`: final
    ones of which some listener got not every `seq` from 1 on. `out_of_order`: (listener, order)
    pairs in which a first arrival came after a higher `seq`. The rate counts from the first
    request to the last confirmation.
    """
    lives = {
        submission.order_id: [
            arrivals.get(submission.order_id, []) for arrivals in recording.arrivals
        ]
        for submission in recording.accepted
        if submission.order_id
    }
    finals = {order_id: _final_of(seen) for order_id, seen in lives.items()}
    confirmed_at = {
        order_id: final.received_at
        for order_id, final in finals.items()
        if final is not None and final.status == "confirmed"
    }
    complete = {order_id for order_id, seen in lives.items() if all(map(_is_complete, seen))}
    last_at = max(confirmed_at.values(), default=recording.ended_at)
    return LoadFigures(
        orders=recording.plan.orders,
        clients=recording.plan.clients,
        listeners=recording.plan.listeners,
        accepted=len(lives),
        refused=len(recording.submissions) - len(recording.accepted),
        refusals_by_status=dict(
            Counter(status for sent in recording.submissions for status in sent.refusals)
        ),
        confirmed=len(confirmed_at),
        failed_by_code=dict(
            Counter(
                final.failure_code or final.status
                for final in finals.values()
                if final is not None and final.status != "confirmed"
            )
        ),
        lost=sum(final is None for final in finals.values()),
        incomplete=sum(
            final is not None and order_id not in complete for order_id, final in finals.items()
        ),
        out_of_order=sum(not _is_in_order(one) for seen in lives.values() for one in seen),
        duplicates=sum(
            len(one) - len({arrival.seq for arrival in one})
            for seen in lives.values()
            for one in seen
        ),
        disconnects=recording.disconnects,
        orders_with_retries=sum(
            any(sum(a.status == "routing" for a in one) > 1 for one in seen)
            for seen in lives.values()
        ),
        confirmed_per_minute=round(60 * len(confirmed_at) / (last_at - recording.began_at), 1),
        post=Distribution.of(submission.seconds for submission in recording.accepted),
        end_to_end=Distribution.of(
            confirmed_at[submission.order_id] - submission.began_at
            for submission in recording.accepted
            if submission.order_id in confirmed_at
        ),
        commit_to_client=Distribution.of(
            arrival.received_at - arrival.happened_at
            for seen in lives.values()
            for one in seen
            for arrival in one
        ),
    )


def _final_of(seen: Sequence[Sequence[Arrival]]) -> Arrival | None:
    """Return the first listener's final event, or None when any listener has none."""
    finals = [next((arrival for arrival in one if arrival.final), None) for one in seen]
    return finals[0] if finals and None not in finals else None


def _is_complete(arrivals: Sequence[Arrival]) -> bool:
    seqs = {arrival.seq for arrival in arrivals}
    return seqs == set(range(1, len(seqs) + 1))


def _is_in_order(arrivals: Sequence[Arrival]) -> bool:
    highest = 0
    seen: set[int] = set()
    for arrival in arrivals:
        if arrival.seq not in seen and arrival.seq < highest:
            return False
        seen.add(arrival.seq)
        highest = max(highest, arrival.seq)
    return True
