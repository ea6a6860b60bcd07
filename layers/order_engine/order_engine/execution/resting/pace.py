"""How many quotes a tick may ask for, and which pairs' turn it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """Bound what one tick does.

    Released orders wait for their turn like all others, so ``releases_per_tick`` bounds the tick's
    work and not the load of the venues. ``rotation`` counts the ticks: by it, pairs take turns.
    """

    releases_per_tick: int = 500
    quotes_per_tick: int = 20
    rotation: Callable[[], int] = lambda: 0

    def pairs_per_tick(self, venues: int) -> int:
        """Return for how many pairs that many venues can be asked."""
        return max(1, self.quotes_per_tick // max(1, venues))

    def shares(self, urgent: int, paced: int, *, most: int, turn: int) -> tuple[int, int]:
        """Share ``most`` pairs of a tick among urgent and paced ones; neither shuts out the other.

        Half of the tick is kept for paced pairs, as far as there are any; one that serves a single
        pair serves them in turn.
        """
        if most == 1 and urgent and paced:
            return (0, 1) if turn % 2 else (1, 0)
        first = min(urgent, most - min(paced, most // 2))
        return first, min(paced, most - first)


def in_turn[Pair](pairs: Sequence[Pair], most: int, turn: int) -> list[Pair]:
    """Return the ``most`` pairs whose turn it is; each is the first of them in its turn."""
    if not pairs or not most:
        return []
    step = most if len(pairs) > most else 1
    start = turn * step % len(pairs)
    return [*pairs[start:], *pairs[:start]][:most]
