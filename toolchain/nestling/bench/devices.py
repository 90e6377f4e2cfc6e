"""The devices demo: a digits network on the host, on emulated Arm Linux and on a Cortex-M55.

The network is exported for ExecuTorch (fp32 and int8) and for the Cortex-M55. Every device runs
held-out digits along every named path and along random ones; the M55's outputs are held against
ExecuTorch's reference operators, byte for byte.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nestling.bench.bundle_edit import change_blob, keep_path
from nestling.bench.demo import Bar, train_network
from nestling.bench.device_run import DeviceRun, run_device
from nestling.bench.kernels import CORES, kernel_records, run_kernel_bench
from nestling.bench.parity import choose_subnets
from nestling.bench.records import Record, describe_machine, missing_record, write_records
from nestling.bench.reference import ReferenceChain
from nestling.bench.samples import recipe_samples
from nestling_devices import Faults, open_device
from nestling_devices.emulators import build_folder
from nestling_devices.firmware_size import firmware_text_bytes
from nestling_devices.push import BundleFile
from nestling_runtime.bundle import Bundle

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nestling.elastic import Subnet, Supernet

IMAGES = 100
RANDOM_SUBNETS = 20
FRAMES = 10_000
BAD_LINE = Faults(flip=5e-5, drop=5e-5, double=5e-5, seed=20)
M55 = "QEMU mps3-an547 (Cortex-M55), instructions counted"

DEVICE_BUNDLES = (
    ("host", "xnnpack", "fp32"),
    ("arm64", "xnnpack", "fp32"),
    ("host", "xnnpack", "int8-static"),
    ("arm64", "xnnpack", "int8-static"),
    ("m55", "cortex-m55", "int8-static"),
)


@dataclass
class DeviceDemo:
    """All that the demo measured.

    Attributes:
        network: Name of the recipe.
        paths: Named paths, small to large.
        labels: Of the images.
        runs: One a device and bundle.
        records: See `nestling.bench.records`.
    """

    network: str
    paths: tuple[str, ...]
    labels: NDArray[np.int64]
    runs: list[DeviceRun] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)


def run_device_demo(
    out: Path,
    *,
    network: str = "digits-cnn",
    images: int = IMAGES,
    random_subnets: int = RANDOM_SUBNETS,
    jobs: int = 2,
    retrain: bool = False,
    quiet: bool = False,
    bar: Bar,
    say: Callable[[str], None],
) -> DeviceDemo:
    """Train if need be, export, push, run, compare; leave bundles and `bench.json` in `out`.

    Args:
        out: Folder.
        network: A recipe of digits.
        images: How many held-out digits.
        random_subnets: How many beside the named paths.
        jobs: Processes that lower stages.
        retrain: Train even where `out` has a trained supernet.
        quiet: Show no training progress.
        bar: Shows the progress of exports.
        say: Is told what is done next.

    Raises:
        ToolError: A device cannot be started; the hint says what to install.
        NestlingError: A step failed.
    """
    from nestling.recipes import find_recipe

    supernet, _ = train_network(network, out, retrain=retrain, quiet=quiet, say=say)
    data = find_recipe(network).data()
    inputs = data.inputs[0].numpy()[:images]
    demo = DeviceDemo(network, tuple(supernet.space.named), np.asarray(data.target)[: len(inputs)])
    subnets = choose_subnets(supernet.space, random_subnets)
    bundles = {}
    for target, scheme in dict.fromkeys((t, s) for _, t, s in DEVICE_BUNDLES):
        bundles[target, scheme] = out / f"{network}.{target}.{scheme}.nest"
        with bar(f"{network} for {target}, {scheme}") as advance:
            _export(
                supernet,
                bundles[target, scheme],
                target,
                scheme,
                recipe_samples(data),
                jobs,
                advance,
            )
    for device, target, scheme in DEVICE_BUNDLES:
        say(f"{device}: {len(inputs)} digits on {len(subnets)} subnets, {scheme}")
        bundle = bundles[target, scheme]
        chains = {name: _chain_of(bundle, name, s) for name, s in subnets.items()}
        demo.runs.append(run_device(device, bundle, scheme, chains, inputs))
    m55 = bundles["cortex-m55", "int8-static"]
    say("m55 against the reference operators")
    demo.records += _compare(demo, m55, inputs, subnets)
    demo.records += _m55_records(demo, m55, out)
    say(f"{FRAMES:,} frames over a bad line")
    demo.records.append(_bad_line(bundles["xnnpack", "fp32"], demo, inputs))
    say("an update, cut after every operation of the flash")
    demo.records.append(_power_cuts())
    say("kernels on emulated processors")
    for core in ("m55", "m7"):
        demo.records += kernel_records(CORES[core], run_kernel_bench(CORES[core]))
    write_records(demo.records, out / "bench.json")
    return demo


def _export(
    supernet: Supernet,
    bundle: Path,
    target: str,
    scheme: str,
    samples: object,
    jobs: int,
    advance: Callable[[int, int, str], None],
) -> None:
    from nestling.export import export_bundle

    export_bundle(
        supernet,
        bundle,
        target=target,
        scheme=scheme,
        calibration=samples,  # type: ignore[arg-type]
        jobs=jobs,
        fused=False,
        progress=advance,
        reference_dir=_references(bundle) if target != "xnnpack" else None,
    )


def _references(bundle: Path) -> Path:
    return bundle.with_suffix(".reference")


def _chain_of(bundle: Path, name: str, subnet: Subnet) -> str | list[int]:
    """Return a path's name where it is one, else the stages of the subnet."""
    with Bundle.open(bundle) as opened:
        if name in {path.name for path in opened.paths}:
            return name
        last = len(opened.positions) - 1
        stages = {(stage.first, stage.level): i for i, stage in enumerate(opened.stages)}
        ends = {stage.first: i for i, stage in enumerate(opened.stages) if stage.first in (0, last)}
    blocks = [stages[at + 1, level] for at, level in enumerate(subnet.levels) if level]
    return [ends[0], *blocks, ends[last]]


