import os
import socket
from collections.abc import Iterator

import pytest

from local import ports
from local.errors import PortTakenError


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def choose(requested: int | None, running: int | None = None, last: int | None = None) -> int:
    return ports.choose(
        requested,
        running=running,
        last=last,
        default=4566,
        needed_for="the emulator",
        setting="EMULATOR_PORT",
    )


@pytest.mark.parametrize("requested", [None, 0, 4600])
def test_choose_while_running_where_wanted_stays_there(requested: int | None) -> None:
    assert choose(requested, running=4600, last=4700) == 4600


def test_choose_another_port_than_the_running_one_moves_there() -> None:
    wanted = ports.free_port()

    assert choose(wanted, running=4600) == wanted


@pytest.mark.parametrize("requested", [None, 0])
def test_choose_takes_the_last_port_again_when_it_is_free(requested: int | None) -> None:
    last = ports.free_port()

    assert choose(requested, last=last) == last


def test_choose_any_when_the_last_port_is_taken_takes_another(taken_port: int) -> None:
    chosen = choose(0, last=taken_port)

    assert chosen != taken_port
    assert ports.is_free(chosen)


@pytest.mark.parametrize("how", ["requested", "last"])
def test_choose_a_taken_port_names_its_holder_and_the_way_out(taken_port: int, how: str) -> None:
    requested, last = (taken_port, None) if how == "requested" else (None, taken_port)

    with pytest.raises(PortTakenError) as caught:
        choose(requested, last=last)

    assert f"process {os.getpid()} " in caught.value.message
    assert "EMULATOR_PORT=0" in caught.value.hint
