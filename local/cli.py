"""The commands: up, down, status, logs, order, launch, demo."""

from __future__ import annotations

import errno
import time
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from local import launch as launches
from local import localstack, runtime, show, stack
from local.client import ApiError, FollowTimeoutError, OrderClient
from local.errors import DiskFullError, LocalRuntimeError
from local.logs import FunctionLogs, LogLine
from local.paths import DEFAULT_STATE_DIRECTORY, DEFAULT_TEMPLATE, StateDirectory
from local.progress import console, error_console, step
from local.stack import Stack

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Run the order execution engine on this machine.",
)

StateOption = Annotated[
    Path, typer.Option("--state-dir", help="Where the stack keeps its data and logs.")
]
EmulatorPortOption = Annotated[
    int | None,
    typer.Option(
        "--emulator-port",
        min=0,
        max=65535,
        help=f"0: any free port. Otherwise the last one, or {runtime.DEFAULT_EMULATOR_PORT}.",
    ),
]
PostgresPortOption = Annotated[
    int | None,
    typer.Option(
        "--postgres-port",
        min=0,
        max=65535,
        help=f"0: any free port. Otherwise the last one, or {runtime.DEFAULT_POSTGRES_PORT}.",
    ),
]
ParameterOption = Annotated[
    list[str] | None,
    typer.Option("--parameter", help="A template parameter, Key=Value; repeatable."),
]
BundleOption = Annotated[
    bool, typer.Option("--bundle-dependencies", help="Deploy the dependencies layer too.")
]
AuthOption = Annotated[bool, typer.Option("--auth", help="Enforce IAM in the emulator.")]
ConcurrencyOption = Annotated[
    int, typer.Option("--concurrency", min=1, max=1000, help="Lambdas at work at once.")
]
FreshOption = Annotated[
    bool,
    typer.Option(
        "--fresh-emulator", help="Forget what the emulator has saved (the orders are in Postgres)."
    ),
]
TemplateOption = Annotated[Path, typer.Option("--template", help="The template to deploy.")]


@app.command()
def up(
    state_dir: StateOption = DEFAULT_STATE_DIRECTORY,
    emulator_port: EmulatorPortOption = None,
    postgres_port: PostgresPortOption = None,
    parameter: ParameterOption = None,
    bundle_dependencies: BundleOption = False,
    auth: AuthOption = False,
    concurrency: ConcurrencyOption = runtime.DEFAULT_CONCURRENCY,
    fresh_emulator: FreshOption = False,
    template: TemplateOption = DEFAULT_TEMPLATE,
) -> None:
    """Start Postgres and the AWS emulator, deploy, and leave the stack running."""
    settings = runtime.Settings(
        emulator_port=emulator_port,
        postgres_port=postgres_port,
        parameters=_key_values(parameter or []),
        bundle_dependencies=bundle_dependencies,
        auth=auth,
        concurrency=concurrency,
        fresh_emulator=fresh_emulator,
        template=template.absolute(),
    )
    running = runtime.up(StateDirectory.at(state_dir), settings)
    show.addresses(console, running)
    show.next_commands(console, running)


@app.command()
def down(state_dir: StateOption = DEFAULT_STATE_DIRECTORY) -> None:
    """Stop everything and keep the data."""
    with step("Stop the stack and save its state"):
        was_running = runtime.down(StateDirectory.at(state_dir))
    if was_running:
        console.print("The stack is stopped. Its data is kept.")
    else:
        console.print("Nothing was running.")


@app.command()
def demo(
    state_dir: StateOption = DEFAULT_STATE_DIRECTORY,
    emulator_port: EmulatorPortOption = None,
    postgres_port: PostgresPortOption = None,
    parameter: ParameterOption = None,
    bundle_dependencies: BundleOption = False,
    auth: AuthOption = False,
    concurrency: ConcurrencyOption = runtime.DEFAULT_CONCURRENCY,
    fresh_emulator: FreshOption = False,
    template: TemplateOption = DEFAULT_TEMPLATE,
) -> None:
    """Start the stack, submit a market order and watch it until it is final."""
    settings = runtime.Settings(
        emulator_port=emulator_port,
        postgres_port=postgres_port,
        parameters=_key_values(parameter or []),
        bundle_dependencies=bundle_dependencies,
        auth=auth,
        concurrency=concurrency,
        fresh_emulator=fresh_emulator,
        template=template.absolute(),
    )
    running = runtime.up(StateDirectory.at(state_dir), settings)
    final_status = _submit_and_watch(
        running, {"type": "market", "tokenIn": "SOL", "tokenOut": "USDC", "amount": "1.5"}
    )
    console.print()
    show.addresses(console, running)
    show.next_commands(console, running)
    if final_status != "confirmed":
        raise typer.Exit(2)


@app.command()
def order(
    state_dir: StateOption = DEFAULT_STATE_DIRECTORY,
    amount: Annotated[str, typer.Option(help="Amount of tokenIn.")] = "1.5",
    token_in: Annotated[str, typer.Option(help="The token to sell.")] = "SOL",  # noqa: S107
    token_out: Annotated[str, typer.Option(help="The token to buy.")] = "USDC",  # noqa: S107
    slippage_bps: Annotated[
        int | None, typer.Option(help="Slippage tolerance in basis points.")
    ] = None,
    client_order_id: Annotated[
        str | None, typer.Option(help="Your own id; the same one again is the same order.")
    ] = None,
) -> None:
    """Submit a market order to the running stack and watch it until it is final.

    Ends with code 2 when the order is refused or ends other than confirmed.
    """
    running = stack.read_running(StateDirectory.at(state_dir))
    request = {
        "type": "market",
        "tokenIn": token_in.upper(),
        "tokenOut": token_out.upper(),
        "amount": amount,
        "slippageBps": slippage_bps,
        "clientOrderId": client_order_id,
    }
    given = {key: value for key, value in request.items() if value is not None}
    if _submit_and_watch(running, given) != "confirmed":
        raise typer.Exit(2)


