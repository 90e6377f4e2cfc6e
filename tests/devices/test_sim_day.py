"""A simulated day: bookkeeping, determinism, and how policies compare."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
from devices.sim_samples import QUALITY, bundle, device
from hypothesis import given, settings
from hypothesis import strategies as st

from nestling_devices import DeviceProfile, find_profile
from nestling_devices.sim import (
    CostModel,
    Day,
    FixedPolicy,
    PathChoice,
    Scenario,
    VirtualDevice,
    hot_day,
    path_choice,
    simulate_day,
)
from nestling_runtime.bundle import Bundle
from nestling_runtime.errors import NestlingError
from nestling_runtime.policy import BudgetPolicy, Policy, RationedPolicy

PATHS = len(QUALITY)
HOUR_S = 3600.0

CALM = Scenario(
    title="an easy hour",
    start_s=0.0,
    end_s=HOUR_S,
    sessions=((60.0, 160.0), (300.0, 340.0)),
    period_s=1.0,
    deadline_s=1.0,
    load=0.5,
    charge=1.0,
    coolest_c=20.0,
    hottest_c=20.0,
    scatter=0.0,
    disturbance=0.0,
)


@pytest.fixture(scope="module")
def tables() -> Iterator[Bundle]:
    with bundle() as opened:
        yield opened


def budget(virtual: VirtualDevice) -> Policy:
    return BudgetPolicy(PATHS)


def choice(profile: DeviceProfile, tables: Bundle) -> PathChoice:
    return path_choice(tables, CostModel(profile, tables))


def fixed(profile: DeviceProfile, tables: Bundle, scenario: Scenario, path: int) -> Day:
    policy = FixedPolicy(path)
    return simulate_day(profile, tables, choice(profile, tables), scenario, lambda _: policy)


def test_an_easy_hour_adds_up(tables: Bundle) -> None:
    """140 requests of half a second on the full path, a joule a second; 3460 s asleep."""
    day = fixed(device(idle_w=0.1), tables, CALM, 3)
    assert (day.requests, day.in_time, day.late, day.dropped, day.off) == (140, 140, 0, 0, 0)
    assert day.answers == (0, 0, 0, 140)
    assert day.quality == pytest.approx(QUALITY["full"])
    assert day.useful == pytest.approx(QUALITY["full"])
    assert day.model_j == pytest.approx(140 * 0.5, rel=1e-6)
    assert day.energy_j == pytest.approx(140 * 0.5 + 140 * 1.0 + 3460 * 0.1, rel=1e-6)
    assert day.switches == 0
    assert day.battery is None
    assert day.miss_rate == 0.0
    assert len(day.trace.time_s) == 61


def test_too_much_work_is_late_or_dropped(tables: Bundle) -> None:
    """Each request takes 1.5 periods: one is late, the next begins with half its time gone."""
    day = fixed(device(), tables, dataclasses.replace(CALM, load=1.5), 3)
    assert day.in_time == 0
    assert day.late + day.dropped == day.requests
    assert day.late > 0 and day.dropped > 0
    assert day.miss_rate == 1.0
    assert day.quality == day.useful == 0.0


def test_an_empty_battery_ends_the_day(tables: Bundle) -> None:
    profile = device(battery_wh=0.02)  # 72 J; 1.5 J a request
    day = fixed(profile, tables, CALM, 3)
    assert day.battery == 0.0
    # One request is cut off by the end.
    assert day.in_time == 48
    assert day.off == 140 - 48
    assert day.off_at_s is not None and 60.0 < day.off_at_s <= 180.0
    assert day.energy_j == pytest.approx(72.0)


def test_the_quality_is_that_of_the_answers_in_time(tables: Bundle) -> None:
    profile = device()
    day = simulate_day(profile, tables, choice(profile, tables), CALM, budget)
    wanted = sum(n * q for n, q in zip(day.answers, QUALITY.values(), strict=True)) / day.in_time
    assert day.quality == pytest.approx(wanted)
    assert day.switches > 0
    for path, answers in enumerate(day.answers):
        assert answers == np.count_nonzero(day.request_path[day.request_in_time] == path)


def test_a_bundle_without_quality_cannot_be_judged() -> None:
    with bundle(quality=False) as tables, pytest.raises(NestlingError, match="quality"):
        path_choice(tables, CostModel(device(), tables))


@pytest.mark.parametrize(
    "wrong",
    [
        {"sessions": ((10.0, 5.0),)},
        {"sessions": ((10.0, HOUR_S + 1),)},
        {"period_s": 0.0},
        {"load": -1.0},
        {"disturbance": 2.0},
    ],
)
def test_a_scenario_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"sessions|above|range"):
        dataclasses.replace(CALM, **wrong)  # type: ignore[arg-type]


def test_a_seed_decides_everything(tables: Bundle) -> None:
    profile = find_profile("phone-mid")
    days = [
        simulate_day(profile, tables, choice(profile, tables), short(seed), budget)
        for seed in (1, 1, 2)
    ]
    for field in dataclasses.fields(Day):
        first, again = (getattr(day, field.name) for day in days[:2])
        if field.name == "trace":
            for column in dataclasses.fields(first):
                np.testing.assert_array_equal(
                    getattr(first, column.name), getattr(again, column.name)
                )
        else:
            np.testing.assert_array_equal(first, again)
    assert days[2].energy_j != days[0].energy_j


def short(seed: int) -> Scenario:
    """The first sessions of a hot day."""
    scenario = hot_day(seed)
    return dataclasses.replace(scenario, sessions=scenario.sessions[5:7])


@pytest.mark.parametrize("seed", range(3))
def test_the_policy_wins_a_hot_day(tables: Bundle, seed: int) -> None:
    """On misses and energy against the full path, on quality against the tiny one."""
    profile, scenario = find_profile("phone-mid"), hot_day(seed)
    full = fixed(profile, tables, scenario, PATHS - 1)
    tiny = fixed(profile, tables, scenario, 0)
    paths = choice(profile, tables)

    def rationed(virtual: VirtualDevice) -> Policy:
        return RationedPolicy(
            BudgetPolicy(PATHS),
            lambda: virtual.battery or 0.0,
            lambda: virtual.time_s,
            end_s=scenario.end_s - scenario.start_s,
        )

    assert full.miss_rate > 0.05  # the day is hard enough to tell
    for maker in (budget, rationed):
        day = simulate_day(profile, tables, paths, scenario, maker)
        assert day.miss_rate < full.miss_rate / 10
        assert day.energy_j / day.in_time < full.energy_j / full.in_time
        assert day.throttled_s < full.throttled_s
        assert day.quality > tiny.quality
        assert day.useful > max(full.useful, tiny.useful)
    # `day` is the rationed one: it comes home with a charge.
    assert day.energy_j < full.energy_j
    assert day.battery is not None and day.battery > 0.0


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 1000),
    load=st.floats(0.2, 2.0),
    charge=st.floats(0.0, 0.1),
    path=st.integers(0, PATHS - 1),
)
def test_every_request_is_accounted_for(
    tables: Bundle, seed: int, load: float, charge: float, path: int
) -> None:
    scenario = dataclasses.replace(short(seed), load=load, charge=charge, period_s=2.0)
    profile = find_profile("phone-mid")
    assert profile.battery_wh is not None
    for day in (
        fixed(profile, tables, scenario, path),
        simulate_day(profile, tables, choice(profile, tables), scenario, budget),
    ):
        assert day.in_time + day.late + day.dropped + day.off == day.requests
        assert min(day.in_time, day.late, day.dropped, day.off) >= 0
        assert sum(day.answers) == day.in_time == np.count_nonzero(day.request_in_time)
        assert day.battery is not None
        spent_j = (charge - day.battery) * profile.battery_wh * 3600.0
        assert day.energy_j == pytest.approx(spent_j, abs=1e-3)
        assert day.model_j <= day.energy_j + 1e-9
        assert np.all(np.diff(day.trace.time_s) > 0)
        assert np.all(np.diff(day.trace.battery) <= 0)
        assert np.all(day.trace.temperature_c >= scenario.coolest_c - 1e-9)
