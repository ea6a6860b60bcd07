"""Build and deploy the stack with `sam`, onto the emulator or onto LocalStack."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local import aws
from local.emulator import REGION, client_environment
from local.errors import DeployFailedError, DiskFullError, log_tail, tells_full_disk
from local.paths import REPOSITORY, StateDirectory, write_private

STACK_NAME = "order-engine"
BUCKET = "order-engine-artifacts"
DEPENDENCIES_LAYER = "DependenciesLayer"
BUILD_SECONDS = 900
DEPLOY_SECONDS = 600
# `sam deploy` looks for progress every 5 seconds unless told otherwise; the emulator is done in 2.
POLL_SECONDS = "0.25"


@dataclass(frozen=True)
class Target:
    """Where to deploy: an AWS endpoint and the values of the template's parameters."""

    endpoint_url: str
    parameters: Mapping[str, str]
    template: Path = REPOSITORY / "template.yaml"
    stack_name: str = STACK_NAME

    @property
    def bundles_dependencies(self) -> bool:
        """Tell whether the dependencies layer is deployed (it is, unless told otherwise)."""
        return self.parameters.get("BundleDependencies", "true") == "true"


@dataclass(frozen=True)
class Deployment:
    """A deployed stack: its outputs and the value of each parameter."""

    outputs: dict[str, str]
    parameters: dict[str, str] = field(default_factory=dict)


def python_runtime() -> str:
    """Name the Lambda runtime of this very Python, which runs the emulator's workers."""
    return f"python{sys.version_info.major}.{sys.version_info.minor}"


def architecture() -> str:
    """Name this machine's architecture as Lambda does."""
    return "arm64" if platform.machine().lower() in ("arm64", "aarch64") else "x86_64"


def laptop_parameters(
    *, database_url: str, endpoint_url: str, bundle_dependencies: bool
) -> dict[str, str]:
    """Return the template parameters that the laptop decides."""
    return {
        "DatabaseUrl": database_url,
        "EmulatorEndpoint": endpoint_url,
        "Runtime": python_runtime(),
        "Architecture": architecture(),
        "BundleDependencies": "true" if bundle_dependencies else "false",
        # Each is a process here, half a second of a processor when it starts. With more of them a
        # burst on a new stack makes so many start at once that none is ready before its time-out.
        "SubmitConcurrency": "20",
        "WebSocketConcurrency": "40",
        "LifecycleConcurrency": str(lifecycle_concurrency()),
    }


def lifecycle_concurrency() -> int:
    """Return how many transitions this machine's processors carry out at once."""
    return max(8, 5 * (os.cpu_count() or 1))


def load_template(path: Path) -> dict[str, Any]:
    """Parse a CloudFormation template; `!Ref` and its like come out as their long forms."""
    from samcli.yamlhelper import yaml_parse  # type: ignore[import-untyped]

    parsed = yaml_parse(path.read_text(encoding="utf-8"))
    plain: dict[str, Any] = json.loads(json.dumps(parsed, default=str))
    return plain


def complete_parameters(template: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, str]:
    """Give every parameter of the template a value: the given one, else its default.

    `sam deploy` keeps the last deploy's value of a parameter that it is not told, which would make
    a stack depend on its past. Given parameters that the template lacks are dropped when the
    runtime sets them and are an error otherwise (see `check_parameters`).
    """
    declared: Mapping[str, Any] = template.get("Parameters", {})
    values: dict[str, str] = {}
    for name, declaration in declared.items():
        if name in given:
            values[name] = given[name]
        elif "Default" in declaration:
            values[name] = _text(declaration["Default"])
    return values


def check_parameters(template: Mapping[str, Any], chosen: Mapping[str, str]) -> None:
    """Check that the template has every parameter that the caller chose.

    Raises DeployFailedError naming the unknown ones.
    """
    unknown = sorted(set(chosen) - set(template.get("Parameters", {})))
    if unknown:
        raise DeployFailedError(
            f"The template has no parameter {', '.join(unknown)}.",
            hint=f"It has: {', '.join(sorted(template.get('Parameters', {})))}",
        )


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def build(state: StateDirectory, target: Target) -> Path:
    """Build the functions and layers; return the built template.

    `sam` decides by the sources' hashes what it builds again. Raises DeployFailedError.
    """
    build_directory = state.deploy / "build"
    state.deploy.mkdir(parents=True, exist_ok=True)
    # `sam build` knows no conditions: it would download the layer's packages to leave them out.
    skipped = [] if target.bundles_dependencies else [f"--exclude={DEPENDENCIES_LAYER}"]
    _sam(
        state,
        target,
        "build",
        f"--template-file={target.template}",
        f"--build-dir={build_directory}",
        f"--cache-dir={state.deploy / 'cache'}",
        "--cached",
        "--parallel",
        *skipped,
        f"--parameter-overrides={_parameters_file(state, target)}",
        timeout_seconds=BUILD_SECONDS,
    )
    return build_directory / "template.yaml"


