"""A day of requests under a policy: what was answered in time, how well, and what it took."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nestling_devices.profile import DeviceProfile
from nestling_devices.sim.residency import Residency
from nestling_devices.sim.scenario import Scenario
from nestling_devices.sim.virtual_device import VirtualDevice
from nestling_devices.sim.work import CostModel, Work
from nestling_runtime.bundle import Tables
from nestling_runtime.errors import NestlingError
from nestling_runtime.policy import Policy

PolicyMaker = Callable[[VirtualDevice], Policy]

_SAMPLE_S = 60.0


@dataclass(frozen=True)
class PathChoice:
    """The named paths that a policy chooses from, as work on a device.

    Attributes:
        names: Of the paths, small to large.
        works: One input each.
        chains: Stages of each.
        quality: Of each, from the bundle.
        metric: What quality is, e.g. accuracy.
    """

    names: tuple[str, ...]
    works: tuple[Work, ...]
    chains: tuple[tuple[int, ...], ...]
    quality: tuple[float, ...]
    metric: str


def path_choice(tables: Tables, costs: CostModel) -> PathChoice:
    """Return the named paths of a bundle with cost and quality.

    Raises:
        NestlingError: A path has no figure of quality, or the costs lack something.
    """
    paths = tables.paths
    if not paths:
        raise NestlingError("the bundle has no named paths to choose from")
    metric = next(iter(paths[-1].quality), None)
    for path in paths:
        if metric is None or metric not in path.quality:
            raise NestlingError(
                f"path {path.name} has no figure of quality",
                expected=metric or "one at least",
                hint="export from a trained checkpoint, with its report beside it",
            )
    assert metric is not None
    return PathChoice(
        names=tuple(path.name for path in paths),
        works=tuple(costs.path(index) for index in range(len(paths))),
        chains=tuple(p.chain if p.fused is None else (p.fused,) for p in paths),
        quality=tuple(path.quality[metric] for path in paths),
        metric=metric,
    )


@dataclass(frozen=True)
class Trace:
    """What the device went through, one sample a minute; all arrays have the same length.

    Attributes:
        time_s: After midnight.
        temperature_c: Of the device.
        air_c: Of the air.
        battery: Charge, 0 to 1; not a number on the mains.
        level: Clock step, 0 the fastest.
    """

    time_s: npt.NDArray[np.float64]
    temperature_c: npt.NDArray[np.float64]
    air_c: npt.NDArray[np.float64]
    battery: npt.NDArray[np.float64]
    level: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Day:
    """How a policy did.

    Attributes:
        requests: That arrived.
        in_time: Answered before their deadline.
        late: Answered after it.
        dropped: Not begun, because the deadline was over when the device was free.
        off: Arrived while the device was off.
        quality: Mean quality of the answers in time; 0 if there were none.
        useful: Quality summed over the answers in time, for each request that arrived.
        energy_j: Drawn over the whole day.
        model_j: Of it by the model, beside what the device draws in any case.
        throttled_s: Time below the first clock step.
        hottest_c: Highest temperature of the samples.
        battery: Charge at the end; None on the mains.
        off_at_s: When the battery was empty; None: never.
        switches: Changes of the path.
        answers: In time, for each path.
        request_s: Arrivals of the requests.
        request_path: Path of each request; -1: none was run.
        request_in_time: Whether it was answered in time.
        trace: What the device went through.
    """

    requests: int
    in_time: int
    late: int
    dropped: int
    off: int
    quality: float
    useful: float
    energy_j: float
    model_j: float
    throttled_s: float
    hottest_c: float
    battery: float | None
    off_at_s: float | None
    switches: int
    answers: tuple[int, ...]
    request_s: npt.NDArray[np.float64]
    request_path: npt.NDArray[np.int64]
    request_in_time: npt.NDArray[np.bool_]
    trace: Trace

    @property
    def miss_rate(self) -> float:
        """Share of the requests that had no answer in time; 0 if there were none."""
        return 1.0 - self.in_time / self.requests if self.requests else 0.0


def inputs_per_request(profile: DeviceProfile, largest: Work, scenario: Scenario) -> int:
    """Return how many inputs a request has, at least one; see `Scenario.load`."""
    seconds = largest.seconds(1.0)
    return max(1, round(scenario.load * scenario.deadline_s / seconds)) if seconds else 1


class _Sampler:
    """Takes a sample a minute, whatever the day does in between."""

    def __init__(self, device: VirtualDevice, start_s: float) -> None:
        self._device = device
        self._start_s = start_s
        self._next_s = 0.0
        self._rows: list[tuple[float, float, float, float, int]] = []

    def idle_until(self, time_s: float) -> None:
        """Let the device idle, stopping for samples."""
        device = self._device
        while self._next_s <= time_s:
            device.idle_until(self._next_s)
            self._take()
        device.idle_until(time_s)

    def catch_up(self) -> None:
        """Take the samples that are due after the device has worked."""
        while self._next_s <= self._device.time_s:
            self._take()

    def _take(self) -> None:
        device = self._device
        battery = device.battery
        self._rows.append(
            (
                self._start_s + self._next_s,
                device.temperature_c,
                device.air_c,
                np.nan if battery is None else battery,
                device.level,
            )
        )
        self._next_s += _SAMPLE_S

    def trace(self) -> Trace:
        columns = [np.array(column) for column in zip(*self._rows, strict=True)]
        return Trace(*columns)


def simulate_day(
    profile: DeviceProfile,
    tables: Tables,
    paths: PathChoice,
    scenario: Scenario,
    policy: PolicyMaker,
    *,
    budget_bytes: int = 0,
) -> Day:
    """Live through a scenario; the policy chooses a path for each request and hears what it took.

    Args:
        profile: The device.
        tables: The opened bundle, for the weights that paths have to read.
        paths: Its paths as work.
        scenario: What happens.
        policy: Makes the policy for a device, whose clock and battery it may look at. It is asked
            with the time that is left until the request's deadline.
        budget_bytes: For weights in memory; 0: no limit.

    Raises:
        ProfileError: The profile lacks what a simulation needs.
        BudgetError: A path that the policy chose does not fit into the budget.
    """
    device = VirtualDevice(
        profile,
        air_c=lambda seconds: scenario.air_c(scenario.start_s + seconds),
        charge=scenario.charge,
        awake=False,
    )
    chooser = policy(device)
    sampler = _Sampler(device, scenario.start_s)
    residency = Residency(profile, tables, budget_bytes)
    inputs = inputs_per_request(profile, paths.works[-1], scenario)
    works = [work.times(inputs) for work in paths.works]
    arrivals = scenario.arrivals_s() - scenario.start_s
    factors = scenario.factors(len(arrivals))
    chosen = np.full(len(arrivals), -1, dtype=np.int64)
    in_time = np.zeros(len(arrivals), dtype=np.bool_)
    late = off = switches = 0
    current = -1
    off_at_s: float | None = None

    first = 0
    for start, end in scenario.sessions:
        sampler.idle_until(start - scenario.start_s)
        device.awake = True
        last = int(np.searchsorted(arrivals, end - scenario.start_s))
        for request in range(first, last):
            arrival = float(arrivals[request])
            if device.time_s < arrival:
                sampler.idle_until(arrival)
            if not device.is_on:
                off += 1
                continue
            deadline = arrival + scenario.deadline_s
            if device.time_s >= deadline:
                continue
            path = chooser.choose((deadline - device.time_s) * 1e6)
            begun = device.time_s
            work = works[path].times(float(factors[request]))
            if path != current:
                switches += current >= 0
                current = path
                work = work + residency.select(paths.chains[path])
            chosen[request] = path
            finished = device.run(work)
            sampler.catch_up()
            if finished:
                chooser.record(path, (device.time_s - begun) * 1e6)
            if finished and device.time_s <= deadline:
                in_time[request] = True
            else:
                late += 1
        first = last
        sampler.idle_until(end - scenario.start_s)
        device.awake = False
    sampler.idle_until(scenario.end_s - scenario.start_s)

    trace = sampler.trace()
    empty = np.flatnonzero(trace.battery <= 0.0)
    if len(empty):
        off_at_s = float(trace.time_s[empty[0]])
    answers = np.bincount(chosen[in_time], minlength=len(works))
    quality = float(answers @ np.array(paths.quality))
    count = len(arrivals)
    answered = int(answers.sum())
    return Day(
        requests=count,
        in_time=answered,
        late=late,
        dropped=count - answered - late - off,
        off=off,
        quality=quality / answered if answered else 0.0,
        useful=quality / count if count else 0.0,
        energy_j=device.energy_j,
        model_j=device.work_j,
        throttled_s=device.throttled_s,
        hottest_c=float(trace.temperature_c.max()),
        battery=device.battery,
        off_at_s=off_at_s,
        switches=switches,
        answers=tuple(int(answer) for answer in answers),
        request_s=arrivals + scenario.start_s,
        request_path=chosen,
        request_in_time=in_time,
        trace=trace,
    )


class FixedPolicy:
    """Runs the same path always: what an application does without nestling.

    Args:
        path: Which.
    """

    def __init__(self, path: int) -> None:
        self._path = path

    def choose(self, deadline_us: float) -> int:
        """Return the path, whatever the deadline."""
        return self._path

    def record(self, path: int, cost_us: float) -> None:
        """Learn nothing."""
