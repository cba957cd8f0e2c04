from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.core.circuit import Circuit, CircuitState


def opened(now: float = 0.0) -> Circuit:
    circuit = Circuit(failures=3, pause_s=1.0, max_pause_s=4.0)
    for _ in range(3):
        assert circuit.allows(now)
        circuit.failed(now)
    return circuit


def test_it_opens_at_the_limit_and_not_before() -> None:
    """Two failures leave it closed, the third opens it."""
    circuit = Circuit(failures=3)
    circuit.failed(0.0)
    circuit.failed(0.0)
    assert circuit.allows(0.0)
    circuit.failed(0.0)
    assert circuit.state is CircuitState.OPEN
    assert not circuit.allows(0.0)


def test_rare_failures_do_not_open_it() -> None:
    """One failure in ten calls is borne for ever, one in two is not."""
    circuit = Circuit(failures=3)
    for _ in range(100):
        circuit.failed(0.0)
        for _ in range(9):
            circuit.succeeded()
    assert circuit.allows(0.0)
    for _ in range(5):
        circuit.failed(0.0)
        circuit.succeeded()
    assert circuit.state is CircuitState.OPEN


def test_after_the_pause_one_call_is_let_through() -> None:
    """The probe is alone: nobody else passes until it ended."""
    circuit = opened()
    assert not circuit.allows(0.9)
    assert circuit.allows(1.0)
    assert not circuit.allows(1.0)
    circuit.succeeded()
    assert circuit.state is CircuitState.CLOSED and circuit.allows(1.0)


def test_the_pause_doubles_up_to_its_limit() -> None:
    """Each failed probe makes the next wait longer: 1, 2, 4, 4 seconds."""
    circuit, now, pauses = opened(), 0.0, []
    for _ in range(4):
        pauses.append(circuit.probe_at - now)
        now = circuit.probe_at
        assert circuit.allows(now)
        circuit.failed(now)
    assert pauses == [1.0, 2.0, 4.0, 4.0]


def test_a_flapping_dependency_is_dropped_at_its_next_failure() -> None:
    """After a good probe a single failure opens it again, with a longer pause."""
    circuit = opened()
    assert circuit.allows(1.0)
    circuit.succeeded()
    circuit.failed(1.5)
    assert circuit.state is CircuitState.OPEN
    assert circuit.probe_at == 1.5 + 2.0


def test_a_long_good_stretch_makes_it_as_new() -> None:
    """Once the score is back at zero, limit and pause are those of the start."""
    circuit = opened()
    assert circuit.allows(1.0)
    for _ in range(1 + 16):
        circuit.succeeded()
    for _ in range(3):
        assert circuit.state is CircuitState.CLOSED
        circuit.failed(9.0)
    assert circuit.probe_at == 10.0


def test_a_late_failure_does_not_lengthen_the_pause() -> None:
    """Calls that began before it opened change nothing when they fail."""
    circuit = opened()
    circuit.failed(0.5)
    assert circuit.probe_at == 1.0


@given(st.lists(st.tuples(st.sampled_from(["allow", "good", "bad"]), st.floats(0.0, 2.0)), max_size=50))
def test_it_always_lets_a_probe_through_in_the_end(steps: list[tuple[str, float]]) -> None:
    """Whatever happened, it is never stuck open: after the longest pause a call passes, unless one is under way."""
    circuit, now = Circuit(failures=2, pause_s=0.5, max_pause_s=4.0), 0.0
    for step, passed in steps:
        now += passed
        if step == "allow":
            circuit.allows(now)
        elif step == "good":
            circuit.succeeded()
        else:
            circuit.failed(now)
    assert circuit.state is CircuitState.HALF_OPEN or circuit.allows(now + 4.0)
