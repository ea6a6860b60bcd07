import json
import os
import stat
from pathlib import Path

import pytest

from local import emulator, errors, stack
from local.errors import DiskFullError, LocalRuntimeError, NotRunningError
from local.paths import StateDirectory
from local.stack import Stack, StackProcesses

ENDED_PID = 2**22  # above any process id that a system gives by default


def described(pids: StackProcesses | None) -> Stack:
    return Stack(
        http_url="http://127.0.0.1:1/_aws/execute-api/orders",
        web_socket_url="ws://127.0.0.1:1/_aws/execute-api/orderstream/live",
        database_url="postgresql://order_engine:secret@127.0.0.1:2/order_engine",
        emulator_url="http://127.0.0.1:1",
        stack_name="order-engine",
        region="us-east-1",
        pids=pids,
    )


def test_stack_file_has_camel_case_keys_and_is_private(tmp_path: Path) -> None:
    state = StateDirectory.at(tmp_path)
    written = described(StackProcesses(emulator=os.getpid(), postgres=os.getpid()))

    stack.write(state, written)

    document = json.loads(state.stack_file.read_text())
    assert {"httpUrl", "webSocketUrl", "databaseUrl", "emulatorUrl", "stackName"} < set(document)
    assert document["pids"] == {"emulator": os.getpid(), "postgres": os.getpid()}
    assert stat.S_IMODE(state.stack_file.stat().st_mode) == 0o600
    assert stack.read_running(state) == written


@pytest.mark.parametrize("dead", ["emulator", "postgres"])
def test_stack_with_a_dead_server_does_not_count_as_running(tmp_path: Path, dead: str) -> None:
    state = StateDirectory.at(tmp_path)
    pids = StackProcesses(**{"emulator": os.getpid(), "postgres": os.getpid(), dead: ENDED_PID})
    stack.write(state, described(pids))

    with pytest.raises(NotRunningError, match=str(tmp_path)):
        stack.read_running(state)


def test_stack_on_localstack_has_no_processes_of_ours(tmp_path: Path) -> None:
    state = StateDirectory.at(tmp_path)
    stack.write(state, described(None))

    assert stack.read_running(state).pids is None


@pytest.mark.parametrize("content", [None, "", "{", '{"httpUrl": "x"}'])
def test_stack_file_that_is_no_stack_reads_as_none(tmp_path: Path, content: str | None) -> None:
    state = StateDirectory.at(tmp_path)
    if content is not None:
        state.stack_file.write_text(content)

    assert stack.read(state) is None


def test_client_environment_holds_nothing_of_the_callers_account(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "real")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "real")
    monkeypatch.setenv("NO_PROXY", "intranet")

    environment = emulator.client_environment("http://127.0.0.1:4566")

    assert "AWS_PROFILE" not in environment
    assert "AWS_SESSION_TOKEN" not in environment
    assert environment["AWS_ACCESS_KEY_ID"] == "test"
    assert environment["AWS_CONFIG_FILE"] == os.devnull
    assert environment["AWS_ENDPOINT_URL"] == "http://127.0.0.1:4566"
    assert environment["NO_PROXY"] == "intranet,127.0.0.1,localhost"


def test_rewind_streams_begins_every_stream_again_and_keeps_the_rest(tmp_path: Path) -> None:
    saved = tmp_path / "lambda.json"
    positions = {"__account_region_scoped__": True, "data": {"a": 37, "b": 2}}
    payload = {"functions": {"f": 1}, "dynamodb_stream_positions": positions}
    saved.write_text(json.dumps({"__ministack_format__": 2, "payload": payload}))

    emulator.rewind_streams(saved)

    after = json.loads(saved.read_text())
    assert after["payload"]["dynamodb_stream_positions"]["data"] == {"a": 0, "b": 0}
    assert after["payload"]["functions"] == {"f": 1}
    assert after["__ministack_format__"] == 2


@pytest.mark.parametrize("content", [None, "", "[]", '{"payload": {}}'])
def test_rewind_streams_leaves_other_files_alone(tmp_path: Path, content: str | None) -> None:
    saved = tmp_path / "lambda.json"
    if content is not None:
        saved.write_text(content)

    emulator.rewind_streams(saved)

    assert (saved.read_text() if saved.exists() else None) == content


@pytest.mark.parametrize("version", [(3, 11), (3, 14)])
def test_python_that_is_no_runtime_of_the_template_is_refused(version: tuple[int, int]) -> None:
    with pytest.raises(LocalRuntimeError, match=rf"Python 3\.{version[1]} "):
        errors.require_python(version)


def test_full_disk_is_told_before_anything_is_written(tmp_path: Path) -> None:
    errors.require_free_space(tmp_path, least_bytes=1)

    with pytest.raises(DiskFullError, match=str(tmp_path)):
        errors.require_free_space(tmp_path, least_bytes=10**18)
