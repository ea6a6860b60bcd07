"""Render the state machine's YAML, in which shared parts stand once, to the JSON that AWS takes."""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

SOURCE = Path(__file__).with_name("order_execution.asl.yaml")
RENDERED = SOURCE.with_suffix(".json")


def rendered() -> str:
    """Return the definition as JSON text, without the keys ``x-...``: they only name parts."""
    source: dict[str, Any] = yaml.safe_load(SOURCE.read_text(encoding="utf-8"))
    definition = {key: value for key, value in source.items() if not key.startswith("x-")}
    return json.dumps(definition, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    RENDERED.write_text(rendered(), encoding="utf-8")
    sys.stdout.write(f"{RENDERED.name} is rendered.\n")
