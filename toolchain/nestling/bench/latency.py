"""How long runs and switches take; ours and plain ExecuTorch in one process, interleaved.

`firmware/bench` takes the samples and says in which order; here they become figures. A ratio is
taken within a round, where both sides saw the same machine, and only then over the rounds.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nestling.bench import native
from nestling.bench.records import Record, missing_record, ratio_record, summarise
from nestling.bench.subject import Subject

CHAIN_RATIO = "chain_ratio"
NEST_RATIO_WORST = "nest_ratio_worst"
NEST_RATIO_GEOMEAN = "nest_ratio_geomean"
SWITCH_OVERHEAD = {0.50: "switch_overhead_p50_us", 0.99: "switch_overhead_p99_us"}
RELOAD_RATIO = "reload_ratio"
ALTERNATING_RATIO = "alternating_ratio"

_NO_PLAIN = "no plain programs beside the bundle"
_ONE_PATH = "the bundle has one path"
_BOOTSTRAPS = 200
_GROUPS = 10

# A switch may cost this much, whichever is more: the p99 that we set ourselves.
_SWITCH_US = 10.0
_SWITCH_SHARE = 0.01


@dataclass(frozen=True)
class PathRuns:
    """Steady runs of one path: the median of every round, us; `plain` may be empty."""

    path: str
    fused: list[float]
    chain: list[float]
    plain: list[float]

    @property
    def chain_ratios(self) -> list[float]:
        """Chained against fused, once a round."""
        return [chain / fused for chain, fused in zip(self.chain, self.fused, strict=True)]

    @property
    def nest_ratios(self) -> list[float]:
        """Fused against the plain dense program, once a round."""
        return [fused / plain for fused, plain in zip(self.fused, self.plain, strict=True)]


def measure_latency(subject: Subject) -> list[Record]:
    """Measure every figure of time that compares us with plain ExecuTorch.

    - `nest_ratio_worst`, `nest_ratio_geomean`: fused nested path against the plain dense program of
      the same subnet, over the named paths.
    - `chain_ratio`: chained stages against the fused method, on the path where that is worst.
    - `switch_overhead_p50_us`, `_p99_us`: see `switch_records`.
    - `reload_ratio`: unloading one plain program and loading another, against select(); medians.
    - `alternating_ratio`: a call of plain ExecuTorch with all files loaded when every call changes
      the path, against ours, select() included; means.
    - `run_us_<path>`: a steady fused run; its baseline is the plain program's.
    """
    # A scheme that nests bits has paths without a plain counterpart; with the others they would not
    # compare.
    paths = tuple(path for path in subject.paths if path in subject.plain) or subject.paths
    samples = native.measure_speed(
        subject.bundle,
        paths,
        plain=subject.plain,
        inputs=subject.inputs,
        threads=subject.threads,
        effort=subject.effort,
    )
    return latency_records(subject, samples)


def latency_records(subject: Subject, samples: dict[str, Any]) -> list[Record]:
    """Make the records out of what `nestling-bench speed` printed."""
    runs = [_read_runs(entry) for entry in samples["steady"]]
    return [
        *_run_records(subject, runs),
        _chain_record(subject, runs),
        *_nest_records(subject, runs),
        *switch_records(subject, samples["switch"]),
        _reload_record(subject, samples["reload"]),
        _alternating_record(subject, samples["alternating"]),
    ]


def _read_runs(entry: dict[str, Any]) -> PathRuns:
    def medians(how: str) -> list[float]:
        return [statistics.median(burst) / 1e3 for burst in entry["samples"].get(how, [])]

    return PathRuns(entry["path"], medians("fused"), medians("chain"), medians("plain"))


def _run_records(subject: Subject, runs: Sequence[PathRuns]) -> list[Record]:
    records = []
    for run in runs:
        ours = summarise(run.fused)
        plain = statistics.median(run.plain) if run.plain else None
        records.append(
            Record(
                f"run_us_{run.path}",
                ours.median,
                "us",
                plain,
                ours.median / plain if plain else None,
                ours.spread,
                subject.label,
                f"{subject.where}; baseline: plain ExecuTorch",
            )
        )
    return records


def _chain_record(subject: Subject, runs: Sequence[PathRuns]) -> Record:
    worst = max(runs, key=lambda run: statistics.median(run.chain_ratios))
    return ratio_record(
        CHAIN_RATIO,
        worst.chain_ratios,
        baseline=statistics.median(worst.fused),
        model=subject.label,
        where=f"{subject.where}; worst path: {worst.path}; baseline: us fused",
    )


def _nest_records(subject: Subject, runs: Sequence[PathRuns]) -> list[Record]:
    if not all(run.plain for run in runs):
        return [
            missing_record(metric, "1", subject.label, _NO_PLAIN)
            for metric in (NEST_RATIO_WORST, NEST_RATIO_GEOMEAN)
        ]
    ratios = {run.path: run.nest_ratios for run in runs}
    medians = {path: statistics.median(values) for path, values in ratios.items()}
    worst = max(runs, key=lambda run: medians[run.path])
    each = ", ".join(f"{path} {median:.3f}" for path, median in medians.items())
    geomean = statistics.geometric_mean(medians.values())
    return [
        ratio_record(
            NEST_RATIO_WORST,
            worst.nest_ratios,
            baseline=statistics.median(worst.plain),
            model=subject.label,
            where=f"{subject.where}; worst path: {worst.path}; baseline: us plain",
        ),
        Record(
            NEST_RATIO_GEOMEAN,
            geomean,
            "1",
            statistics.geometric_mean([statistics.median(run.plain) for run in runs]),
            geomean,
            geomean_spread(list(ratios.values())),
            subject.label,
            f"{subject.where}; {each}; baseline: us plain",
        ),
    ]


def geomean_spread(ratios: Sequence[Sequence[float]]) -> float:
    """Return how far the geometric mean of the medians varies when the rounds are drawn again.

    Args:
        ratios: One list a path, one ratio a round; paths may differ in the number of rounds.
    """
    rng = random.Random(0)
    return summarise(
        [
            statistics.geometric_mean(
                [statistics.median(rng.choices(rounds, k=len(rounds))) for rounds in ratios]
            )
            for _ in range(_BOOTSTRAPS)
        ]
    ).spread


def quantile(samples: Sequence[float], share: float) -> float:
    """Return the quantile by linear interpolation."""
    ordered = sorted(samples)
    at = share * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def switch_records(subject: Subject, samples: Sequence[dict[str, Any]]) -> list[Record]:
    """Measure what a switch costs when everything is resident.

    The overhead at a quantile q is the difference of two quantiles: the q of "select() and the
    first run after another path ran", less the q of a later, steady run of the same path. Both
    samples have the same size and were taken in turns, so that what the machine does beside us is
    in both. It is a difference of
    quantiles and not a quantile of differences: the latter would count the machine's jitter twice.
    The record is that of the path with the worst overhead as the limit counts it (10 us or 1 % of
    the run, whichever is more); `baseline` is the path's median steady run, `ratio` the overhead's
    share of it.

    Args:
        subject: What was measured.
        samples: For each path `select`, `first` and `steady`, lists of nanoseconds.
    """
    if not samples:
        return [
            missing_record(metric, "us", subject.label, _ONE_PATH)
            for metric in SWITCH_OVERHEAD.values()
        ]
    return [_switch_record(subject, samples, share) for share in SWITCH_OVERHEAD]


def _switch_record(subject: Subject, samples: Sequence[dict[str, Any]], share: float) -> Record:
    def overhead(pairs: Sequence[tuple[float, float]]) -> float:
        return quantile([p[0] for p in pairs], share) - quantile([p[1] for p in pairs], share)

    found: list[tuple[float, float, float, str, list[tuple[float, float]]]] = []
    for entry in samples:
        switched = [(s + f) / 1e3 for s, f in zip(entry["select"], entry["first"], strict=True)]
        steady = [run / 1e3 for run in entry["steady"]]
        pairs = list(zip(switched, steady, strict=True))
        cost, run = overhead(pairs), statistics.median(steady)
        score = min(cost / _SWITCH_US, cost / (_SWITCH_SHARE * run))
        found.append((score, cost, run, entry["path"], pairs))
    _, cost, run, path, pairs = max(found, key=lambda one: one[0])
    return Record(
        SWITCH_OVERHEAD[share],
        cost,
        "us",
        run,
        cost / run,
        _bootstrap_spread(pairs, overhead),
        subject.label,
        f"{subject.where}; worst path: {path}, {len(pairs)} switches; baseline: us of a steady run",
    )


def _bootstrap_spread(
    pairs: Sequence[tuple[float, float]],
    statistic: Callable[[Sequence[tuple[float, float]]], float],
) -> float:
    """Return the interquartile range of a statistic over resampled samples."""
    rng = random.Random(0)
    return summarise(
        [statistic(rng.choices(pairs, k=len(pairs))) for _ in range(_BOOTSTRAPS)]
    ).spread


def _reload_record(subject: Subject, samples: dict[str, list[int]]) -> Record:
    if not samples["plain"]:
        reason = _NO_PLAIN if len(subject.paths) > 1 else _ONE_PATH
        return missing_record(RELOAD_RATIO, "1", subject.label, reason)
    # The two lists were filled in turns: equal slices of both are from the same time.
    count = min(_GROUPS, len(samples["plain"]))
    ratios = [
        statistics.median(samples["plain"][at::count])
        / max(statistics.median(samples["select"][at::count]), 1)
        for at in range(count)
    ]
    select_us = statistics.median(samples["select"]) / 1e3
    reload_us = statistics.median(samples["plain"]) / 1e3
    return ratio_record(
        RELOAD_RATIO,
        ratios,
        baseline=select_us,
        model=subject.label,
        where=f"{subject.where}; reload {reload_us:.0f} us, select {select_us:.2f} us (baseline)",
    )


def _alternating_record(subject: Subject, samples: dict[str, list[int]]) -> Record:
    if not samples["plain"]:
        reason = _NO_PLAIN if len(subject.paths) > 1 else _ONE_PATH
        return missing_record(ALTERNATING_RATIO, "1", subject.label, reason)
    pairs = list(zip(samples["plain"], samples["nested"], strict=True))
    return ratio_record(
        ALTERNATING_RATIO,
        [plain / nested for plain, nested in pairs],
        baseline=statistics.median(nested for _, nested in pairs) / 1e3,
        model=subject.label,
        where=f"{subject.where}; {len(pairs)} laps; baseline: us a call, ours",
    )
