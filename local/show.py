"""How orders, their events and log lines look on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.markup import escape

from local.runtime import Report
from local.stack import Stack

COLORS = {
    "pending": "white",
    "open": "cyan",
    "triggered": "cyan",
    "routing": "blue",
    "building": "magenta",
    "submitted": "yellow",
    "confirmed": "green",
    "failed": "red",
    "canceled": "yellow",
    "expired": "yellow",
}
_BOILERPLATE = {
    "level", "message", "timestamp", "location", "service", "xray_trace_id", "cold_start",
    "function_name", "function_memory_size", "function_arn", "function_request_id", "sampling_rate",
}  # fmt: skip


def event_line(event: Mapping[str, Any], started: datetime | None) -> str:
    """Format an event as one line: when, after which time, what, and what is new in it."""
    status = str(event["status"])
    moment = datetime.fromisoformat(str(event["timestamp"]))
    elapsed = f"+{(moment - started).total_seconds():.2f} s" if started else "+0.00 s"
    color = COLORS.get(status, "white")
    details = escape("  ".join(_details(event)))
    return f"  {elapsed:>9}  [{color}]{status:<10}[/{color}] {details}"


def _details(event: Mapping[str, Any]) -> Iterable[str]:
    attempt = int(event.get("attempt") or 0)
    if attempt > 1:
        yield f"attempt {attempt}"
    labels = {
        "chosenDex": "",
        "executedPrice": "price ",
        "amountOut": "amount out ",
        "txHash": "transaction ",
        "error": "",
    }
    for field, label in labels.items():
        if event.get(field):
            yield f"{label}{short(event[field])}"


def short(value: object) -> str:
    """Shorten a decimal number to 6 places, or 6 digits below 1 (other text stays)."""
    text = str(value)
    whole, point, fraction = text.partition(".")
    if not point or len(fraction) <= 6 or not (whole + fraction).lstrip("-").isdigit():
        return text
    number = Decimal(text)
    return f"{number:.6f}" if abs(number) >= 1 else f"{Decimal(f'{number:.5e}').normalize():f}"


def order_summary(order: Mapping[str, Any]) -> list[str]:
    """Summarize an order and both venues' quotes, for under its events."""
    lines = []
    for quote in order.get("quotes") or []:
        mark = "*" if quote.get("dex") == order.get("chosenDex") else " "
        lines.append(
            f"  {mark} {quote.get('dex', '?'):<8} price {short(quote.get('price', '?'))}, "
            f"{quote.get('amountOut', '?')} {order.get('tokenOut', '')} out, "
            f"fee {quote.get('feePct', '?')} %, impact {quote.get('priceImpactPct', '?')} %"
        )
    return lines


def addresses(console: Console, stack: Stack) -> None:
    """Print where the stack answers, and whom."""
    console.print(f"  Console     {escape(stack.http_url)}/")
    console.print(f"  HTTP API    {escape(stack.http_url)}/api/orders (described at /docs)")
    console.print(f"  WebSocket   {escape(stack.web_socket_url)}")
    access = stack.outputs.get("Access", "")
    if access.startswith("OPEN"):
        console.print(f"  Access      [yellow]{escape(access)}[/yellow] (see JwtIssuer)")
    elif access:
        console.print(f"  Access      with a token of {escape(access)}")


def next_commands(console: Console, stack: Stack) -> None:
    """Print what to try next; every line works as pasted."""
    body = '{"type":"market","tokenIn":"SOL","tokenOut":"USDC","amount":1.5}'
    console.print("\nNext:")
    for command in (
        "make order AMOUNT=10 IN=SOL OUT=USDC",
        f"curl -sS {stack.http_url}/api/orders/execute "
        f"-H 'content-type: application/json' -d '{body}'",
        f'npx wscat -c "{stack.web_socket_url}?orderId=<orderId>"',
        "make logs     # what the functions say",
        "make status   # what runs, and where",
        "make down     # stop everything; the data is kept",
    ):
        console.print(f"  {escape(command)}")


def report(console: Console, found: Report) -> None:
    """Print what runs in a state directory."""
    server, cloud, stack = found.postgres, found.emulator, found.stack
    if server is None and cloud is None:
        console.print(f"Nothing runs in {escape(str(found.root))}. Start it with: make up")
        return
    stopped = "[red]stopped[/red]"
    postgres_state = stopped if server is None else f"port {server.port}, process {server.pid}"
    console.print(f"  Postgres    {postgres_state}")
    emulator_state = stopped
    if cloud is not None:
        emulator_state = f"{cloud.url}, process {cloud.pid}, {found.workers} Lambda workers"
    console.print(f"  AWS         {emulator_state}")
    if stack is None:
        console.print("  Stack       [red]not deployed[/red]; make up deploys it")
        return
    addresses(console, stack)
    console.print(f"  Database    {escape(stack.database_url)}")
    color = "green" if found.health == "ok" else "red"
    console.print(f"  Health      [{color}]{escape(found.health or 'unknown')}[/{color}]")
    console.print(f"  Logs, data  {escape(str(found.root))}")


def log_line(moment: datetime, source: str, text: str, fields: Mapping[str, Any] | None) -> str:
    """Format a log line of a function; structured ones lose what every line repeats."""
    clock = moment.astimezone(UTC).strftime("%H:%M:%S.%f")[:-3]
    head = f"[dim]{clock}[/dim] [cyan]{escape(source):<12}[/cyan]"
    if fields is None:
        return f"{head} {escape(text)}"
    level = str(fields.get("level", ""))
    color = {"ERROR": "red", "CRITICAL": "red", "WARNING": "yellow"}.get(level, "default")
    rest = "  ".join(
        f"{key}={value}" for key, value in fields.items() if key not in _BOILERPLATE and value
    )
    message = escape(str(fields.get("message", "")))
    return f"{head} [{color}]{level:<7}[/{color}] {message}  [dim]{escape(rest)}[/dim]"
