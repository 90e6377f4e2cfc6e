"""The demo: two small networks on real scans, from training to switching on every image.

For each network: train it, export it in fp32 and in int8, then show every held-out digit to every
named path and to 50 random subnets through the native runtime, in an order that changes the path
with every single run.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nestling.bench.bytes import measure_bytes
from nestling.bench.frontier import Point, Series, draw_frontier
from nestling.bench.parity import AGREEMENT, PARITY_MAX, choose_subnets
from nestling.bench.records import Record, describe_machine, write_records
from nestling.bench.retention import SUBNETS, retention_record
from nestling.bench.runner import Runner
from nestling.bench.sidecar import sidecar_folder
from nestling.bench.subject import Subject

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from nestling.elastic import Subnet, Supernet
    from nestling.training import RecipeData

RANDOM_SUBNETS = 50
SCHEMES = {"fp32": "fp32", "int8-dynamic": "int8", "int8-static": "int8"}
"""Schemes that the demo knows, and what file names and pictures call them."""

NETWORK_SCHEMES = {
    # Convolutions need fixed ranges; linears do without, and equal layers are then lowered once.
    "digits-vit": ("fp32", "int8-dynamic"),
    "digits-cnn": ("fp32", "int8-static"),
}
NETWORKS = {"digits-vit": "Vision transformer", "digits-cnn": "Inverted-residual CNN"}
MAIN_BUNDLE = "digits.nest"

_LATENCY_ROUNDS = 10
_UNCOUNTED_RUNS = 3
_COUNTED_RUNS = 10

Advance = Callable[[int, int, str], None]
Bar = Callable[[str], AbstractContextManager[Advance]]


@dataclass(frozen=True)
class SubnetRow:
    """One subnet, measured.

    Attributes:
        name: Of the path; for a random subnet its levels.
        named: Whether it is a named path.
        parameters: As deployed.
        weight_bytes: Of its weights in the bundle; 0 for a random subnet.
        eager_accuracy: In eager torch, fp32, on the held-out digits.
        accuracy: On the runtime.
        latency_us: Median of steady runs, named paths fused, others as chains of stages.
    """

    name: str
    named: bool
    parameters: int
    weight_bytes: int
    eager_accuracy: float
    accuracy: float
    latency_us: float


@dataclass(frozen=True)
class BundleResult:
    """One bundle, measured.

    Attributes:
        network: Name of the recipe.
        scheme: Of quantisation.
        bundle: The file.
        rows: Named paths small to large, then random subnets.
        switches: Runs, each of another subnet than the one before.
        largest_difference: Of any output from eager torch's.
        agreement: Lowest share, over the subnets, of digits on which both have the same top-1.
    """

    network: str
    scheme: str
    bundle: Path
    rows: list[SubnetRow]
    switches: int
    largest_difference: float
    agreement: float


@dataclass
class DemoResult:
    """All that the demo measured."""

    bundles: list[BundleResult] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)


@dataclass(frozen=True)
class _Eager:
    """What eager torch says: outputs (samples, classes) of each subnet, by name."""

    outputs: dict[str, NDArray]  # type: ignore[type-arg]
    images: NDArray  # type: ignore[type-arg]
    labels: NDArray  # type: ignore[type-arg]

    def accuracy(self, name: str) -> float:
        return float((self.outputs[name].argmax(-1) == self.labels).mean())


def run_demo(
    out: Path,
    *,
    networks: Sequence[str] = tuple(NETWORKS),
    schemes: Sequence[str] = (),
    jobs: int = 2,
    retrain: bool = True,
    quiet: bool = False,
    bar: Bar,
    say: Callable[[str], None],
) -> DemoResult:
    """Train, export, run, switch; leave bundles, `bench.json` and `frontier.png` in `out`.

    Args:
        out: Folder.
        networks: Names of recipes.
        schemes: Of quantisation; empty: those of each network in `NETWORK_SCHEMES`.
        jobs: Processes that lower stages.
        retrain: Train even where `out` has a trained supernet.
        quiet: Show no training progress.
        bar: Shows the progress of exports.
        say: Is told what is done next.

    Raises:
        NestlingError: A step failed.
    """
    from nestling.recipes import find_recipe

    result = DemoResult()
    for network in networks:
        supernet, folder = train_network(network, out, retrain=retrain, quiet=quiet, say=say)
        data = find_recipe(network).data()
        say(f"{network}: eager torch")
        subnets = choose_subnets(supernet.space, RANDOM_SUBNETS)
        eager = _run_eager(supernet, subnets, data)
        chosen = tuple(schemes) or NETWORK_SCHEMES[network]
        for scheme in chosen:
            bundle = out / bundle_name(network, scheme)
            with bar(f"{network} {scheme}: export") as advance:
                _export(supernet, bundle, network, scheme, data, eager, jobs, advance)
            say(f"{network} {scheme}: {len(subnets)} subnets, a switch with every image")
            result.bundles.append(_measure(network, scheme, bundle, supernet, subnets, eager))
        say(f"{network}: accuracy of {SUBNETS} subnets")
        subject = Subject(
            bundle, network, chosen[0], tuple(supernet.space.named), recipe=network,
            supernet=folder / "supernet.pt",
        )  # fmt: skip
        result.records.append(retention_record(subject))
    for measured in result.bundles:
        result.records += bundle_records(measured)
    write_records(result.records, out / "bench.json")
    draw_frontier(
        [_series(measured) for measured in result.bundles],
        out / "frontier.png",
        note=f"450 held-out scans; {describe_machine(1)}; large dots: named paths, small: random",
    )
    return result


def bundle_name(network: str, scheme: str) -> str:
    """Return the file name of a bundle; the ViT in fp32 is the one that the documents use."""
    if (network, scheme) == ("digits-vit", "fp32"):
        return MAIN_BUNDLE
    suffix = "" if scheme == "fp32" else f"-{SCHEMES.get(scheme, scheme)}"
    return f"{network}{suffix}.nest"


def train_network(
    network: str, out: Path, *, retrain: bool, quiet: bool, say: Callable[[str], None]
) -> tuple[Supernet, Path]:
    """Train a recipe into a folder of `out`, or load what is there; return net and folder.

    Raises:
        TrainError: Training failed.
    """
    from nestling.elastic import load
    from nestling.training import run_recipe

    folder = out / network
    checkpoint = folder / "supernet.pt"
    if retrain or not checkpoint.exists():
        say(f"{network}: training")
        run_recipe(network, out_dir=folder, progress=not quiet)
    return load(checkpoint), folder


def _run_eager(supernet: Supernet, subnets: dict[str, Subnet], data: RecipeData) -> _Eager:
    from nestling.training import predict, torch_threads

    # Two threads wait for each other longer than operators of this size take.
    with torch_threads(1):
        outputs = {name: predict(supernet, s, data.inputs).numpy() for name, s in subnets.items()}
    return _Eager(outputs, data.inputs[0].numpy(), data.target.numpy())


def _export(
    supernet: Supernet,
    bundle: Path,
    network: str,
    scheme: str,
    data: RecipeData,
    eager: _Eager,
    jobs: int,
    advance: Advance,
) -> None:
    """Export the bundle, and beside it the dense full net whose size it is compared with."""
    from nestling.bench.samples import recipe_samples
    from nestling.export import export_bundle, lower_dense

    samples: list[tuple[Tensor, ...]] = recipe_samples(data)
    export_bundle(
        supernet,
        bundle,
        scheme=scheme,
        calibration=samples,
        jobs=jobs,
        quality={name: {"accuracy": eager.accuracy(name)} for name in supernet.space.named},
        progress=advance,
        name=network,
    )
    dense = lower_dense(
        supernet, {"full": supernet.space.full()}, scheme=scheme, calibration=samples, jobs=1
    )
    file = _dense_file(bundle)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(dense["full"])


def _dense_file(bundle: Path) -> Path:
    return sidecar_folder(bundle) / "dense" / "full.pte"


def _measure(
    network: str,
    scheme: str,
    bundle: Path,
    supernet: Supernet,
    subnets: dict[str, Subnet],
    eager: _Eager,
) -> BundleResult:
    """Show every image to every subnet, no two runs in a row of the same one."""
    import numpy as np

    names = list(subnets)
    outputs = {name: np.zeros_like(eager.outputs[name]) for name in names}
    rng = random.Random(0)
    with Runner.open(bundle, threads=1) as runner:
        chains = {name: runner.chain(subnet.levels) for name, subnet in subnets.items()}

        def select(name: str) -> None:
            if name in runner.paths:
                runner.select(name)
            else:
                runner.select_stages(chains[name])

        for name in names:  # loads what it needs: what follows only switches
            select(name)
            runner.run([eager.images[:1]])
        last = ""
        switches = 0
        for at in range(len(eager.images)):
            order = rng.sample(names, len(names))
            if order[0] == last:
                order.reverse()
            last = order[-1]
            for name in order:
                select(name)
                outputs[name][at] = runner.run([eager.images[at : at + 1]])[0]
                switches += 1
        latency = _measure_latency(runner, select, names, eager.images[:1], rng)
        weights = {path.name: path.weight_bytes for path in runner.path_entries}
    rows = [
        SubnetRow(
            name=name,
            named=name in supernet.space.named,
            parameters=supernet.count_parameters(subnet),
            weight_bytes=weights.get(name, 0),
            eager_accuracy=eager.accuracy(name),
            accuracy=float((outputs[name].argmax(-1) == eager.labels).mean()),
            latency_us=latency[name],
        )
        for name, subnet in subnets.items()
    ]
    return BundleResult(
        network,
        scheme,
        bundle,
        rows,
        switches,
        max(float(np.abs(outputs[name] - eager.outputs[name]).max()) for name in names),
        min(
            float((outputs[name].argmax(-1) == eager.outputs[name].argmax(-1)).mean())
            for name in names
        ),
    )


def _measure_latency(
    runner: Runner,
    select: Callable[[str], None],
    names: Sequence[str],
    image: NDArray,  # type: ignore[type-arg]
    rng: random.Random,
) -> dict[str, float]:
    """Return the median time of a steady run of each subnet, us.

    Steady, because a run right after one of 53 other subnets would tell how many stages those have
    in common with it. Bursts in random order, so that no subnet has a quiet moment of its own.
    """
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(_LATENCY_ROUNDS):
        for name in rng.sample(list(names), len(names)):
            select(name)
            for run in range(_UNCOUNTED_RUNS + _COUNTED_RUNS):
                runner.run([image])
                if run >= _UNCOUNTED_RUNS:
                    times[name].append(runner.last_run_us)
    return {name: statistics.median(samples) for name, samples in times.items()}


def bundle_records(measured: BundleResult) -> list[Record]:
    """Return the records of one bundle: bytes, parity, accuracy and latency."""
    label = f"{measured.network} {measured.scheme}"
    where = f"{describe_machine(1)}; {measured.switches} runs, no subnet twice in a row"
    named = tuple(row.name for row in measured.rows if row.named)
    subject = Subject(
        measured.bundle,
        measured.network,
        measured.scheme,
        named,
        plain={"full": _dense_file(measured.bundle)},
    )
    exact = measured.scheme == "fp32"
    records = [record for record in measure_bytes(subject) if record.metric.startswith("bundle")]
    records.append(
        Record(
            PARITY_MAX,
            measured.largest_difference if exact else measured.agreement,
            "1" if exact else AGREEMENT,
            None,
            None,
            None,
            label,
            f"{len(measured.rows)} subnets, every held-out digit; {where}",
        )
    )
    for row in measured.rows:
        if row.named:
            ratio = row.accuracy / row.eager_accuracy if row.eager_accuracy else None
            records += [
                Record(
                    f"accuracy_{row.name}",
                    row.accuracy,
                    "1",
                    row.eager_accuracy,
                    ratio,
                    None,
                    label,
                    "held-out digits; baseline: eager torch in fp32",
                ),
                Record(
                    f"run_us_{row.name}",
                    row.latency_us,
                    "us",
                    None,
                    None,
                    None,
                    label,
                    where,
                ),
            ]
    return records


def _series(measured: BundleResult) -> Series:
    return Series(
        NETWORKS.get(measured.network, measured.network),
        SCHEMES.get(measured.scheme, measured.scheme),
        [
            Point(row.name if row.named else None, row.latency_us, row.accuracy)
            for row in measured.rows
        ],
    )
