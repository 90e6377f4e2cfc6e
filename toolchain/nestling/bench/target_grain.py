"""Block grain against layer grain on the processor: what more stages cost in time."""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from nestling.bench.records import Record, describe_machine, ratio_record
from nestling.bench.runner import Runner
from nestling.export import export_bundle
from nestling.targets.description import Grain

if TYPE_CHECKING:
    from nestling.bench.demo import Advance
    from nestling.bench.targets import Subject

_ROUNDS = 30
_BURST = 5


def measure_grains(
    subject: Subject, folder: Path, jobs: int, advance: Advance | None = None
) -> Record:
    """Export the network in both grains on XNNPACK; return the ratio of the full path's times.

    Bursts of runs take turns, and the fastest run of each counts.

    Args:
        subject: The network and its inputs.
        folder: Where the bundles go.
        jobs: Processes that lower stages.
        advance: Told about each stage that was lowered.
    """
    times: dict[Grain, list[float]] = {"block": [], "layer": []}
    with ExitStack() as stack:
        runners = {}
        for grain in times:
            bundle = folder / f"xnnpack-{grain}.nest"
            export_bundle(
                subject.supernet,
                bundle,
                grain=grain,
                fused=False,
                jobs=jobs,
                progress=advance,
                name=subject.name,
            )
            runners[grain] = stack.enter_context(Runner.open(bundle))
            runners[grain].select("full", mode="chain")
            runners[grain].run(subject.inputs[0])
        for _ in range(_ROUNDS):
            for grain, runner in runners.items():
                times[grain].append(min(_run_us(runner, subject) for _ in range(_BURST)))
    return ratio_record(
        "block_grain_ratio",
        [block / layer for block, layer in zip(times["block"], times["layer"], strict=True)],
        baseline=statistics.median(times["layer"]),
        model=f"{subject.name} xnnpack fp32",
        where=f"full path as a chain, fp32, bursts in turns; {describe_machine(1)}",
    )


def _run_us(runner: Runner, subject: Subject) -> float:
    runner.run(subject.inputs[0])
    return runner.last_run_us
