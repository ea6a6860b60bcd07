"""What the reader sees while something takes its time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

console = Console(highlight=False, soft_wrap=True)
error_console = Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Show that `text` is being done, and afterwards how long it took."""
    started = time.monotonic()
    if console.is_terminal:
        with console.status(escape(text)):
            yield
    else:
        console.print(f"  {escape(text)} ...")
        yield
    seconds = time.monotonic() - started
    console.print(f"  [green]done[/green]  {escape(text)} [dim]({seconds:.1f} s)[/dim]")