def _compare(
    demo: DeviceDemo,
    bundle: Path,
    inputs: NDArray[np.float32],
    subnets: dict[str, Subnet],
) -> list[Record]:
    """Return how outputs differ: m55 from its oracle, arm64 from the host."""
    by_kind = {(run.device, run.scheme): run for run in demo.runs}
    m55 = by_kind["m55", "int8-static"]
    oracle = ReferenceChain(bundle, _references(bundle))
    chains = {name: _chain_of(bundle, name, subnet) for name, subnet in subnets.items()}
    wrong = 0
    for number, image in enumerate(inputs):
        for name, chain in chains.items():
            expected = oracle.run(chain, image[None]).reshape(-1)
            wrong += expected.tobytes() != m55.outputs[name][number].tobytes()
        oracle.forget()
    count = len(inputs) * len(chains)
    where = f"{M55}; {len(chains)} subnets, {len(inputs)} digits: {count} outputs"
    records = [Record("output_mismatches", wrong, "outputs", 0, None, None, demo.network, where)]
    machine = f"qemu-aarch64 on {describe_machine(1)}; baseline: the same engine there"
    host, arm = by_kind["host", "fp32"], by_kind["arm64", "fp32"]
    difference = max(float(abs(host.outputs[n] - arm.outputs[n]).max()) for n in chains)
    records.append(
        Record("arm64_difference", difference, "1", 1e-5, None, None, demo.network, machine)
    )
    host, arm = by_kind["host", "int8-static"], by_kind["arm64", "int8-static"]
    same = [(host.outputs[n].argmax(-1) == arm.outputs[n].argmax(-1)).mean() for n in chains]
    records.append(
        Record(
            "arm64_int8_agreement", float(np.mean(same)), "1", 1, None, None, demo.network, machine
        )
    )
    return records


def _m55_records(demo: DeviceDemo, bundle: Path, out: Path) -> list[Record]:
    """Return switch, arena, text and delta of the emulated board."""
    m55 = next(run for run in demo.runs if run.device == "m55")
    records = [
        Record(
            "switch_instructions",
            m55.switch_cost,
            "instructions",
            300,
            None,
            None,
            demo.network,
            M55,
        )
    ]
    alone = out / f"{demo.network}.alone.nest"
    keep_path(bundle, demo.paths[-1], alone)
    changed = out / f"{demo.network}.changed.nest"
    blob_bytes = change_blob(bundle, changed)
    with open_device("m55") as device:
        device.push(alone, confirm=True)
        largest = device.residency().arena
        device.push(bundle, confirm=True)
        report = device.push(changed, confirm=True)
    ratio = m55.arena_bytes / largest
    records.append(Record("arena_ratio", ratio, "1", largest, ratio, None, demo.network, M55))
    wanted = blob_bytes + BundleFile(changed).head_bytes
    where = f"{M55}; baseline: the blob that differs and the bundle's head"
    for metric, value in (
        ("delta_push_bytes", report.payload_bytes),
        ("delta_push_line_bytes", report.line_bytes),
    ):
        records.append(
            Record(metric, value, "bytes", wanted, value / wanted, None, demo.network, where)
        )
    return records + _text_records()


