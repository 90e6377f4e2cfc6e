"""The ration: a battery's charge turned into a share of the largest path's cost."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nestling_runtime.policy import BudgetPolicy, RationedPolicy

COSTS_US = (10.0, 20.0, 40.0)


class Battery:
    """A charge and a clock that tests set."""

    def __init__(self) -> None:
        self.charge = 0.5
        self.time_s = 100.0

    def policy(self, *, reserve: float = 0.1, band: float = 0.25) -> RationedPolicy:
        inner = BudgetPolicy(len(COSTS_US), minimum_stay_runs=0)
        for path, cost in enumerate(COSTS_US):
            inner.seed(path, cost)
        return RationedPolicy(
            inner,
            lambda: self.charge,
            lambda: self.time_s,
            end_s=1100.0,
            reserve=reserve,
            band=band,
        )


def test_the_plan_is_a_line_from_now_to_the_reserve() -> None:
    battery = Battery()
    policy = battery.policy()
    assert policy.planned_charge() == pytest.approx(0.5)
    battery.time_s = 600.0
    assert policy.planned_charge() == pytest.approx(0.3)
    battery.time_s = 2000.0
    assert policy.planned_charge() == pytest.approx(0.1)


def test_the_share_moves_over_the_band() -> None:
    battery = Battery()
    policy = battery.policy()
    assert policy.share() == pytest.approx(0.5)
    battery.time_s = 600.0  # 0.3 planned, of which 0.2 may be spent; the band is 0.05
    for charge, share in ((0.4, 1.0), (0.325, 1.0), (0.3, 0.5), (0.2875, 0.25), (0.0, 0.0)):
        battery.charge = charge
        assert policy.share() == pytest.approx(share)


def test_with_a_surplus_only_the_deadline_counts() -> None:
    battery = Battery()
    policy = battery.policy()
    battery.charge = 0.6
    assert policy.choose(1000.0) == 2
    assert policy.choose(30.0) == 1


def test_otherwise_paths_are_smaller_whatever_the_deadline() -> None:
    battery = Battery()
    policy = battery.policy()
    battery.time_s = 600.0
    battery.charge = 0.315  # a share of 0.8: 32 us
    assert policy.choose(1000.0) == 1
    assert policy.choose(5.0) == 0
    battery.charge = 0.275
    assert policy.choose(1000.0) == 0
    battery.charge = 0.33
    assert policy.choose(1000.0) == 2


def test_without_a_known_cost_the_policy_inside_finds_out() -> None:
    inner = BudgetPolicy(2, minimum_stay_runs=0)
    policy = RationedPolicy(inner, lambda: 0.5, lambda: 0.0, end_s=1.0)
    assert policy.choose(1000.0) == 0
    policy.record(0, 10.0)
    assert policy.choose(1000.0) == 1
    policy.record(1, 100.0)
    # Half of 100 us: back to the small one.
    assert policy.choose(1000.0) == 0


def test_when_the_time_is_over_the_reserve_is_kept() -> None:
    battery = Battery()
    policy = battery.policy()
    battery.time_s, battery.charge = 1200.0, 0.2
    assert policy.share() == 1.0
    battery.charge = 0.09
    assert policy.share() == 0.0


def test_costs_reach_the_policy_inside() -> None:
    inner = BudgetPolicy(1)
    policy = RationedPolicy(inner, lambda: 1.0, lambda: 0.0, end_s=1.0)
    policy.record(0, 7.0)
    assert inner.cost_us(0) == 7.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"reserve": 1.0},
        {"reserve": -0.1},
        {"reserve": math.nan},
        {"band": 0.0},
        {"band": math.inf},
        {"band": math.nan},
    ],
)
def test_a_parameter_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="ration"):
        Battery().policy(**wrong)


@pytest.mark.parametrize(("charge", "time_s"), [(1.1, 0.0), (math.nan, 0.0), (0.5, math.inf)])
def test_it_does_not_begin_with_nonsense(charge: float, time_s: float) -> None:
    battery = Battery()
    battery.charge, battery.time_s = charge, time_s
    with pytest.raises(ValueError, match="ration"):
        battery.policy()


def test_a_charge_that_is_no_number_is_an_empty_battery() -> None:
    battery = Battery()
    policy = battery.policy()
    battery.charge = math.nan
    assert policy.share() == 0.0
    assert policy.choose(1000.0) == 0


@given(
    start=st.floats(0, 1),
    charge=st.floats(0, 1),
    passed=st.floats(-10, 2000),
    reserve=st.floats(0, 0.99),
    band=st.floats(0.01, 10),
)
def test_it_is_what_its_header_says(
    start: float, charge: float, passed: float, reserve: float, band: float
) -> None:
    """A second implementation: a line, a band about it, a share across the band."""
    battery = Battery()
    battery.charge = start
    policy = battery.policy(reserve=reserve, band=band)
    battery.charge, battery.time_s = charge, 100.0 + passed
    left = max(0.0, 1.0 - passed / 1000.0)
    planned = reserve + (start - reserve) * left if left else reserve
    assert policy.planned_charge() == pytest.approx(planned, abs=1e-12)
    width = band * (planned - reserve)
    assume(abs(charge - planned) > 1e-9 and (width <= 0.0 or width > 1e-9))
    if width <= 0.0:
        wanted = float(charge > planned)
    else:
        wanted = float(np.interp(charge, [planned - width / 2, planned + width / 2], [0.0, 1.0]))
    assert policy.share() == pytest.approx(wanted, abs=1e-6)