def deploy(state: StateDirectory, target: Target, built_template: Path) -> Deployment:
    """Deploy the built template; return the stack's outputs. Raises DeployFailedError.

    Deploying what is deployed already changes nothing.
    """
    aws.ensure_bucket(target.endpoint_url, BUCKET)
    _recover_failed_stack(target)
    arguments = (
        f"--template-file={built_template}",
        f"--stack-name={target.stack_name}",
        f"--s3-bucket={BUCKET}",
        f"--region={REGION}",
        "--capabilities=CAPABILITY_IAM",
        "--no-confirm-changeset",
        "--no-fail-on-empty-changeset",
        "--no-progressbar",
        f"--parameter-overrides={_parameters_file(state, target)}",
    )
    try:
        _sam(state, target, "deploy", *arguments, timeout_seconds=DEPLOY_SECONDS)
    except DeployFailedError as error:
        # Whole, where the table of `sam deploy` cuts the reasons short.
        reasons = aws.failures(target.endpoint_url, target.stack_name)
        error.hint = "\n".join(reasons) or error.hint
        raise
    outputs = aws.stack_outputs(target.endpoint_url, target.stack_name)
    return Deployment(outputs, dict(target.parameters))


def _recover_failed_stack(target: Target) -> None:
    """Delete a stack that never came up: CloudFormation refuses to update it."""
    status = aws.stack_status(target.endpoint_url, target.stack_name)
    if status in ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED"):
        aws.delete_stack(target.endpoint_url, target.stack_name)


def _parameters_file(state: StateDirectory, target: Target) -> str:
    """Write the parameters to a file: the database password stays out of the process list."""
    file = state.deploy / "parameters.yaml"
    write_private(file, json.dumps(dict(target.parameters), indent=2))  # JSON is YAML
    return f"file://{file}"


def _sam(
    state: StateDirectory, target: Target, command: str, *arguments: str, timeout_seconds: float
) -> None:
    """Run a `sam` command, its output going to a log file."""
    log = state.deploy / f"{command}.log"
    environment = client_environment(target.endpoint_url)
    scripts = Path(sys.executable).parent
    environment.update(
        {
            # `sam build` looks up the runtime's interpreter on the PATH.
            "PATH": f"{scripts}{os.pathsep}{environment.get('PATH', '')}",
            "SAM_CLI_TELEMETRY": "0",
            "SAM_CLI_POLL_DELAY": POLL_SECONDS,
            "__SAM_CLI_APP_DIR": str(_sam_settings(state)),
        }
    )
    with log.open("w", encoding="utf-8") as output:
        try:
            result = subprocess.run(
                [sys.executable, "-m", "samcli", command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # `sam build` keeps downloads in its working directory, where two stacks collide.
                cwd=state.deploy,
                env=environment,
                timeout=timeout_seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DeployFailedError(
                f"sam {command} did not end within {timeout_seconds:.0f} s.",
                hint=log_tail(log),
                log=log,
            ) from error
    if result.returncode != 0:
        raise _sam_error(command, log)


def _sam_error(command: str, log: Path) -> DeployFailedError | DiskFullError:
    tail = log_tail(log, lines=400)
    if tells_full_disk(tail):
        return DiskFullError(f"sam {command}: the disk is full.", hint="Free some space.", log=log)
    wanted = re.compile(r"FAILED|rror|ROLLBACK|rejected|not supported", re.IGNORECASE)
    telling = [line for line in tail.splitlines() if wanted.search(line)]
    return DeployFailedError(
        f"sam {command} failed.",
        hint="\n".join(telling[-20:]) or log_tail(log),
        log=log,
    )


def _sam_settings(state: StateDirectory) -> Path:
    """Give `sam` settings of this stack's own, in which its weekly look for updates was just done.

    Otherwise two stacks write the same file in the home directory, and a laptop without a network
    waits for the look-up to fail.
    """
    directory = state.deploy / "sam"
    directory.mkdir(parents=True, exist_ok=True)
    settings = {"telemetryEnabled": False, "lastVersionCheck": time.time()}
    (directory / "metadata.json").write_text(json.dumps(settings), encoding="utf-8")
    return directory
