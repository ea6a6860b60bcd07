"""Measurements of a running stack, and of the queue alone. Figures: docs/measurements.md."""

import sys
from pathlib import Path

# The engine's package is a layer of the stack and not installed; some measurements use it, too.
sys.path.insert(0, str(Path(__file__).parents[1] / "layers" / "order_engine"))
