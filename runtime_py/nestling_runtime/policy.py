"""Policies: which path to run now.

`BudgetPolicy` is the library's own (firmware/core/policy.h): the largest path that meets a
deadline, from costs that the device measured itself. Anything with the two methods of `Policy` can
take its place, and `run_with` drives a session with either.
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import byref
from typing import Protocol

import numpy.typing as npt

from nestling_runtime import abi, native
from nestling_runtime.session import Array, Session


class Policy(Protocol):
    """Chooses a path and hears what it cost."""

    def choose(self, deadline_us: float) -> int:
        """Return the index of the path to run under a deadline in microseconds."""

    def record(self, path: int, cost_us: float) -> None:
        """Take note of what a run of `path` took, in microseconds."""


class BudgetPolicy:
    """The largest path that fits a deadline, with smoothing and hysteresis; for one thread.

    Args:
        paths: How many there are, small to large.
        smoothing: Weight of a new measurement, in (0, 1].
        spread_weight: Deviations that are added to the mean cost, >= 0.
        down_margin: Stay while the cost is at most this part of the deadline, > 0.
        up_margin: Step up only to a cost of at most this part of it, in (0, down_margin].
        minimum_stay_runs: Runs on a path before a step up.
        warmup_runs: First measurements of a path, each of which replaces the one before.
        stale_after_runs: Runs after which the cost of an unused path follows the one that is run.

    Raises:
        ValueError: A parameter is out of its range.
    """

    def __init__(
        self,
        paths: int,
        *,
        smoothing: float = 0.2,
        spread_weight: float = 2.0,
        down_margin: float = 1.0,
        up_margin: float = 0.85,
        minimum_stay_runs: int = 8,
        warmup_runs: int = 1,
        stale_after_runs: int = 32,
    ) -> None:
        self._costs = (abi.PolicyCost * max(1, paths))()
        self._policy = abi.Policy()
        params = abi.PolicyParams(
            smoothing,
            spread_weight,
            down_margin,
            up_margin,
            minimum_stay_runs,
            warmup_runs,
            stale_after_runs,
        )
        if paths < 1 or not native.library().nst_policy_init(
            byref(self._policy), byref(params), self._costs, paths
        ):
            raise ValueError("a parameter of the policy is out of its range")

    @property
    def native(self) -> object:
        """The `nst_policy *`, for other ctypes code; valid as long as the object is used."""
        return byref(self._policy)

    @property
    def current(self) -> int:
        """The path that was chosen last."""
        return int(self._policy.current)

    def seed(self, path: int, cost_us: float) -> None:
        """Give a path a first guess; its first measurement replaces it."""
        native.library().nst_policy_seed(byref(self._policy), path, cost_us)

    def record(self, path: int, cost_us: float) -> None:
        """Take note of what a run of `path` took.

        Raises:
            ValueError: No such path, or the cost is not a positive number.
        """
        if not native.library().nst_policy_record(byref(self._policy), path, cost_us):
            raise ValueError(f"no cost of {cost_us} us can be recorded for path {path}")

    def cost_us(self, path: int) -> float | None:
        """Return the expected cost of a path, spread included; None where nothing is known."""
        cost = float(native.library().nst_policy_cost_us(byref(self._policy), path))
        return None if cost < 0 else cost

    def choose(self, deadline_us: float) -> int:
        """Return the index of the path to run under a deadline."""
        return int(native.library().nst_policy_choose(byref(self._policy), deadline_us))


class RationedPolicy:
    """A budget policy that also makes a battery last until a moment, such as the evening.

    The library's own (firmware/core/ration.h): the charge should fall in a straight line from what
    it is now to `reserve` at `end_s`. On that line a run may cost half of what the largest path
    costs; the share grows with what is left over, and falls with what is missing.

    Args:
        policy: Chooses under the deadline and the ration; holds costs.
        charge: Returns the battery's charge now, 0 to 1.
        clock: Returns the time in seconds, e.g. `time.monotonic`.
        end_s: On that clock: until when the battery has to last.
        reserve: Charge to be left then, 0 to below 1.
        band: Part of the planned charge, > 0, over which the share goes from nothing to all.

    Raises:
        ValueError: A parameter is out of its range.
    """

    def __init__(
        self,
        policy: BudgetPolicy,
        charge: Callable[[], float],
        clock: Callable[[], float],
        *,
        end_s: float,
        reserve: float = 0.01,
        band: float = 0.5,
    ) -> None:
        self._policy = policy
        self._charge = charge
        self._clock = clock
        self._ration = abi.Ration()
        if not native.library().nst_ration_init(
            byref(self._ration), clock(), charge(), end_s, reserve, band
        ):
            raise ValueError("a parameter of the ration is out of its range")

    def planned_charge(self) -> float:
        """Return what the line says for now; the reserve when the time is over."""
        return float(native.library().nst_ration_planned(byref(self._ration), self._clock()))

    def share(self) -> float:
        """Return what part of the largest path's cost a run may take now, 0 to 1."""
        now_s, charge = self._clock(), self._charge()
        return float(native.library().nst_ration_share(byref(self._ration), now_s, charge))

    def record(self, path: int, cost_us: float) -> None:
        """As `BudgetPolicy.record`."""
        self._policy.record(path, cost_us)

    def choose(self, deadline_us: float) -> int:
        """Return the path to run under a deadline and the ration."""
        limit_us = native.library().nst_ration_limit_us(
            byref(self._ration), self._policy.native, deadline_us, self._clock(), self._charge()
        )
        return self._policy.choose(float(limit_us))


class CallbackPolicy:
    """A policy from a function of the deadline and the costs recorded last.

    Args:
        function: Takes the deadline in microseconds and the last cost of each path that was run;
            returns an index.
    """

    def __init__(self, function: Callable[[float, dict[int, float]], int]) -> None:
        self._function = function
        self._costs: dict[int, float] = {}

    def record(self, path: int, cost_us: float) -> None:
        """Keep the cost for the next choice."""
        self._costs[path] = cost_us

    def choose(self, deadline_us: float) -> int:
        """Return what the function says."""
        return self._function(deadline_us, dict(self._costs))


def run_with(
    policy: Policy, session: Session, deadline_us: float, **inputs: npt.ArrayLike
) -> tuple[int, dict[str, Array]]:
    """Let the policy choose, switch, run, and tell it what the run took.

    Args:
        policy: Chooses the path.
        session: Runs it.
        deadline_us: For this run.
        **inputs: As in `Session.run`.

    Returns:
        The path's index and the outputs by name.

    Raises:
        NestlingError: As `Session.select` and `Session.run`.
    """
    path = policy.choose(deadline_us)
    session.select(path)
    outputs = session.run(**inputs)
    policy.record(path, session.last_run_ns / 1e3)
    return path, outputs
