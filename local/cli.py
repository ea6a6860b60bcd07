"""The commands: up, down, status, logs, order, demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from local import runtime
from local.errors import LocalRuntimeError
from local.paths import DEFAULT_STATE_DIRECTORY, DEFAULT_TEMPLATE, StateDirectory
from local.progress import console, error_console
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
    int, typer.Option("--emulator-port", min=0, max=65535, help="0: any free port.")
]
PostgresPortOption = Annotated[
    int, typer.Option("--postgres-port", min=0, max=65535, help="0: any free port.")
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
TemplateOption = Annotated[Path, typer.Option("--template", help="The template to deploy.")]


@app.command()
def up(
    state_dir: StateOption = DEFAULT_STATE_DIRECTORY,
    emulator_port: EmulatorPortOption = runtime.DEFAULT_EMULATOR_PORT,
    postgres_port: PostgresPortOption = runtime.DEFAULT_POSTGRES_PORT,
    parameter: ParameterOption = None,
    bundle_dependencies: BundleOption = False,
    auth: AuthOption = False,
    concurrency: ConcurrencyOption = runtime.DEFAULT_CONCURRENCY,
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
        template=template.absolute(),
    )
    running = runtime.up(StateDirectory.at(state_dir), settings)
    _print_addresses(running)


@app.command()
def down(state_dir: StateOption = DEFAULT_STATE_DIRECTORY) -> None:
    """Stop everything and keep the data."""
    if runtime.down(StateDirectory.at(state_dir)):
        console.print("The stack is stopped. Its data is kept.")
    else:
        console.print("Nothing was running.")


def _print_addresses(running: Stack) -> None:
    console.print(f"  HTTP API    {escape(running.http_url)}")
    console.print(f"  WebSocket   {escape(running.web_socket_url)}")


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
        app()
    except LocalRuntimeError as error:
        error_console.print(f"[red]error:[/red] {escape(error.message)}")
        if error.hint:
            error_console.print(escape(error.hint))
        if error.log is not None:
            error_console.print(f"Details: {escape(str(error.log))}")
        raise SystemExit(1) from error
