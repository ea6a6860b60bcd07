"""What the figures were measured on, and how fast it was just then."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

CALIBRATION_ADDITIONS = 5_000_000


class Machine(BaseModel):
    """The machine of a run, and its load before it."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)

    processors: int
    processor: str
    memory_gib: float
    python: str
    system: str
    load_before: float

    def __str__(self) -> str:
        return (
            f"{self.processors} processors ({self.processor}), {self.memory_gib:.0f} GiB,"
            f" {self.system}, Python {self.python}"
        )


def this_machine() -> Machine:
    """Describe this machine as it is now."""
    return Machine(
        processors=os.cpu_count() or 1,
        processor=_processor_name(),
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        load_before=round(os.getloadavg()[0], 2),
    )


def calibration_seconds() -> float:
    """Return the processor time of a fixed loop: a virtual machine's speed drifts."""
    began = time.process_time()
    total = 0
    for number in range(CALIBRATION_ADDITIONS):
        total += number
    return round(time.process_time() - began, 3)


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
