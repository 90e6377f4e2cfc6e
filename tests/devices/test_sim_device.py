"""The virtual device: time, energy, throttling with hysteresis, battery; and what never happens."""

from __future__ import annotations

import math

import pytest
from devices.sim_samples import device
from hypothesis import given, settings
from hypothesis import strategies as st

from nestling_devices import ClockLevel, ProfileError, Thermal, find_profile, profiles
from nestling_devices.sim import VirtualDevice, Work

LEVELS = (
    ClockLevel(1_000_000_000, 1.0),
    ClockLevel(500_000_000, 0.5, 40.0),
    ClockLevel(250_000_000, 0.3, 50.0),
)
THERMAL = Thermal(resistance_k_per_w=10.0, capacity_j_per_k=10.0, hysteresis_k=4.0, maximum_c=90.0)
TIME_CONSTANT_S = 100.0

SECOND = Work(compute_s=1.0, compute_j=2.0)


def level_changes(virtual: VirtualDevice, seconds: float) -> list[tuple[int, float]]:
    """Run for a while; return each new level and the temperature at which it was first seen."""
    found: list[tuple[int, float]] = []
    level, end = virtual.level, virtual.time_s + seconds
    while virtual.time_s < end:
        virtual.run(Work(compute_s=0.01, compute_j=0.02))
        if virtual.level != level:
            level = virtual.level
            found.append((level, virtual.temperature_c))
    return found


def test_energy_is_the_sum_of_what_was_done() -> None:
    virtual = VirtualDevice(device(idle_w=0.25, awake_w=1.0))
    assert virtual.run(SECOND.times(3))
    virtual.idle_until(10.0)
    virtual.awake = False
    virtual.idle_until(30.0)
    assert virtual.time_s == 30.0
    assert virtual.work_j == pytest.approx(6.0)
    assert virtual.energy_j == pytest.approx(6.0 + 10.0 * 1.0 + 20.0 * 0.25)


def test_waiting_for_memory_does_not_depend_on_the_clock() -> None:
    hot = VirtualDevice(device(levels=LEVELS, thermal=THERMAL), air_c=45.0)
    assert hot.level == 1
    hot.run(Work(compute_s=1.0, stall_s=0.5, compute_j=2.0, memory_j=1.0))
    assert hot.time_s == pytest.approx(2.5)
    assert hot.work_j == pytest.approx(2.0 * 0.5 + 1.0)


def test_the_clock_changes_in_the_middle_of_a_run() -> None:
    """From 25 degrees towards 25 + 3 W x 10 K/W: 40 is crossed after C R log(30 / 15)."""
    virtual = VirtualDevice(device(levels=LEVELS, thermal=THERMAL))
    crossing_s = TIME_CONSTANT_S * math.log(2.0)
    virtual.run(SECOND.times(crossing_s + 10.0))
    assert virtual.level == 1
    assert virtual.time_s == pytest.approx(crossing_s + 20.0)
    assert virtual.throttled_s == pytest.approx(20.0)
    assert virtual.work_j == pytest.approx(2.0 * crossing_s + 20.0 * 0.5)


def test_throttling_has_hysteresis() -> None:
    """Down at 40 degrees, back at 36: at 25 + (1 + 0.5) x 10 = 40 it would flutter without."""
    virtual = VirtualDevice(device(levels=LEVELS, thermal=THERMAL))
    changes = level_changes(virtual, 300.0)
    assert changes[0][0] == 1
    assert changes[0][1] == pytest.approx(40.0, abs=0.01)
    assert len(changes) == 1
    # Less work: it cools, and returns once it is 4 degrees cooler.
    virtual.idle_until(virtual.time_s + 10.0)
    assert virtual.level == 1
    while virtual.level:
        before = virtual.temperature_c
        virtual.idle_until(virtual.time_s + 0.01)
    assert before == pytest.approx(36.0, abs=0.01)


def test_each_level_has_its_own_threshold() -> None:
    virtual = VirtualDevice(device(levels=LEVELS, thermal=THERMAL, awake_w=2.0), air_c=28.0)
    changes = level_changes(virtual, 2_000.0)
    assert [level for level, _ in changes[:2]] == [1, 2]
    assert [c for _, c in changes[:2]] == pytest.approx([40.0, 50.0], abs=0.01)


def test_a_device_without_a_thermal_model_never_throttles() -> None:
    virtual = VirtualDevice(device(), air_c=300.0)
    assert virtual.run(SECOND.times(1e4))
    assert virtual.level == 0
    assert virtual.temperature_c == 300.0


def test_it_switches_itself_off_when_too_hot_and_on_again() -> None:
    profile = device(thermal=THERMAL, awake_w=10.0)
    virtual = VirtualDevice(profile, air_c=25.0)
    assert not virtual.run(SECOND.times(1e4))
    assert virtual.overheated
    assert virtual.temperature_c == pytest.approx(90.0)
    assert virtual.time_s == pytest.approx(TIME_CONSTANT_S * math.log(120.0 / 55.0))
    stopped = virtual.energy_j
    virtual.idle_until(virtual.time_s + 1.0)
    assert virtual.energy_j == stopped
    virtual.awake = False
    virtual.idle_until(virtual.time_s + 200.0)
    assert virtual.is_on


