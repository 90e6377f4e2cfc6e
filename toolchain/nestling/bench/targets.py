"""Every target on three networks: what is delegated, what it weighs, whether it computes the same.

The digits networks are trained, so the share of equal answers means something. MobileNetV2 has
random weights: there the outputs themselves are compared. What was measured is kept beside its
bundles, so a run can add targets to those of an earlier one.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nestling.bench.demo import Advance, Bar, train_network
from nestling.bench.models import build_mobilenet_v2
from nestling.bench.records import (
    Record,
    describe_machine,
    missing_record,
    read_records,
    write_records,
)
from nestling.bench.runner import Runner
from nestling.bench.samples import noise_samples, recipe_samples
from nestling.bench.stage_chain import StageChain
from nestling.bench.target_grain import measure_grains
from nestling.bench.target_mix import MIXES, measure_mixes
from nestling.errors import ExportError, ModelError, NestlingError, TargetError
from nestling_runtime.bundle import Bundle

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from nestling.elastic import Supernet
    from nestling.targets.description import TargetDescription

NETWORKS = ("digits-vit", "digits-cnn", "mobilenet-v2-224")
IMAGES = 100
NOISE_SAMPLES = 2
OTHER_DEMOS = {"cortex-m": "see `nestling demo-devices`"}
"""Families that have a demo of their own."""


@dataclass(frozen=True)
class Subject:
    """One network, and what eager torch makes of it.

    Attributes:
        name: Of the network.
        supernet: The network.
        calibration: Inputs that quantisation may look at.
        inputs: Inputs to compare on, each a tuple of arrays of batch 1.
        expected: Eager torch's output for each, by path.
        trained: Whether the largest output of an image says something.
    """

    name: str
    supernet: Supernet
    calibration: Sequence[tuple[Tensor, ...]]
    inputs: list[tuple[NDArray, ...]]  # type: ignore[type-arg]
    expected: Mapping[str, list[NDArray]]  # type: ignore[type-arg]
    trained: bool


@dataclass
class TargetResult:
    """One network on one target in one scheme; figures are None where they could not be taken.

    Attributes:
        network: Name of the network.
        target: Name of the target.
        scheme: Of quantisation.
        grain: How the stages were cut.
        delegated: Share of the multiply-accumulates inside the delegate.
        portable: Operators that no delegate took, each once.
        bundle_bytes: Of the bundle with all named paths.
        alone_bytes: Of a bundle with the full path alone, in one piece.
        separate_bytes: Of a bundle with every named path in one piece.
        where: What executed the stages.
        agreement: Lowest share, over the named paths, of inputs with eager torch's top-1.
        largest_difference: Of any output, over the largest output.
        figures: Of the full path, by name with its unit: run_us, cycles.
        missing: Why there are no figures, or why nothing was executed.
    """

    network: str
    target: str
    scheme: str
    grain: str = ""
    delegated: float | None = None
    portable: list[str] = field(default_factory=list)
    bundle_bytes: int | None = None
    alone_bytes: int | None = None
    separate_bytes: int | None = None
    where: str = ""
    agreement: float | None = None
    largest_difference: float | None = None
    figures: dict[str, float] = field(default_factory=dict)
    missing: str = ""

    @property
    def label(self) -> str:
        """What records call it."""
        return f"{self.network} {self.target} {self.scheme}"


@dataclass
class TargetsDemo:
    """All that was measured, now and before."""

    results: list[TargetResult] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)


def run_targets_demo(
    out: Path,
    *,
    networks: Sequence[str] = NETWORKS,
    targets: Sequence[str] = (),
    schemes: Sequence[str] = (),
    images: int = IMAGES,
    jobs: int = 2,
    quiet: bool = False,
    bar: Bar,
    say: Callable[[str], None],
) -> TargetsDemo:
    """Export, weigh and execute every network on every target; leave `bench.json` in `out`.

    Args:
        out: Folder; what it has of an earlier run is kept and stands in `bench.json` too.
        networks: Among `NETWORKS`.
        targets: Names; default all that have no demo of their own.
        schemes: Of quantisation; default all that a target takes.
        images: How many held-out digits to compare on.
        jobs: Processes that lower stages.
        quiet: Show no training progress.
        bar: Shows the progress of exports.
        say: Is told what is done next.

    Raises:
        ExportError: There is no such target or scheme.
    """
    from nestling.quantize.schemes import get_scheme
    from nestling.targets.registry import describe_target, list_targets

    for scheme in schemes:
        get_scheme(scheme)
    chosen = [describe_target(name) for name in targets] or [
        target for target in list_targets().values() if target.family not in OTHER_DEMOS
    ]
    for network in networks:
        subject = _subject(network, out, images, quiet, say)
        for target in chosen:
            for scheme in target.schemes if not schemes else set(target.schemes) & set(schemes):
                say(f"{network}: {target.name}, {scheme}")
                folder = out / network / f"{target.name}-{scheme}"
                with bar(f"{network} {target.name} {scheme}") as advance:
                    result = measure_target(subject, target, scheme, folder, jobs, advance)
                _keep(result, folder)
        if any(target.name == "xnnpack" for target in chosen):
            say(f"{network}: block grain against layer grain")
            with bar(f"{network} grains") as advance:
                grains = measure_grains(subject, out / network, jobs, advance)
            write_records([grains], out / network / "grains.json")
        if subject.trained and any(mix.target == t.name for t in chosen for mix in MIXES):
            say(f"{network}: paths over two targets")
            with bar(f"{network} two targets") as advance:
                mixes = measure_mixes(subject, out / network, jobs, advance)
            write_records(mixes, out / network / "mixes.json")
    demo = TargetsDemo(_read_results(out))
    demo.records = [r for result in demo.results for r in target_records(result)]
    demo.records += _read_records(out)
    write_records(demo.records, out / "bench.json")
    return demo


def measure_target(
    subject: Subject,
    target: TargetDescription,
    scheme: str,
    folder: Path,
    jobs: int,
    advance: Advance | None = None,
) -> TargetResult:
    """Export a network for one target, weigh it and run its named paths.

    What a target lacks here, or cannot do with the network, is said in the result.
    """
    from nestling.export import export_bundle

    result = TargetResult(subject.name, target.name, scheme, grain=target.grain)
    folder.mkdir(parents=True, exist_ok=True)
    bundle = folder / "paths.nest"

    def export(to: Path, **options: object) -> float:
        report = export_bundle(
            subject.supernet,
            to,
            target=target.name,
            scheme=scheme,
            calibration=subject.calibration,
            jobs=jobs,
            progress=advance,
            name=subject.name,
            **options,  # type: ignore[arg-type]
        )
        result.portable = sorted({name for names in report.portable.values() for name in names})
        return report.delegated[target.name]

    named = subject.supernet.space.named
    try:
        for to, paths in (("alone", {"full": named["full"]}), ("separate", named)):
            export(folder / f"{to}.nest", grain="path", paths=paths, fused=False)
        result.alone_bytes = (folder / "alone.nest").stat().st_size
        result.separate_bytes = (folder / "separate.nest").stat().st_size
    except (ExportError, ModelError, TargetError) as error:
        result.missing = str(error)
    try:
        result.delegated = export(bundle, reference_dir=folder / "stages")
        result.bundle_bytes = bundle.stat().st_size
        result.figures = _figures(bundle)
        _execute(subject, bundle, folder / "stages", result)
    except NestlingError as error:
        result.missing = str(error)
    return result


def target_records(result: TargetResult) -> list[Record]:
    """Return the records of one network on one target."""
    label, built = result.label, f"{result.grain} grain"
    if result.bundle_bytes is None or result.delegated is None:
        return [
            missing_record(metric, "1", label, result.missing)
            for metric in ("stages_delegated", "target_bytes_ratio", "parity_top1")
        ]
    outside = f"; on the CPU: {', '.join(result.portable)}" if result.portable else ""
    records = [
        Record("stages_delegated", result.delegated, "1", None, None, None, label, built + outside)
    ]
    if result.alone_bytes is not None and result.separate_bytes is not None:
        for metric, size, how in (
            ("target_bytes_ratio", result.bundle_bytes, f"all paths, {built}"),
            ("target_bytes_ratio_plain", result.separate_bytes, "all paths, each in one piece"),
        ):
            ratio = size / result.alone_bytes
            where = f"{how}, against the full one alone; bytes on disk"
            records.append(
                Record(metric, ratio, "1", result.alone_bytes, ratio, None, label, where)
            )
    if result.agreement is None or result.largest_difference is None:
        records.append(missing_record("parity_top1", "1", label, result.missing))
    else:
        where = f"worst named path against eager torch in fp32; {result.where}"
        for metric, value in (
            ("parity_top1", result.agreement),
            ("parity_relative", result.largest_difference),
        ):
            records.append(Record(metric, value, "1", None, None, None, label, where))
    for name, value in result.figures.items():
        unit = name.rpartition("_")[2]
        clock = result.where if name == "run_us" else "the compiler's report"
        where = f"full path, stage by stage; {clock}"
        records.append(Record(f"full_{name}", value, unit, None, None, None, label, where))
    return records


def _subject(
    network: str, out: Path, images: int, quiet: bool, say: Callable[[str], None]
) -> Subject:
    import torch

    if network == "mobilenet-v2-224":
        supernet = build_mobilenet_v2()
        calibration = noise_samples(supernet, count=8)
        inputs = noise_samples(supernet, NOISE_SAMPLES, seed=1)
    else:
        from nestling.recipes import find_recipe

        supernet, _ = train_network(network, out, retrain=False, quiet=quiet, say=say)
        data = find_recipe(network).data()
        calibration = recipe_samples(data)
        count = min(images, len(data.target))
        inputs = [tuple(tensor[at : at + 1] for tensor in data.inputs) for at in range(count)]
    expected = {}
    with torch.inference_mode():
        for name, subnet in supernet.space.named.items():
            expected[name] = [supernet(*sample, subnet=subnet).numpy() for sample in inputs]
    arrays = [tuple(tensor.numpy() for tensor in sample) for sample in inputs]
    trained = network != "mobilenet-v2-224"
    return Subject(network, supernet, calibration, arrays, expected, trained)


def _execute(subject: Subject, bundle: Path, stages: Path, result: TargetResult) -> None:
    """Run every named path where the target's stages can be executed.

    Raises:
        NestlingError: They cannot.
    """
    from nestling.targets.registry import get_target
    from nestling.targets.target import Target

    target = get_target(result.target)
    if type(target).open is Target.open:  # a target of the runtime's own
        runs = _run_natively(subject, bundle)
        result.where = f"nestling's runtime; {describe_machine(1)}"
    else:
        with target.open(stages) as runner:
            chain = StageChain(bundle, runner)
            result.where = runner.where
            runs = {name: chain.run(name, subject.inputs) for name in subject.expected}
    agreements, differences = [], []
    for name, (outputs, _) in runs.items():
        pairs = list(zip(outputs, subject.expected[name], strict=True))
        agreements.append(np.mean([a.argmax() == b.argmax() for a, b in pairs]))
        scale = max(float(np.abs(b).max()) for _, b in pairs)
        differences.append(max(float(np.abs(a - b).max()) for a, b in pairs) / scale)
    result.agreement = float(min(agreements))
    result.largest_difference = max(differences)
    run_us = runs["full"][1]
    if run_us is not None:
        result.figures["run_us"] = run_us


def _run_natively(subject: Subject, bundle: Path) -> dict[str, tuple[list[NDArray], float | None]]:  # type: ignore[type-arg]
    runs: dict[str, tuple[list[NDArray], float | None]] = {}  # type: ignore[type-arg]
    with Runner.open(bundle) as runner:
        for name in subject.expected:
            runner.select(name, mode="chain")
            outputs, times = [], []
            for sample in subject.inputs:
                outputs.append(runner.run(sample))
                times.append(runner.last_run_us)
            runs[name] = (outputs, statistics.median(times))
    return runs


def _figures(bundle: Path) -> dict[str, float]:
    """Sums, over the full path, of what the compiler said of its stages."""
    with Bundle.open(bundle) as opened:
        full = next(path for path in opened.paths if path.name == "full")
        names = [opened.stages[at].name for at in full.chain]
        notes = opened.meta
    figures: dict[str, float] = {}
    for name in names:
        for note, value in notes.items():
            stage, _, figure = note.rpartition(".")
            if stage == name and figure == "cycles" and isinstance(value, int | float):
                figures[figure] = figures.get(figure, 0.0) + float(value)
    return figures


def _keep(result: TargetResult, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps(asdict(result), indent=1), encoding="utf-8")


def _read_results(out: Path) -> list[TargetResult]:
    files = [file for n in NETWORKS for file in sorted((out / n).glob("*/result.json"))]
    return [TargetResult(**json.loads(file.read_text(encoding="utf-8"))) for file in files]


def _read_records(out: Path) -> list[Record]:
    files = [out / network / f"{kind}.json" for network in NETWORKS for kind in ("grains", "mixes")]
    return [record for file in files if file.exists() for record in read_records(file)]