def _text_records() -> list[Record]:
    """Return the firmware's size, with all kernels and without any."""
    sizes = firmware_text_bytes(build_folder())
    return [
        Record(
            "firmware_text_bytes",
            sizes[kind],
            "bytes",
            limit,
            sizes[kind] / limit,
            None,
            model,
            "mps3_an547, gcc, signatures included",
        )
        for kind, model, limit in (
            ("with_kernels", "all kernels", 64 << 10),
            ("without_kernels", "no kernels", 24 << 10),
        )
    ]


def _bad_line(bundle: Path, demo: DeviceDemo, inputs: NDArray[np.float32]) -> Record:
    """Return how many wrong results came over a line with flipped, lost and doubled bytes."""
    clean = next(run for run in demo.runs if (run.device, run.scheme) == ("host", "fp32"))
    wrong = frames = 0
    with open_device("host", threads=1, timeout_s=0.02, tries=40, faults=BAD_LINE) as device:
        device.push(bundle, confirm=True)
        (slot,) = [slot for slot in device.tensors() if slot.role == "input"]
        rng = np.random.default_rng(0)
        while frames < FRAMES:
            path = demo.paths[rng.integers(len(demo.paths))]
            image = int(rng.integers(len(inputs)))
            device.select(path)
            found = device.run(**{slot.name: inputs[image].reshape(slot.shape)})
            output = next(iter(found.values())).reshape(-1)
            wrong += output.tobytes() != clean.outputs[path][image].tobytes()
            counted = device.telemetry()
            frames = counted.frames + counted.bad_frames
        retries = device.client.retries
    where = f"host, {frames} frames, {counted.bad_frames} damaged, {retries} requests sent again"
    return Record("bad_line_wrong_results", wrong, "results", 0, None, None, demo.network, where)


def _power_cuts() -> Record:
    """Return the failures of an update that is cut at every flash operation, then in pairs."""
    tests = Path(__file__).resolve().parents[3] / "tests"
    if not (tests / "core" / "power_cuts.py").is_file():
        return missing_record("power_cut_failures", "devices", "store", "no checkout here")
    result = subprocess.run(
        [sys.executable, "-m", "core.power_cuts"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(tests)},
        cwd=tests.parent,
    )
    if result.returncode != 0:
        reason = " ".join(result.stderr.split())[-200:]
        return missing_record("power_cut_failures", "devices", "store", reason)
    counts = json.loads(result.stdout)
    failures = sum(kind["failures"] for kind in counts.values())
    cuts = sum(kind["cuts"] for kind in counts.values())
    where = f"{cuts} cuts in {', '.join(counts)}: firmware/core on a flash in memory, native"
    return Record("power_cut_failures", failures, "devices", 0, None, None, "store", where)


def device_rows(demo: DeviceDemo) -> list[tuple[str, ...]]:
    """Return device, scheme, bundle, line, arena, weights and switch of each run, for people."""
    return [
        (
            run.device,
            run.scheme,
            f"{run.bundle_bytes:,}",
            f"{run.line_bytes:,}",
            f"{run.arena_bytes:,}",
            f"{run.resident_bytes:,}",
            f"{run.switch_cost:,.0f} {run.clock}",
        )
        for run in demo.runs
    ]


def path_rows(demo: DeviceDemo) -> list[tuple[str, ...]]:
    """Return path, then accuracy and duration on each device, for people."""
    return [
        (
            path,
            *(
                f"{run.accuracy(path, demo.labels):.3f}\n{run.durations[path]:,.0f}"
                for run in demo.runs
            ),
        )
        for path in demo.paths
    ]