def test_a_battery_runs_empty_at_the_right_moment() -> None:
    virtual = VirtualDevice(device(battery_wh=0.01), charge=0.5)  # 18 J
    assert not virtual.run(SECOND.times(100))
    assert virtual.time_s == pytest.approx(18.0 / 3.0)
    assert virtual.battery == 0.0
    assert virtual.energy_j == pytest.approx(18.0)
    assert not virtual.is_on
    assert not virtual.run(SECOND)
    virtual.idle_until(100.0)
    assert virtual.energy_j == pytest.approx(18.0)


def test_on_the_mains_there_is_no_battery() -> None:
    virtual = VirtualDevice(device())
    virtual.run(SECOND)
    assert virtual.battery is None
    assert virtual.charge_j == math.inf


def test_the_air_of_the_day_is_followed() -> None:
    virtual = VirtualDevice(
        device(thermal=THERMAL, awake_w=0.0), air_c=lambda s: 20.0 if s < 3600 else 30.0
    )
    virtual.idle_until(3600.0)
    assert virtual.temperature_c == pytest.approx(20.0)
    virtual.idle_until(3600.0 + TIME_CONSTANT_S)
    assert virtual.temperature_c == pytest.approx(30.0 - 10.0 / math.e)


def test_a_profile_without_rates_cannot_be_simulated() -> None:
    with pytest.raises(ProfileError, match="arm64 cannot be simulated"):
        VirtualDevice(find_profile("arm64"))
    with pytest.raises(ValueError, match="battery"):
        VirtualDevice(device(), charge=1.5)


actions = st.lists(
    st.tuples(
        st.sampled_from(["run", "idle", "sleep"]), st.floats(0, 200) | st.sampled_from([0.0, 1e-9])
    ),
    max_size=40,
)


@settings(max_examples=100, deadline=None)
@given(
    actions=actions,
    air=st.floats(-10, 60),
    swing=st.floats(0, 15),
    charge=st.floats(0, 1),
    hysteresis=st.floats(0.1, 9),
)
def test_what_never_happens(
    actions: list[tuple[str, float]], air: float, swing: float, charge: float, hysteresis: float
) -> None:
    """Time goes back, a battery fills, energy appears, heat comes from nowhere."""
    thermal = Thermal(10.0, 10.0, hysteresis, 90.0)
    profile = device(levels=LEVELS, thermal=thermal, battery_wh=1.0, idle_w=0.1, awake_w=1.5)
    virtual = VirtualDevice(
        profile, air_c=lambda s: air + swing * math.sin(s / 500.0), charge=charge
    )
    hottest_c = max(air + swing, virtual.temperature_c) + (1.5 + 2.0) * 10.0
    for action, seconds in actions:
        before = (virtual.time_s, virtual.energy_j, virtual.battery, virtual.throttled_s)
        was_on = virtual.is_on
        virtual.awake = action != "sleep"
        if action == "run":
            finished = virtual.run(SECOND.times(seconds))
            assert finished or not virtual.is_on
            assert was_on or virtual.time_s == before[0]
        else:
            virtual.idle_until(before[0] + seconds)
            assert virtual.time_s == before[0] + seconds
        assert virtual.time_s >= before[0]
        assert virtual.energy_j >= before[1]
        assert virtual.throttled_s >= before[3]
        assert virtual.battery is not None and before[2] is not None
        assert 0.0 <= virtual.battery <= before[2]
        assert air - swing - 1e-6 <= virtual.temperature_c <= min(hottest_c, 90.0) + 1e-6
        assert virtual.energy_j + virtual.charge_j == pytest.approx(charge * 3600.0, abs=1e-6)
        assert 0 <= virtual.level < len(LEVELS)
        if virtual.level:
            throttle_c = LEVELS[virtual.level].throttle_c
            assert throttle_c is not None
            assert virtual.temperature_c >= throttle_c - hysteresis - 1e-6
        if virtual.level + 1 < len(LEVELS):
            throttle_c = LEVELS[virtual.level + 1].throttle_c
            assert throttle_c is not None
            assert virtual.temperature_c < throttle_c + 1e-6


@settings(max_examples=50, deadline=None)
@given(seconds=st.floats(1, 300), pieces=st.integers(2, 20))
def test_work_in_pieces_is_the_same_work(seconds: float, pieces: int) -> None:
    whole = VirtualDevice(device(levels=LEVELS, thermal=THERMAL, battery_wh=1.0))
    split = VirtualDevice(device(levels=LEVELS, thermal=THERMAL, battery_wh=1.0))
    whole.run(SECOND.times(seconds))
    for _ in range(pieces):
        split.run(SECOND.times(seconds / pieces))
    assert split.time_s == pytest.approx(whole.time_s, rel=1e-9)
    assert split.energy_j == pytest.approx(whole.energy_j, rel=1e-9)
    assert split.temperature_c == pytest.approx(whole.temperature_c, rel=1e-9)
    assert split.level == whole.level


def test_every_profile_that_says_enough_runs() -> None:
    for name in profiles():
        profile = find_profile(name)
        if profile.compute is None or profile.power is None:
            continue
        virtual = VirtualDevice(profile)
        virtual.run(SECOND.times(0.1))
        virtual.idle_until(3600.0)
        assert virtual.time_s == 3600.0
        assert virtual.is_on
