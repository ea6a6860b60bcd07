"""How much memory and processor time the parts of a running stack take."""

from __future__ import annotations

import os
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from local.stack import Stack, StackProcesses

SAMPLE_SECONDS = 1.0
OTHERS = "other programs"
CLIENT = "client"
EMULATOR = "emulator"
POSTGRES = "Postgres"
# What workers and sessions spent between their last sample and their end.
ENDED = "ended processes"
OTHER_WORKERS = "other workers"
# The emulator gives each worker a folder with the name of its function.
WORKER_FOLDER = re.compile(r"ministack-lambda-.*?-?([A-Z][A-Za-z]*Function)-")


class PartUse(BaseModel):
    """Peak of the summed resident memory, and the processor time spent, of one part."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)

    processes: int
    peak_memory_mib: float
    cpu_seconds: float
    share_of_machine: float


class MemorySample(BaseModel):
    """The memory that a process of each part has for itself, on the average of the part."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)

    at_seconds: float
    mib_per_process: dict[str, float]


class Footprint:
    """Sample the processes of a stack, and this one, until `stop`.

    Resident memory counts pages that processes share once for each of them. Processor time of a
    process that ends is known up to its last sample; the rest of it, which the servers know of
    their children, is `ENDED`. What the machine did besides is `OTHERS`.
    """

    def __init__(self, pids: StackProcesses) -> None:
        self._pids = pids
        self._began_at = time.monotonic()
        self._seconds = 0.0
        self._busy_cpu = -_busy_cpu_seconds()
        self._peak_memory: Counter[str] = Counter()
        self._peak_processes: Counter[str] = Counter()
        self._first_cpu: dict[psutil.Process, float] = {}
        self._last_cpu: dict[str, dict[psutil.Process, float]] = defaultdict(dict)
        self._workers: dict[psutil.Process, str] = {}
        self._alive: set[psutil.Process] = set()
        self._servers = [*_alive(pids.emulator), *_alive(pids.postgres)]
        self._ended_cpu = -sum(map(_ended_cpu_seconds, self._servers))
        self.memory: list[MemorySample] = []
        self._stopped = threading.Event()
        self._sample(first=True)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take the last sample."""
        self._stopped.set()
        self._thread.join()
        self._sample()
        self._busy_cpu += _busy_cpu_seconds()
        self._ended_cpu += sum(map(_ended_cpu_seconds, self._servers))
        self._seconds = time.monotonic() - self._began_at

    def parts(self) -> dict[str, PartUse]:
        """Return each part's use, by its name. Call after `stop`."""
        processors = os.cpu_count() or 1
        uses = {}
        for part in self._peak_processes:
            cpu_seconds = sum(
                seconds - self._first_cpu.get(process, 0.0)
                for process, seconds in self._last_cpu[part].items()
            )
            uses[part] = PartUse(
                processes=self._peak_processes[part],
                peak_memory_mib=round(self._peak_memory[part] / 2**20, 1),
                cpu_seconds=round(cpu_seconds, 2),
                share_of_machine=round(cpu_seconds / (self._seconds * processors), 3),
            )
        uses[ENDED] = self._without_processes(self._ended_cpu - self._sampled_of_ended())
        ours = sum(use.cpu_seconds for use in uses.values())
        uses[OTHERS] = self._without_processes(self._busy_cpu - ours)
        return uses

    def _without_processes(self, cpu_seconds: float) -> PartUse:
        cpu_seconds = max(0.0, cpu_seconds)
        return PartUse(
            processes=0,
            peak_memory_mib=0,
            cpu_seconds=round(cpu_seconds, 2),
            share_of_machine=round(cpu_seconds / (self._seconds * (os.cpu_count() or 1)), 3),
        )

    def _sampled_of_ended(self) -> float:
        """Return what processes that have ended had spent in their lives at their last sample."""
        return sum(
            seconds
            for processes in self._last_cpu.values()
            for process, seconds in processes.items()
            if process not in self._alive
        )

    def _run(self) -> None:
        while not self._stopped.wait(SAMPLE_SECONDS):
            self._sample()

    def _sample(self, *, first: bool = False) -> None:
        self._alive = set()
        private_mib = {}
        for part, processes in self._processes().items():
            memory = private = count = 0
            for process in processes:
                try:
                    with process.oneshot():
                        times = process.cpu_times()
                        used = process.memory_info()
                except psutil.Error:
                    continue
                self._alive.add(process)
                count += 1
                memory += used.rss
                private += used.rss - getattr(used, "shared", 0)
                seconds = times.user + times.system
                self._last_cpu[part][process] = seconds
                if first:
                    self._first_cpu[process] = seconds
            self._peak_memory[part] = max(self._peak_memory[part], memory)
            self._peak_processes[part] = max(self._peak_processes[part], count)
            if count:
                private_mib[part] = round(private / count / 2**20, 2)
        at_seconds = round(time.monotonic() - self._began_at, 1)
        self.memory.append(MemorySample(at_seconds=at_seconds, mib_per_process=private_mib))

    def _processes(self) -> dict[str, list[psutil.Process]]:
        return {
            EMULATOR: _alive(self._pids.emulator),
            **self._workers_by_function(),
            POSTGRES: [*_alive(self._pids.postgres), *_children(self._pids.postgres)],
            CLIENT: _alive(os.getpid()),
        }

    def _workers_by_function(self) -> dict[str, list[psutil.Process]]:
        workers: dict[str, list[psutil.Process]] = defaultdict(list)
        for process in _children(self._pids.emulator):
            if process not in self._workers:
                self._workers[process] = _function_of(process)
            workers[self._workers[process]].append(process)
        return workers


def processes_of(stack: Stack) -> StackProcesses:
    """Return the stack's process ids. Raises ValueError when it does not run on this machine."""
    if stack.pids is None:
        raise ValueError(f"the stack {stack.stack_name} does not run on this machine")
    return stack.pids


@contextmanager
def footprint(stack: Stack) -> Iterator[Footprint]:
    """Sample for the length of the block."""
    sampling = Footprint(processes_of(stack))
    try:
        yield sampling
    finally:
        sampling.stop()


def _busy_cpu_seconds() -> float:
    """Return what all processors have spent on anything since the machine was started."""
    times = psutil.cpu_times()
    return float(times.user + times.system + getattr(times, "nice", 0.0))


def _ended_cpu_seconds(server: psutil.Process) -> float:
    """Return what all children that the server has seen end have spent in their lives."""
    try:
        times = server.cpu_times()
    except psutil.Error:
        return 0.0
    ended = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return float(ended)


def _function_of(worker: psutil.Process) -> str:
    """Name the function that a worker runs."""
    try:
        return function_in(" ".join(worker.cmdline()))
    except psutil.Error:
        return OTHER_WORKERS


def function_in(command_line: str) -> str:
    """Name the function that the worker with this command line runs."""
    found = WORKER_FOLDER.search(command_line)
    return found[1] if found else OTHER_WORKERS


def _alive(pid: int) -> list[psutil.Process]:
    try:
        return [psutil.Process(pid)]
    except psutil.NoSuchProcess:
        return []


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
