import pytest
from hypothesis import given
from hypothesis import strategies as st

from order_engine.venues.mock.faults import (
    AttemptKey,
    Fault,
    FaultPlan,
    ScriptedFate,
    scripted_fate,
)
from order_engine.venues.mock.settings import MockSettings


def key(
    client_order_id: str | None = None,
    *,
    order_id: str = "order-1",
    attempt: int = 1,
    venue: str = "raydium",
) -> AttemptKey:
    return AttemptKey(order_id, client_order_id, attempt, venue)


def plan(*, scripted: bool = True, **probabilities: float) -> FaultPlan:
    return FaultPlan(seed=42, probabilities=probabilities, scripted_fates=scripted)


@pytest.mark.parametrize(
    ("client_order_id", "fate"),
    [
        ("quote_timeout-1", ScriptedFate(Fault.QUOTE_TIMEOUT, None, None)),
        ("lands_with_error*1-abc", ScriptedFate(Fault.LANDS_WITH_ERROR, 1, None)),
        ("venue_down@raydium-xyz", ScriptedFate(Fault.VENUE_DOWN, None, "raydium")),
        ("send_timeout_dropped*2@meteora-", ScriptedFate(Fault.SEND_TIMEOUT_DROPPED, 2, "meteora")),
        ("send_timeout_landed-a-b", ScriptedFate(Fault.SEND_TIMEOUT_LANDED, None, None)),
        ("dropped_until_expiry*10-x", ScriptedFate(Fault.DROPPED_UNTIL_EXPIRY, 10, None)),
    ],
)
def test_client_order_id_with_a_fate_is_parsed(client_order_id: str, fate: ScriptedFate) -> None:
    assert scripted_fate(client_order_id) == fate


@pytest.mark.parametrize(
    "client_order_id",
    [
        None,
        "",
        "my-42",
        "venue_down",
        "venue_downs-1",
        "Venue_down-1",
        "venue_down*-1",
        "venue_down*x-1",
        "venue_down@orca-1",
        "venue_down@raydium*1-x",
        "x-venue_down-1",
    ],
)
def test_other_client_order_id_scripts_nothing(client_order_id: str | None) -> None:
    assert scripted_fate(client_order_id) is None


@given(client_order_id=st.text(st.characters(codec="ascii"), max_size=64))
def test_any_client_order_id_is_read_without_an_error(client_order_id: str) -> None:
    scripted_fate(client_order_id)


def test_scripted_fate_strikes_on_the_first_attempts_only() -> None:
    strikes = [
        plan().strikes(Fault.LANDS_WITH_ERROR, key("lands_with_error*2-x", attempt=attempt))
        for attempt in (1, 2, 3)
    ]

    assert strikes == [True, True, False]


def test_scripted_fate_strikes_at_its_venue_only() -> None:
    fate = "venue_down@raydium-x"

    assert plan().strikes(Fault.VENUE_DOWN, key(fate, venue="raydium"))
    assert not plan().strikes(Fault.VENUE_DOWN, key(fate, venue="meteora"))


def test_scripted_fate_replaces_drawn_faults() -> None:
    certain = plan(quote_timeout=1.0)

    assert not certain.strikes(Fault.QUOTE_TIMEOUT, key("lands_with_error-x"))
    assert certain.strikes(Fault.LANDS_WITH_ERROR, key("lands_with_error-x"))
    assert certain.strikes(Fault.QUOTE_TIMEOUT, key("my-42"))


def test_scripted_fate_is_ignored_unless_enabled() -> None:
    assert not plan(scripted=False).strikes(Fault.VENUE_DOWN, key("venue_down-x"))


def test_call_without_an_order_meets_no_fault() -> None:
    assert not plan(venue_down=1.0).strikes(Fault.VENUE_DOWN, None)


def test_drawn_fault_is_the_same_in_every_process() -> None:
    half = plan(quote_timeout=0.5)
    struck = [i for i in range(12) if half.strikes(Fault.QUOTE_TIMEOUT, key(order_id=f"o{i}"))]

    assert struck == [1, 2, 3, 4, 7, 8, 10]


def test_drawn_faults_come_as_often_as_their_probability() -> None:
    tenth = plan(quote_timeout=0.1, lands_with_error=0.1)
    keys = [key(order_id=f"o{i}", attempt=i % 3 + 1) for i in range(4_000)]

    timeouts = {k for k in keys if tenth.strikes(Fault.QUOTE_TIMEOUT, k)}
    errors = {k for k in keys if tenth.strikes(Fault.LANDS_WITH_ERROR, k)}

    assert 300 < len(timeouts) < 500
    assert 300 < len(errors) < 500
    assert 10 < len(timeouts & errors) < 80  # independent of each other


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_impossible_and_certain_faults_are_exactly_that(probability: float) -> None:
    chosen = plan(venue_down=probability)
    strikes = {chosen.strikes(Fault.VENUE_DOWN, key(order_id=f"o{i}")) for i in range(200)}

    assert strikes == {probability == 1.0}


@pytest.mark.parametrize("faults", [{"venue_dwn": 0.1}, {"venue_down": 1.1}, {"venue_down": -0.1}])
def test_wrong_fault_settings_are_an_error(faults: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="ven"):
        FaultPlan.of(MockSettings(faults=faults))
