"""A hot day on a phone that throttles, its battery at 30 %: the policy against fixed sub-networks.

The days are simulated (`nestling_devices.sim`); the policy under test is the library's own
(`firmware/core/policy.c` and `ration.c`). Every contestant lives through the same days: the same
requests, the same scatter of run times, the same weather.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nestling.bench.records import Record, summarise
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
from nestling_devices.sim.day import PolicyMaker, inputs_per_request
from nestling_runtime.bundle import Bundle
from nestling_runtime.policy import BudgetPolicy, Policy, RationedPolicy

DEVICE = "phone-mid"
SEEDS = (0, 1, 2, 3, 4)

POLICY, DEADLINES = "nestling", "nestling, no ration"
"""Names of the contestants that are nestling's: with and without rationing the battery."""

Advance = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Contestant:
    """A way to choose paths, and how it did.

    Attributes:
        name: For people.
        days: One for each seed.
    """

    name: str
    days: tuple[Day, ...]

    def median(self, figure: Callable[[Day], float]) -> float:
        """Return the median of a figure over the days."""
        return statistics.median(figure(day) for day in self.days)


@dataclass(frozen=True)
class HotDay:
    """What was found.

    Attributes:
        bundle: Name of the model and its scheme.
        device: Simulated.
        threads: Of a run.
        scenario: Of the first seed.
        paths: The sub-networks, as work on the device.
        inputs: Of one request.
        seeds: Of the days.
        contestants: The fixed paths small to large, then nestling's ways.
        records: Figures for `bench.json`.
    """

    bundle: str
    device: DeviceProfile
    threads: int
    scenario: Scenario
    paths: PathChoice
    inputs: int
    seeds: tuple[int, ...]
    contestants: tuple[Contestant, ...]
    records: tuple[Record, ...]

    @property
    def weather(self) -> str:
        """What the days are like, and the battery at their start where there is one."""
        if self.device.battery_wh is None:
            return self.scenario.title
        return f"{self.scenario.title}, battery at {100 * self.scenario.charge:.0f} %"

    def contestant(self, name: str) -> Contestant:
        """Return a contestant by name.

        Raises:
            KeyError: There is none of that name.
        """
        return {one.name: one for one in self.contestants}[name]


def always(path: str) -> str:
    """Return the name of the contestant that runs the same path always."""
    return f"always {path}"


def judge_hot_day(
    bundle: Path,
    *,
    device: str | DeviceProfile = DEVICE,
    threads: int = 1,
    seeds: Sequence[int] = SEEDS,
    plot: Path | None = None,
    measured_us: dict[str, float] | None = None,
    advance: Advance = lambda done, total, name: None,
) -> HotDay:
    """Let policies live through hot days and compare them.

    Args:
        bundle: With quality figures of its named paths; needs at least two.
        device: Profile, or the name of one that comes with nestling.
        threads: Of a run on the simulated device.
        seeds: One day each: other sessions, other scatter.
        plot: Where to draw the day of the first seed, as PNG; None: nowhere.
        measured_us: Costs measured on that device, by path or stage; others are modelled.
        advance: Hears of progress.

    Returns:
        All days, and the records of the comparison.

    Raises:
        NestlingError: The bundle, its quality figures or the profile lack something.
    """
    profile = find_profile(device) if isinstance(device, str) else device
    with Bundle.open(bundle) as tables:
        costs = CostModel(profile, tables, threads=threads, measured_us=measured_us)
        paths = path_choice(tables, costs)
        scenarios = [hot_day(seed) for seed in seeds]
        makers = [
            {
                **{always(name): fixed(index) for index, name in enumerate(paths.names)},
                **own_policies(len(paths.names), scenario, profile.battery_wh is not None),
            }
            for scenario in scenarios
        ]
        contestants = []
        for number, name in enumerate(makers[0]):
            days = []
            for index, (scenario, maker) in enumerate(zip(scenarios, makers, strict=True)):
                days.append(simulate_day(profile, tables, paths, scenario, maker[name]))
                done = number * len(scenarios) + index + 1
                advance(done, len(makers[0]) * len(scenarios), name)
            contestants.append(Contestant(name, tuple(days)))
        inputs = inputs_per_request(profile, paths.works[-1], scenarios[0])
        model = f"{tables.name} {tables.scheme}"
    found = HotDay(
        bundle=model,
        device=profile,
        threads=threads,
        scenario=scenarios[0],
        paths=paths,
        inputs=inputs,
        seeds=tuple(seeds),
        contestants=tuple(contestants),
        records=(),
    )
    found = dataclasses.replace(found, records=tuple(_records(found)))
    if plot is not None:
        from nestling.bench.hot_day_plot import draw_hot_day

        draw_hot_day(found, plot)
    return found


def fixed(path: int) -> PolicyMaker:
    """Return what makes a policy that runs one path always."""
    return lambda device: FixedPolicy(path)


def own_policies(paths: int, scenario: Scenario, has_battery: bool) -> dict[str, PolicyMaker]:
    """Return nestling's ways to choose, by name; rationing needs a battery."""

    def budget(device: VirtualDevice) -> Policy:
        return BudgetPolicy(paths)

    def rationed(device: VirtualDevice) -> Policy:
        return RationedPolicy(
            BudgetPolicy(paths),
            lambda: device.battery or 0.0,
            lambda: device.time_s,
            end_s=scenario.end_s - scenario.start_s,
        )

    if not has_battery:
        return {POLICY: budget}
    return {DEADLINES: budget, POLICY: rationed}


def _records(found: HotDay) -> list[Record]:
    """Compare nestling's policy with the largest path and the smallest, day by day."""
    ours = found.contestant(POLICY)
    tiny, full = (found.contestant(always(found.paths.names[index])) for index in (0, -1))
    metric = found.paths.metric
    where = (
        f"simulated: {found.device.title}, {found.weather}; {len(found.seeds)} days of "
        f"{ours.days[0].requests:,} requests of {found.inputs} inputs; costs are modelled"
    )

    def record(name: str, unit: str, other: Contestant, figure: Callable[[Day], float]) -> Record:
        estimate = summarise([figure(day) for day in ours.days])
        baseline = other.median(figure)
        return Record(
            metric=name,
            value=estimate.median,
            unit=unit,
            baseline=baseline,
            ratio=estimate.median / baseline if baseline else None,
            spread=estimate.spread,
            model=f"{found.bundle}, against {other.name}",
            where=where,
        )

    return [
        record("policy_miss_rate", "1", full, lambda day: day.miss_rate),
        record("policy_energy_j", "J", full, lambda day: day.energy_j),
        record("policy_throttled_s", "s", full, lambda day: day.throttled_s),
        record("policy_useful", metric, full, lambda day: day.useful),
        record("policy_quality", metric, tiny, lambda day: day.quality),
    ]
