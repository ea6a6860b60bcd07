"""The laptop runtime with a small template: start, stop, crash, start again."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from local import aws, postgres, processes, runtime, stack
from local.errors import (
    BusyError,
    DeployFailedError,
    LocalRuntimeError,
    NotRunningError,
    PortTakenError,
)
from local.paths import REPOSITORY, StateDirectory
from local.postgres import embedded_postgres
from local.runtime import Settings, running_stack
from local.stack import Stack

TEMPLATE = """
AWSTemplateFormatVersion: '2010-09-09'
Transform: AWS::Serverless-2016-10-31
Parameters:
  DatabaseUrl: {Type: String, NoEcho: true}
  EmulatorEndpoint: {Type: String}
  Runtime: {Type: String}
  BundleDependencies: {Type: String, Default: 'true'}
  Greeting: {Type: String, Default: hello there}
  Origins: {Type: CommaDelimitedList, Default: 'https://a.example,https://b.example'}
Conditions:
  Bundles: !Equals [!Ref BundleDependencies, 'true']
Resources:
  DependenciesLayer:
    Type: AWS::Serverless::LayerVersion
    Condition: Bundles
    Metadata: {BuildMethod: !Ref Runtime}
    Properties: {ContentUri: layer/}
  HttpApi:
    Type: AWS::ApiGatewayV2::Api
    Properties:
      Name: orders
      ProtocolType: HTTP
      CorsConfiguration: {AllowOrigins: !Ref Origins, AllowMethods: [GET, POST], MaxAge: 60}
      Tags: {ms-custom-id: orders}
  HttpStage:
    Type: AWS::ApiGatewayV2::Stage
    Properties: {ApiId: !Ref HttpApi, StageName: $default, AutoDeploy: true}
  HttpIntegration:
    Type: AWS::ApiGatewayV2::Integration
    Properties:
      ApiId: !Ref HttpApi
      IntegrationType: AWS_PROXY
      PayloadFormatVersion: '2.0'
      IntegrationUri: !GetAtt ApiFunction.Arn
  HttpRoute:
    Type: AWS::ApiGatewayV2::Route
    Properties:
      ApiId: !Ref HttpApi
      RouteKey: ANY /{proxy+}
      Target: !Sub integrations/${HttpIntegration}
  HttpPermission:
    Type: AWS::Lambda::Permission
    Properties:
      FunctionName: !Ref ApiFunction
      Action: lambda:InvokeFunction
      Principal: apigateway.amazonaws.com
      SourceArn: !Sub arn:aws:execute-api:${AWS::Region}:${AWS::AccountId}:${HttpApi}/*
  ApiFunction:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: api/
      Handler: app.handler
      Runtime: !Ref Runtime
      Timeout: 10
      ReservedConcurrentExecutions: !If [Bundles, !Ref AWS::NoValue, 7]
      Environment:
        Variables:
          GREETING: !Ref Greeting
          DATABASE_URL: !Ref DatabaseUrl
          HOME_URL: !Ref EmulatorEndpoint
  Table:
    Type: AWS::DynamoDB::Table
    Properties:
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{AttributeName: pk, AttributeType: S}]
      KeySchema: [{AttributeName: pk, KeyType: HASH}]
      TimeToLiveSpecification: {AttributeName: expiresAtEpoch, Enabled: true}
Outputs:
  HttpUrl: {Value: !Sub '${EmulatorEndpoint}/_aws/execute-api/${HttpApi}'}
  TableName: {Value: !Ref Table}
"""

FUNCTION = """
import json
import os
import sys

import psycopg


def handler(event, context):
    print("greeting", event["rawPath"])
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        row = connection.execute("SELECT current_user").fetchone()
    reply = {
        "greeting": os.environ["GREETING"],
        "user": row[0],
        "python": sys.executable,
        "secret": os.environ.get("AWS_PROFILE"),
    }
    return {"statusCode": 200, "body": json.dumps(reply)}
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("application")
    (folder / "api").mkdir()
    (folder / "api" / "app.py").write_text(textwrap.dedent(FUNCTION))
    (folder / "layer").mkdir()
    # Not to be had: a build that does not leave the layer out fails.
    (folder / "layer" / "requirements.txt").write_text("no-such-package-for-this-test==1\n")
    file = folder / "template.yaml"
    file.write_text(TEMPLATE)
    return file


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StateDirectory]:
    state = StateDirectory.at(tmp_path_factory.mktemp("state"))
    yield state
    runtime.down(state)


@pytest.fixture
def start(state: StateDirectory, template: Path) -> Callable[..., Stack]:
    """Bring the module's stack up, however the last test left it."""

    def up(**changes: object) -> Stack:
        settings = Settings(
            emulator_port=0,
            postgres_port=0,
            template=template,
            durable=False,
            **changes,  # type: ignore[arg-type]
        )
        return runtime.up(state, settings)

    return up


@pytest.fixture
def running(start: Callable[..., Stack], state: StateDirectory) -> Stack:
    """The module's stack as it runs, started when it does not."""
    try:
        return stack.read_running(state)
    except NotRunningError:
        return start()


def greeting(running: Stack) -> dict[str, str]:
    reply: dict[str, str] = httpx.get(f"{running.http_url}/hello", trust_env=False).json()
    return reply


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.05)


def test_up_on_a_fresh_folder_deploys_and_describes_the_stack(
    start: Callable[..., Stack], state: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "production")

    running = start()

    document = json.loads(state.stack_file.read_text())
    assert document["httpUrl"] == f"{running.emulator_url}/_aws/execute-api/orders"
    assert set(document["pids"]) == {"emulator", "postgres"}
    assert stat.S_IMODE(state.stack_file.stat().st_mode) == 0o600
    assert greeting(running) == {
        "greeting": "hello there",
        "user": "order_engine",
        "python": sys.executable,
        "secret": None,
    }


def test_up_sets_what_the_emulator_drops_from_the_template(running: Stack) -> None:
    dynamodb = aws.client("dynamodb", running.emulator_url)
    live = dynamodb.describe_time_to_live(TableName=running.outputs["TableName"])
    assert live["TimeToLiveDescription"] == {
        "TimeToLiveStatus": "ENABLED",
        "AttributeName": "expiresAtEpoch",
    }
    function = aws.physical_ids(running.emulator_url, running.stack_name)["ApiFunction"]
    reserved = aws.client("lambda", running.emulator_url).get_function_concurrency(
        FunctionName=function
    )
    assert reserved["ReservedConcurrentExecutions"] == 7
    preflight = httpx.options(
        f"{running.http_url}/hello",
        headers={"Origin": "https://b.example", "Access-Control-Request-Method": "POST"},
        trust_env=False,
    )
    assert preflight.headers["access-control-allow-origin"] == "https://b.example"
    assert preflight.headers["access-control-max-age"] == "60"


def test_up_listens_on_the_loopback_address_only(running: Stack) -> None:
    assert running.pids is not None
    for pid in (running.pids.emulator, running.pids.postgres):
        connections = psutil.Process(pid).net_connections(kind="tcp")
        listening = {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN}
        assert listening == {"127.0.0.1"}


def test_up_on_a_running_stack_deploys_onto_the_same_processes(
    start: Callable[..., Stack], running: Stack
) -> None:
    before = running
    changed = start(parameters={"Greeting": 'good "day" $HOME, you'})

    assert changed.pids == before.pids
    assert greeting(changed)["greeting"] == 'good "day" $HOME, you'
    # A parameter that is not given has its default again, not its last value.
    assert greeting(start())["greeting"] == "hello there"


def test_up_with_other_emulator_options_starts_the_emulator_again(
    start: Callable[..., Stack], running: Stack
) -> None:
    before = running
    after = start(auth=True)

    assert before.pids is not None
    assert after.pids is not None
    assert after.pids.emulator != before.pids.emulator
    assert after.pids.postgres == before.pids.postgres


def test_down_leaves_nothing_running_and_up_finds_its_data_again(
    start: Callable[..., Stack], state: StateDirectory, running: Stack
) -> None:
    with psycopg.connect(running.database_url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (id int PRIMARY KEY)")
        connection.execute("INSERT INTO kept VALUES (1) ON CONFLICT DO NOTHING")
    table = running.outputs["TableName"]
    aws.client("dynamodb", running.emulator_url).put_item(
        TableName=table, Item={"pk": {"S": "kept"}}
    )

    assert runtime.down(state)

    assert list(processes.marked_with(state.root)) == []
    assert list(processes.working_in(state.postgres / "data", "postgres")) == []
    assert stack.read(state) is None
    assert not runtime.down(state)
    again = start()
    with psycopg.connect(again.database_url) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (1,)
    item = aws.client("dynamodb", again.emulator_url).get_item(
        TableName=again.outputs["TableName"], Key={"pk": {"S": "kept"}}
    )
    assert item["Item"] == {"pk": {"S": "kept"}}


def test_up_after_a_killed_emulator_deploys_anew_and_leaves_no_orphans(
    start: Callable[..., Stack], state: StateDirectory, running: Stack
) -> None:
    greeting(running)
    assert running.pids is not None
    psutil.Process(running.pids.emulator).send_signal(signal.SIGKILL)
    wait_until(lambda: processes.find(running.pids.emulator) is None)  # type: ignore[union-attr]
    with pytest.raises(NotRunningError):
        stack.read_running(state)

    again = start()

    assert greeting(again)["greeting"] == "hello there"
    marked = [process.pid for process in processes.marked_with(state.root)]
    workers = psutil.Process(again.pids.emulator).children()  # type: ignore[union-attr]
    assert set(marked) == {again.pids.emulator, *(worker.pid for worker in workers)}  # type: ignore[union-attr]


def test_up_after_a_killed_postgres_recovers_what_was_committed(
    start: Callable[..., Stack], state: StateDirectory, running: Stack
) -> None:
    with psycopg.connect(running.database_url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS committed (id int)")
        connection.execute("INSERT INTO committed VALUES (7)")
    assert running.pids is not None
    psutil.Process(running.pids.postgres).send_signal(signal.SIGKILL)
    # The system may give the dead server's process id to any other program.
    pid_file = postgres.data_of(state.postgres) / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")

    again = start()

    with psycopg.connect(again.database_url) as connection:
        assert connection.execute("SELECT id FROM committed").fetchone() == (7,)
    assert greeting(again)["user"] == "order_engine"


def test_up_on_a_taken_port_names_the_program_that_holds_it(
    state: StateDirectory, template: Path
) -> None:
    runtime.down(state)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = listener.getsockname()[1]
        for emulator_port, postgres_port in ((taken, 0), (0, taken)):
            settings = Settings(emulator_port, postgres_port, template=template, durable=False)

            with pytest.raises(PortTakenError, match=rf"{taken}.*process {os.getpid()} "):
                runtime.up(state, settings)


def test_up_while_another_command_works_on_the_stack_is_refused(
    start: Callable[..., Stack], state: StateDirectory
) -> None:
    with state.lock_file.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        with pytest.raises(BusyError):
            start()


def test_up_with_an_unknown_parameter_is_refused_before_anything_starts(
    tmp_path: Path, template: Path
) -> None:
    settings = Settings(0, 0, parameters={"Greting": "x"}, template=template)

    with pytest.raises(DeployFailedError, match="Greting"):
        runtime.up(StateDirectory.at(tmp_path), settings)

    assert list(processes.marked_with(tmp_path)) == []


def test_up_with_a_template_that_does_not_deploy_tells_why(
    start: Callable[..., Stack], template: Path, tmp_path: Path, state: StateDirectory
) -> None:
    start()
    broken = template.with_name("broken.yaml")
    broken.write_text(TEMPLATE.replace("Type: AWS::DynamoDB::Table", "Type: AWS::No::Such"))

    with pytest.raises(DeployFailedError) as caught:
        runtime.up(state, Settings(0, 0, template=broken, durable=False))

    assert "AWS::No::Such" in caught.value.hint
    assert caught.value.log is not None
    assert caught.value.log.exists()


def test_up_after_a_first_deploy_that_failed_deploys_anew(template: Path, tmp_path: Path) -> None:
    state = StateDirectory.at(tmp_path)
    broken = template.with_name("missing-layer.yaml")
    layer = "arn:aws:lambda:us-east-1:000000000000:layer:no-such-layer:1"
    broken.write_text(TEMPLATE.replace("Timeout: 10", f"Timeout: 10\n      Layers: ['{layer}']"))
    try:
        with pytest.raises(DeployFailedError) as caught:
            runtime.up(state, Settings(0, 0, template=broken, durable=False))
        assert "ApiFunction: " in caught.value.hint
        assert "no-such-layer" in caught.value.hint

        running = runtime.up(state, Settings(template=template, durable=False))

        assert greeting(running)["greeting"] == "hello there"
    finally:
        runtime.down(state)


def test_two_stacks_run_side_by_side(running: Stack, template: Path, tmp_path: Path) -> None:
    first = running
    with running_stack(tmp_path, parameters={"Greeting": "second"}, template=template) as second:
        assert greeting(second)["greeting"] == "second"
        assert greeting(first)["greeting"] == "hello there"

    assert list(processes.marked_with(tmp_path)) == []
    assert greeting(first)["greeting"] == "hello there"


def test_status_and_logs_commands_report_the_running_stack(
    running: Stack, state: StateDirectory
) -> None:
    greeting(running)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "local", *arguments, "--state-dir", str(state.root)],
            capture_output=True,
            text=True,
            cwd=REPOSITORY,
            timeout=60,
            check=False,
        )

    status = run("status")
    assert status.returncode == 0, status.stderr
    assert running.http_url in status.stdout
    wait_until(lambda: "greeting /hello" in run("logs", "--function", "api").stdout, seconds=20)
    nowhere = run("order", "--state-dir", str(state.root / "nowhere"))
    assert nowhere.returncode == 1


def test_embedded_postgres_serves_a_role_without_superuser_rights(tmp_path: Path) -> None:
    with embedded_postgres(tmp_path) as server:
        with psycopg.connect(server.url) as connection:
            assert connection.execute("SHOW max_connections").fetchone() == ("200",)
            superuser = connection.execute(
                "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
            ).fetchone()
            assert superuser == (False,)
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(server.url.replace(server.url.split("@")[0], "postgresql://postgres:"))
        assert postgres.find_running(StateDirectory.at(tmp_path).postgres) == server

    data = postgres.data_of(StateDirectory.at(tmp_path).postgres)
    assert list(processes.working_in(data, "postgres")) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs Postgres as somebody else")
def test_server_started_by_root_opens_no_folder_to_others(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    above = [closed, *closed.parents]
    before = [folder.stat().st_mode for folder in above]

    with embedded_postgres(closed / "state") as server, psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)

    assert [folder.stat().st_mode for folder in above] == before


def test_embedded_postgres_ends_with_a_killed_test_run(tmp_path: Path) -> None:
    program = (
        "import time; from local.postgres import embedded_postgres\n"
        f"with embedded_postgres({str(tmp_path)!r}): print('up', flush=True); time.sleep(60)"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=REPOSITORY, text=True
    )
    assert run.stdout is not None
    assert run.stdout.readline() == "up\n"
    data = postgres.data_of(StateDirectory.at(tmp_path).postgres)
    assert list(processes.working_in(data, "postgres"))

    run.kill()
    run.communicate()

    wait_until(lambda: not list(processes.working_in(data, "postgres")), seconds=30)


def test_embedded_postgres_with_data_of_another_version_says_so(tmp_path: Path) -> None:
    directory = StateDirectory.at(tmp_path).postgres
    directory.mkdir()
    (directory / "password").write_text("of the older version")
    data = postgres.data_of(directory)
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("12\n")

    with pytest.raises(LocalRuntimeError, match="Postgres 12"), embedded_postgres(tmp_path):
        pass
