"""Deploy the same stack onto LocalStack (see localstack-compose.yml)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import httpx

from local import deploy, stack
from local.emulator import REGION
from local.errors import NotRunningError, require_python
from local.paths import DEFAULT_STATE_DIRECTORY, DEFAULT_TEMPLATE, StateDirectory
from local.progress import step
from local.stack import Stack

STATE_DIRECTORY = DEFAULT_STATE_DIRECTORY / "localstack"
ENDPOINT_URL = "http://127.0.0.1:4566"
# This name leads to 127.0.0.1 from this machine, and to LocalStack inside its Lambda containers.
INNER_ENDPOINT_URL = "http://localhost.localstack.cloud:4566"
# The Postgres of localstack-compose.yml, by its name in the Lambda containers' network ...
INNER_DATABASE_URL = "postgresql://order_engine:order_engine@postgres:5432/order_engine"
# ... and by its port on this machine.
DATABASE_URL = "postgresql://order_engine:order_engine@127.0.0.1:54330/order_engine"


def deploy_stack(
    *,
    endpoint_url: str = ENDPOINT_URL,
    inner_endpoint_url: str = INNER_ENDPOINT_URL,
    database_url: str = INNER_DATABASE_URL,
    parameters: Mapping[str, str] | None = None,
    template: Path = DEFAULT_TEMPLATE,
) -> Stack:
    """Build and deploy onto the LocalStack at `endpoint_url`, and describe the stack.

    `inner_endpoint_url` and `database_url` are what the Lambda containers use. Raises
    NotRunningError when nothing answers, DeployFailedError.
    """
    require_python()
    _require_running(endpoint_url)
    state = StateDirectory.at(STATE_DIRECTORY)
    state.create()
    declared = deploy.load_template(template)
    deploy.check_parameters(declared, parameters or {})
    given = deploy.laptop_parameters(
        database_url=database_url, endpoint_url=inner_endpoint_url, bundle_dependencies=True
    )
    values = deploy.complete_parameters(declared, {**given, **(parameters or {})})
    target = deploy.Target(endpoint_url, values, template)
    with step("Build the functions and their dependencies (sam build)"):
        built_template = deploy.build(state, target)
    with step("Deploy the stack onto LocalStack (sam deploy)"):
        deployment = deploy.deploy(state, target, built_template)
    running = Stack(
        http_url=deployment.outputs.get("HttpUrl", ""),
        web_socket_url=deployment.outputs.get("WebSocketUrl", ""),
        database_url=DATABASE_URL,
        emulator_url=endpoint_url,
        stack_name=target.stack_name,
        region=REGION,
        outputs=deployment.outputs,
        parameters={key: value for key, value in values.items() if key != "DatabaseUrl"},
    )
    stack.write(state, running)
    return running


def _require_running(endpoint_url: str) -> None:
    try:
        with httpx.Client(trust_env=False, timeout=10) as client:
            client.get(f"{endpoint_url}/_localstack/health").raise_for_status()
    except httpx.HTTPError as error:
        raise NotRunningError(
            f"No LocalStack answers at {endpoint_url} ({error}).",
            hint="Start it: LOCALSTACK_AUTH_TOKEN=<token> "
            "docker compose -f localstack-compose.yml up --detach --wait",
        ) from error
