"""Heat against what is known of it: the steady state, the exponential, and many small steps."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nestling_devices import Thermal
from nestling_devices.sim import Body

THERMAL = Thermal(resistance_k_per_w=5.0, capacity_j_per_k=20.0, hysteresis_k=2.0, maximum_c=1000.0)
TIME_CONSTANT_S = 100.0

temperatures = st.floats(-40, 120)
watts = st.floats(0, 50)


def test_it_settles_at_the_air_and_power_times_resistance() -> None:
    body = Body(THERMAL, 25.0)
    body.heat(4.0, 30.0, 50 * TIME_CONSTANT_S)
    assert body.temperature_c == pytest.approx(30.0 + 4.0 * 5.0)


def test_after_a_time_constant_all_but_an_eth_is_done() -> None:
    body = Body(THERMAL, 25.0)
    body.heat(4.0, 25.0, TIME_CONSTANT_S)
    assert body.temperature_c == pytest.approx(45.0 - 20.0 / math.e)


def test_without_power_it_cools_to_the_air() -> None:
    body = Body(THERMAL, 65.0)
    body.heat(0.0, 25.0, 2 * TIME_CONSTANT_S)
    assert body.temperature_c == pytest.approx(25.0 + 40.0 * math.exp(-2.0))


def test_a_thousand_small_steps_are_one_large_step() -> None:
    whole, pieces = Body(THERMAL, 20.0), Body(THERMAL, 20.0)
    whole.heat(3.0, 25.0, 250.0)
    for _ in range(1000):
        pieces.heat(3.0, 25.0, 0.25)
    assert pieces.temperature_c == pytest.approx(whole.temperature_c, rel=1e-12)


def test_it_agrees_with_the_differential_equation() -> None:
    """C dT/dt = P - (T - air) / R, integrated in small steps."""
    body, temperature, step_s = Body(THERMAL, 20.0), 20.0, 0.01
    for _ in range(15_000):
        temperature += step_s * (6.0 - (temperature - 30.0) / 5.0) / 20.0
    body.heat(6.0, 30.0, 150.0)
    assert body.temperature_c == pytest.approx(temperature, abs=5e-3)


def test_without_a_body_it_is_as_warm_as_the_air() -> None:
    body = Body(None, 25.0)
    body.heat(100.0, 31.0, 1.0)
    assert body.temperature_c == 31.0
    assert body.seconds_until(40.0, 100.0, 31.0) == math.inf


@given(start=temperatures, air=temperatures, power=watts, seconds=st.floats(0.1, 400))
def test_it_says_when_it_will_have_a_temperature(
    start: float, air: float, power: float, seconds: float
) -> None:
    body = Body(THERMAL, start)
    assume(abs(start - body.steady_c(power, air)) > 0.1)
    later = Body(THERMAL, start)
    later.heat(power, air, seconds)
    until = body.seconds_until(later.temperature_c, power, air)
    assert until == pytest.approx(seconds, rel=1e-3)


@given(start=temperatures, air=temperatures, power=watts, wanted=temperatures)
def test_what_is_never_reached_is_infinitely_far(
    start: float, air: float, power: float, wanted: float
) -> None:
    body = Body(THERMAL, start)
    steady = body.steady_c(power, air)
    # Nearer than that, rounding decides.
    assume(abs(wanted - start) > 1e-6 and abs(wanted - steady) > 1e-6)
    on_the_way = min(start, steady) < wanted < max(start, steady)
    until = body.seconds_until(wanted, power, air)
    assert until >= 0.0
    assert (until < math.inf) == on_the_way


@given(start=temperatures, air=temperatures, power=watts, seconds=st.floats(0, 1e6))
def test_it_stays_between_where_it_is_and_where_it_goes(
    start: float, air: float, power: float, seconds: float
) -> None:
    body = Body(THERMAL, start)
    steady = body.steady_c(power, air)
    body.heat(power, air, seconds)
    assert min(start, steady) - 1e-9 <= body.temperature_c <= max(start, steady) + 1e-9
