"""One path over two targets: the same result as on one, and what the second target adds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nestling.bench.records import Record, missing_record
from nestling.errors import NestlingError

if TYPE_CHECKING:
    from nestling.bench.demo import Advance
    from nestling.bench.targets import Subject

OWN = "xnnpack"
OWN_SCHEME = "fp32"
METRICS = ("mix_top1", "mix_relative", "mix_bytes_ratio")


@dataclass(frozen=True)
class Mix:
    """A target that takes turns with the processor.

    Attributes:
        target: its name.
        scheme: of its stages.
        where: what executes it here.
    """

    target: str
    scheme: str
    where: str


MIXES = (
    Mix("openvino", "fp32", "OpenVINO on this CPU"),
    Mix("qnn-sm8650", "fp16", "the Hexagon HTP simulator"),
)


def measure_mixes(
    subject: Subject, folder: Path, jobs: int, advance: Advance | None = None
) -> list[Record]:
    """Export the network for the processor and each of `MIXES`, and run its full path over both.

    Every other stage of the path runs on the other target. `mix_top1` is the share of samples with
    the same largest output as on the processor alone, `mix_relative` the largest difference as a
    share of the largest output, `mix_bytes_ratio` the bundle against its part for the processor.

    Args:
        subject: The network and its inputs.
        folder: Where the bundles go.
        jobs: Processes that lower stages.
        advance: Told about each stage that was lowered.
    """
    records = []
    for mix in MIXES:
        label = f"{subject.name} {OWN}+{mix.target}"
        try:
            records += _measure(subject, mix, folder, label, jobs, advance)
        except NestlingError as error:
            records += [missing_record(metric, "1", label, str(error)) for metric in METRICS]
    return records


def _measure(
    subject: Subject, mix: Mix, folder: Path, label: str, jobs: int, advance: Advance | None
) -> list[Record]:
    from nestling.bundle.split import split
    from nestling.export import export_bundle
    from nestling.targets.registry import describe_target

    describe_target(mix.target).require("run")
    folder.mkdir(parents=True, exist_ok=True)
    bundle, alone = folder / f"mix-{mix.target}.nest", folder / f"mix-{mix.target}-alone.nest"
    export_bundle(
        subject.supernet,
        bundle,
        target=(OWN, mix.target),
        scheme={OWN: OWN_SCHEME, mix.target: mix.scheme},
        jobs=jobs,
        fused=False,
        progress=advance,
        name=subject.name,
    )
    split(bundle, [OWN], alone)
    outputs, report = _run(subject, mix, bundle)
    own, mixed = outputs["own"], outputs["mixed"]
    samples = len(own)
    same = own.reshape(samples, -1).argmax(1) == mixed.reshape(samples, -1).argmax(1)
    relative = float(np.abs(own - mixed).max() / np.abs(own).max())
    where = (
        f"{len(report['stages']['mixed'])} stages, {report['switches']} of them on {mix.where}, "
        f"{samples} samples, against {OWN} alone"
    )
    ratio = bundle.stat().st_size / alone.stat().st_size
    bytes_where = f"{mix.scheme} stages for {mix.target} beside {OWN} in {OWN_SCHEME}, on disk"
    return [
        Record("mix_top1", float(same.mean()), "1", None, None, None, label, where),
        Record("mix_relative", relative, "1", None, None, None, label, where),
        Record(
            "mix_bytes_ratio",
            ratio,
            "1",
            float(alone.stat().st_size),
            ratio,
            None,
            label,
            bytes_where,
        ),
    ]


def _run(subject: Subject, mix: Mix, bundle: Path) -> tuple[dict[str, np.ndarray], dict[str, dict]]:  # type: ignore[type-arg]
    """Run the worker; return outputs by way, and what ran where.

    Raises:
        NestlingError: It failed, or a stage did not run where it should.
    """
    environment = dict(os.environ)
    if mix.target.startswith("qnn"):
        from nestling.targets.qnn.host import environment as simulator

        environment.update(simulator())
    inputs, outputs = bundle.with_suffix(".in.npz"), bundle.with_suffix(".out.npz")
    columns = [np.stack(column) for column in zip(*subject.inputs, strict=True)]
    np.savez(inputs, *columns)
    worker = Path(__file__).with_name("target_mix_worker.py")
    result = subprocess.run(
        [sys.executable, str(worker), str(bundle), str(inputs), str(outputs)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        raise NestlingError(
            f"a path over {OWN} and {mix.target} cannot be run",
            actual=(result.stderr.strip().splitlines() or ["no message"])[-1],
        )
    # Simulators write to the same stream.
    report = json.loads(result.stdout.strip().splitlines()[-1])
    if report["fallbacks"]:
        raise NestlingError(
            f"stages for {mix.target} did not run", actual="; ".join(report["fallbacks"])
        )
    return dict(np.load(outputs)), report
