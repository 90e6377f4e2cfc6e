"""The budget policy in C against a second implementation, and on stories with a known end."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

import pytest
from core.server import Reader
from hypothesis import given, settings
from hypothesis import strategies as st

SEED, RECORD, CHOOSE = 0.0, 1.0, 2.0


@dataclass(frozen=True)
class Params:
    """As NST_POLICY_DEFAULTS."""

    smoothing: float = 0.2
    spread_weight: float = 2.0
    down_margin: float = 1.0
    up_margin: float = 0.85
    minimum_stay_runs: int = 8
    warmup_runs: int = 1
    stale_after_runs: int = 32

    def numbers(self) -> list[float]:
        return [float(value) for value in vars(self).values()]


@dataclass
class Cost:
    """What is known of a path; `mean` is None as long as nothing is."""

    mean: float | None = None
    deviation: float = 0.0
    runs: int = 0
    last_run: int = 0


@dataclass
class Oracle:
    """The policy as its header describes it, written down a second time."""

    params: Params
    paths: int
    current: int = 0
    stay: int = 0
    runs: int = 0
    costs: list[Cost] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.costs = [Cost() for _ in range(self.paths)]

    def expected(self, path: int) -> float | None:
        cost = self.costs[path]
        if cost.mean is None:
            return None
        return cost.mean + self.params.spread_weight * cost.deviation

    def seed(self, path: int, us: float) -> None:
        if path < self.paths and 0 <= us < math.inf and not self.costs[path].runs:
            self.costs[path].mean = us

    def record(self, path: int, us: float) -> bool:
        if path >= self.paths or not 0 <= us < math.inf:
            return False
        self.runs += 1
        self.stay += path == self.current
        cost = self.costs[path]
        if cost.runs <= self.params.warmup_runs:
            cost.mean, cost.deviation = us, 0.0
        else:
            assert cost.mean is not None
            weight, before = self.params.smoothing, cost.mean
            cost.mean = (1 - weight) * before + weight * us
            cost.deviation = (1 - weight) * cost.deviation + weight * abs(us - before)
            if before > 0:
                self._scale_stale(path, cost.mean / before)
        cost.runs += 1
        cost.last_run = self.runs
        return True

    def _scale_stale(self, measured: int, ratio: float) -> None:
        for path, cost in enumerate(self.costs):
            stale = self.runs - cost.last_run > self.params.stale_after_runs
            if path == measured or cost.mean is None or not stale:
                continue
            if cost.mean * ratio < math.inf and cost.deviation * ratio < math.inf:
                cost.mean, cost.deviation = cost.mean * ratio, cost.deviation * ratio

    def choose(self, deadline_us: float) -> int:
        deadline = deadline_us if deadline_us > 0 else 0.0
        best = self._pick(deadline)
        if best != self.current:
            self.current, self.stay = best, 0
        return best

    def _fitting(self, paths: range, limit: float) -> list[int]:
        costs = {path: self.expected(path) for path in paths}
        return [path for path, cost in costs.items() if cost is not None and cost <= limit]

    def _pick(self, deadline: float) -> int:
        own = self.expected(self.current)
        down, up = deadline * self.params.down_margin, deadline * self.params.up_margin
        if own is not None and own > down:
            return max(self._fitting(range(self.current), down), default=0)
        if self.stay < self.params.minimum_stay_runs:
            return self.current
        larger = self._fitting(range(self.current + 1, self.paths), up)
        if larger:
            return max(larger)
        untried = self.current + 1 < self.paths and self.expected(self.current + 1) is None
        return self.current + 1 if untried and own is not None and own <= up else self.current


params = st.builds(
    Params,
    smoothing=st.floats(0.01, 1),
    spread_weight=st.floats(0, 4),
    down_margin=st.floats(0.8, 1.2),
    up_margin=st.floats(0.1, 0.8),
    minimum_stay_runs=st.integers(0, 4),
    warmup_runs=st.integers(0, 2),
    stale_after_runs=st.integers(0, 6),
)
microseconds = st.floats(0, 1e6) | st.sampled_from([0.0, -1.0, math.inf, math.nan, 1e308])
calls = st.lists(
    st.tuples(st.sampled_from([SEED, RECORD, RECORD, RECORD]), st.integers(0, 4), microseconds)
    | st.tuples(st.just(CHOOSE), microseconds, st.just(0)),
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(params=params, paths=st.integers(1, 4), calls=calls)
def test_both_implementations_agree(
    reader: Reader, params: Params, paths: int, calls: list[tuple[float, float, float]]
) -> None:
    oracle = Oracle(params, paths)
    expected = []
    for operation, a, b in calls:
        if operation == SEED:
            oracle.seed(int(a), b)
            expected.append(0)
        elif operation == RECORD:
            expected.append(int(oracle.record(int(a), b)))
        else:
            expected.append(oracle.choose(a))
    flat = [number for call in calls for number in call]
    answer = reader.policy([*params.numbers(), paths, *flat])
    assert answer["sound"]
    assert answer["answers"] == expected
    for path, cost in enumerate(answer["costs"]):
        wanted = oracle.expected(path)
        if wanted is None:
            assert cost == -1
        elif wanted == math.inf:
            assert cost == math.inf
        else:
            assert cost == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize(
    "broken",
    [
        Params(smoothing=0),
        Params(smoothing=1.1),
        Params(smoothing=math.nan),
        Params(spread_weight=-1),
        Params(spread_weight=math.inf),
        Params(up_margin=0),
        Params(up_margin=1.1),
        Params(down_margin=math.nan),
    ],
)
def test_a_parameter_out_of_range_is_refused(reader: Reader, broken: Params) -> None:
    assert not reader.policy([*broken.numbers(), 3])["sound"]


def test_no_paths_is_refused(reader: Reader) -> None:
    assert not reader.policy([*Params().numbers(), 0])["sound"]


def story(reader: Reader, costs_us: list[list[float]], deadline_us: list[float]) -> list[int]:
    """Run a device, one step a deadline, with costs_us[path][step]; return the paths chosen.

    The C policy is asked again from the start at every step: it has no clock and no hidden state.
    """
    calls: list[float] = []
    chosen = []
    for step, deadline in enumerate(deadline_us):
        calls += [CHOOSE, deadline, 0]
        path = reader.policy([*Params().numbers(), len(costs_us), *calls])["answers"][-1]
        chosen.append(path)
        calls += [RECORD, path, costs_us[path][step]]
    return chosen


def test_it_climbs_to_the_largest_path_that_fits(reader: Reader) -> None:
    steps = 60
    chosen = story(reader, [[10.0] * steps, [20.0] * steps, [40.0] * steps], [30.0] * steps)
    assert chosen[0] == 0
    assert chosen[-1] == 1
    # The path that is too slow is tried once, not again and again.
    assert chosen.count(2) == 1


def test_it_steps_down_at_once_and_up_after_a_stay(reader: Reader) -> None:
    steps = 80
    deadlines = [30.0] * 40 + [15.0] * 5 + [30.0] * 35
    chosen = story(reader, [[10.0] * steps, [20.0] * steps], deadlines)
    assert chosen[39] == 1
    assert set(chosen[40:45]) == {0}
    back = chosen.index(1, 45)
    assert back - 40 >= Params().minimum_stay_runs
    assert set(chosen[back:]) == {1}


def test_it_does_not_flutter_at_the_border(reader: Reader) -> None:
    steps = 120
    border = [23.0, 24.0] * (steps // 2)  # up needs 20 / 0.85 = 23.5
    chosen = story(reader, [[10.0] * steps, [20.0] * steps], border)
    changes = sum(a != b for a, b in itertools.pairwise(chosen))
    assert changes == 1


def test_a_path_left_because_of_heat_is_found_again(reader: Reader) -> None:
    cool, hot = 60, 40
    factor = [1.0] * cool + [2.0] * hot + [1.0] * 150
    costs = [[10 * f for f in factor], [20 * f for f in factor]]
    chosen = story(reader, costs, [25.0] * len(factor))
    assert chosen[cool - 1] == 1
    assert chosen[cool + hot - 1] == 0
    assert chosen[-1] == 1


def test_a_slow_first_run_is_forgotten(reader: Reader) -> None:
    costs = [[10.0] * 40, [20.0] * 40]
    calls = [SEED, 0, 10.0, SEED, 1, 20.0, RECORD, 1, 500.0, RECORD, 1, 20.0]
    answer = reader.policy([*Params().numbers(), len(costs), *calls])
    assert answer["costs"] == [10.0, 20.0]
