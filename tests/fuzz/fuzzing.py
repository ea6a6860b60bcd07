"""Run schemathesis against a running API, and count what came of it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
CONFIG_FILE = Path(__file__).with_name("schemathesis.toml")


@dataclass(frozen=True)
class Outcome:
    """What schemathesis sent, what came back, and whether it found fault with it."""

    answers: Counter[tuple[str, int]]
    is_faultless: bool
    report: str

    @property
    def requests(self) -> int:
        """Count the requests that were answered."""
        return self.answers.total()

    @property
    def server_errors(self) -> int:
        """Count the answers that blame the server."""
        return sum(count for (_, status), count in self.answers.items() if status >= 500)

    def table(self) -> str:
        """Return the numbers of answers by operation and status."""
        statuses = sorted({status for _, status in self.answers})
        lines = ["".join(f"{head:>7}" for head in [*statuses, "all"]) + "  operation"]
        for operation in sorted({operation for operation, _ in self.answers}):
            counts = [self.answers[operation, status] for status in statuses]
            cells = [*(str(count or "") for count in counts), str(sum(counts))]
            lines.append("".join(f"{cell:>7}" for cell in cells) + f"  {operation}")
        return "\n".join(lines)


def fuzz(
    http_url: str, *, examples: int, seed: int, phases: Sequence[str] = (), seconds: float = 1800
) -> Outcome:
    """Send the API requests made out of its OpenAPI document.

    `examples` is the most per operation and phase of made-up ones. Raises
    subprocess.TimeoutExpired.
    """
    base_url = http_url.rstrip("/")
    with tempfile.TemporaryDirectory() as folder:
        events_file = Path(folder) / "events.ndjson"
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG_FILE)),
            *("run", f"{base_url}/api/openapi.json", "--url", base_url),
            *("--max-examples", str(examples), "--seed", str(seed)),
            *(("--phases", ",".join(phases)) if phases else ()),
            *("--report", "ndjson", "--report-ndjson-path", str(events_file), "--no-color"),
        ]
        run = subprocess.run(
            command,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        answers = Counter(_answers(events_file)) if events_file.exists() else Counter()
    return Outcome(answers, run.returncode == 0, run.stdout + run.stderr)


def _answers(events_file: Path) -> Iterator[tuple[str, int]]:
    """Yield operation and status of every answered request."""
    with events_file.open(encoding="utf-8") as lines:
        for line in lines:
            event: dict[str, Any] = json.loads(line)
            recorder = event.get("ScenarioFinished", {}).get("recorder", {})
            cases = recorder.get("cases", {})
            for identity, interaction in recorder.get("interactions", {}).items():
                if interaction.get("response") and identity in cases:
                    case = cases[identity]["value"]
                    yield f"{case['method']} {case['path']}", interaction["response"]["status_code"]
