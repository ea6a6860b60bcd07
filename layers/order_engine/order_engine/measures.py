"""What is counted: a value under a name, for whoever keeps metrics."""

from typing import Literal, NamedTuple


class Measure(NamedTuple):
    """One value of a metric; ``unit`` is CloudWatch's name of it."""

    name: str
    value: float
    unit: Literal["Count", "Milliseconds", "Seconds"] = "Count"
