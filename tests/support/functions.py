"""Load a function as Lambda does."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from order_engine import bootstrap

REPOSITORY = Path(__file__).parents[2]


def load_function(name: str) -> ModuleType:
    """Import a function and all it is composed of afresh, as a cold start does."""
    bootstrap.reset()
    return import_handler(name, "app")


def import_handler(folder: str, module_name: str) -> ModuleType:
    """Import a module with a handler out of a function's folder."""
    path = REPOSITORY / "functions" / folder / f"{module_name}.py"
    spec = importlib.util.spec_from_file_location(f"{folder}_{module_name}_function", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