@app.command()
def launch(
    token: Annotated[str, typer.Argument(help="A test token: MOON, PEPE or WIF.")],
    state_dir: StateOption = DEFAULT_STATE_DIRECTORY,
    venue: Annotated[str, typer.Option(help="A venue's name; empty: all of them.")] = "",
    opens_in_seconds: Annotated[
        float, typer.Option(min=0, help="When trading begins; 0: at once.")
    ] = 0,
) -> None:
    """Open a test token's pools on the running stack, which releases its sniper orders."""
    known = launches.venue_names()
    if venue not in ("", *known):
        listed = " or ".join(known)
        raise typer.BadParameter(f"{venue!r} is not {listed}", param_hint="--venue")
    running = stack.read_running(StateDirectory.at(state_dir))
    venues = [venue] if venue else known
    for pool in launches.launch(running, token, venues=venues, opens_in_seconds=opens_in_seconds):
        before = " (known before, which stays)" if pool.was_known else ""
        moment = f"{pool.opens_at:%Y-%m-%d %H:%M:%S} UTC"
        console.print(f"{pool.venue}'s pool of {escape(pool.token)} opens {moment}{before}")


def _submit_and_watch(running: Stack, request: dict[str, Any]) -> str:
    """Submit an order and print its events as they come; return its last status."""
    sold = f"{request['amount']} {request['tokenIn']} for {request['tokenOut']}"
    console.print(f"\nMarket order: {escape(sold)}")
    with OrderClient(running.http_url) as client:
        try:
            submission = client.submit(request)
        except ApiError as error:
            error_console.print(f"[red]refused:[/red] {error.status} {escape(error.detail)}")
            for line in error.errors if len(error.errors) > 1 else ():
                error_console.print(f"  {escape(line)}")
            raise typer.Exit(2) from error
        console.print(f"  order {escape(submission.order_id)}")
        started: datetime | None = None
        status = ""
        try:
            for event in client.follow(submission.web_socket_url, submission.order_id):
                console.print(show.event_line(event, started))
                started = started or datetime.fromisoformat(event["timestamp"])
                status = event["status"]
        except FollowTimeoutError as error:
            raise LocalRuntimeError(str(error), hint="What the functions say: make logs") from error
        for line in show.order_summary(client.order(submission.order_id)):
            console.print(escape(line))
    return status


@app.command()
def status(state_dir: StateOption = DEFAULT_STATE_DIRECTORY) -> None:
    """Say what runs and where it answers. Ends with code 3 when no stack runs."""
    report = runtime.report(StateDirectory.at(state_dir))
    show.report(console, report)
    if not report.is_well:
        raise typer.Exit(3)


@app.command()
def logs(
    state_dir: StateOption = DEFAULT_STATE_DIRECTORY,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more.")] = False,
    order_id: Annotated[str, typer.Option("--order", help="Only lines with this order id.")] = "",
    function: Annotated[str, typer.Option(help="Only functions of this name.")] = "",
    minutes: Annotated[int, typer.Option(min=1, help="How far back to begin.")] = 15,
    lines: Annotated[int, typer.Option(min=1, help="At most so many (the last ones).")] = 200,
    raw: Annotated[bool, typer.Option("--raw", help="As logged: one JSON object a line.")] = False,
) -> None:
    """Print what the functions logged."""
    running = stack.read_running(StateDirectory.at(state_dir))
    reader = FunctionLogs(running)
    start = int((time.time() - 60 * minutes) * 1000)

    def show_line(line: LogLine) -> None:
        if raw:
            typer.echo(line.text)
        elif not line.is_metric:
            console.print(show.log_line(line.moment, line.source, line.text, line.fields))

    if follow:
        try:
            for line in reader.follow(start, source=function, containing=order_id):
                show_line(line)
        except KeyboardInterrupt:
            return
    for line in reader.since(start, source=function, containing=order_id)[-lines:]:
        show_line(line)


@app.command("deploy-localstack")
def deploy_localstack(
    endpoint_url: Annotated[
        str, typer.Option(help="LocalStack from this machine.")
    ] = localstack.ENDPOINT_URL,
    inner_endpoint_url: Annotated[
        str, typer.Option(help="LocalStack from its Lambda containers.")
    ] = localstack.INNER_ENDPOINT_URL,
    database_url: Annotated[
        str, typer.Option(help="Postgres from the Lambda containers.")
    ] = localstack.INNER_DATABASE_URL,
    parameter: ParameterOption = None,
) -> None:
    """Build and deploy onto LocalStack."""
    running = localstack.deploy_stack(
        endpoint_url=endpoint_url,
        inner_endpoint_url=inner_endpoint_url,
        database_url=database_url,
        parameters=_key_values(parameter or []),
    )
    show.addresses(console, running)


def _key_values(pairs: list[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"{pair!r} is not Key=Value", param_hint="--parameter")
        values[key] = value
    return values


def main() -> None:
    """Run a command; end with code 1 and a plain message when the laptop is at fault."""
    try:
        try:
            app()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise DiskFullError(f"The disk is full: {error}", hint="Free some space.") from error
    except LocalRuntimeError as error:
        error_console.print(f"[red]error:[/red] {escape(error.message)}")
        if error.hint:
            error_console.print(escape(error.hint))
        if error.log is not None:
            error_console.print(f"Details: {escape(str(error.log))}")
        raise SystemExit(1) from error
