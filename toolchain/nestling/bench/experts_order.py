"""Whole images at once: M3ViT's order against a cache, and what more experts cost.

The network has the shape of Edge-MoE's (192 channels, 129 patches, 12 layers of which every other
one has 16 experts, two a patch; Sarkar et al., ICCAD 2023), with random weights: neither time nor
bytes depend on what it has learned.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

import nestling_runtime
from nestling.bench.experts_plot import OrderPoint
from nestling.bench.experts_running import STORAGES, Setting, expert_bytes, experts_of
from nestling.bench.records import Record, describe_machine, ratio_record, summarise
from nestling.chain_export import export_chain
from nestling.elastic import ElasticAttention, ElasticFeedForward
from nestling.experts.layer import make_expert_layer
from nestling.experts.slices import ExpertFormat
from nestling.partition.chain import Chain
from nestling.partition.cut import block_stage
from nestling_runtime.experts import ExpertOrder

REORDER_SPEEDUP = "reorder_speedup"
QUEUE_MEMORY = "queue_memory"
LOWERINGS = "lowerings"
EXPERT_FILE_BYTES = "expert_file_bytes"

DIM = 192
HEADS = 3
TOKENS = 129
TOP_K = 2
EXPERT_HIDDEN = 384
GROUP = 32
EXPERTS = 16
SWEEP = (4, 16, 64, 256)
STORAGE = "200MBps"
ORDERS: tuple[ExpertOrder, ...] = ("queue", "cache")
_ROOM = 2


@dataclass(frozen=True)
class OrderResult:
    """What `measure_orders` found.

    Attributes:
        records: Of the report.
        points: Of the picture.
    """

    records: list[Record]
    points: list[OrderPoint]


def vision_chain(layers: int, experts: int, tokens: int = TOKENS) -> Chain:
    """Return a chain of attention and feed-forward blocks, every other of these with experts."""
    torch.manual_seed(0)
    chain = Chain()
    chain.add_slot("input", torch.randn(1, tokens, DIM), "input")
    chain.add_slot("x", torch.randn(1, tokens, DIM))
    chain.add_slot("output", torch.randn(1, tokens, DIM), "output")
    chain.add_position("stem")
    chain.add_stage("stem", torch.nn.Linear(DIM, DIM), ["input"], ["x"], "stem")
    for layer in range(layers):
        attention = ElasticAttention(DIM, HEADS, heads_widths=(1.0,), name=f"attention{layer}")
        chain.add_position(attention.name, layer)
        stage = block_stage(attention, 1)
        chain.add_stage(attention.name, stage, ["x"], ["x"], attention.name)
        name = f"experts{layer}" if layer % 2 or layers == 1 else f"dense{layer}"
        chain.add_position(name, layer)
        if name.startswith("dense"):
            dense = ElasticFeedForward(DIM, TOP_K * EXPERT_HIDDEN, widths=(1.0,), name=name)
            chain.add_stage(name, block_stage(dense, 1), ["x"], ["x"], name)
            continue
        block = make_expert_layer(
            DIM,
            EXPERT_HIDDEN,
            experts,
            min(TOP_K, experts),
            activation="gelu",
            gated=False,
            renormalise=True,
            name=name,
            layer=layer,
        )
        for router in block.routers.values():
            # Scores far enough apart that patches differ in their experts.
            torch.nn.init.normal_(router.weight, std=2.0 * DIM**-0.5)  # type: ignore[arg-type]
        chain.add_expert_stage(name, block, "x", name)
    chain.add_position("head", layers - 1)
    chain.add_stage("head", torch.nn.Linear(DIM, DIM), ["x"], ["output"], "head")
    chain.add_path("all", list(chain.stages))
    return chain


def measure_orders(folder: Path, *, rounds: int = 5, jobs: int = 2) -> OrderResult:
    """Measure both orders, and queue order with 4 to 256 experts; leaves bundles in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = folder / "vision.nest"
    form = ExpertFormat(GROUP)
    export_chain(vision_chain(12, EXPERTS), whole, experts=form, jobs=jobs)
    records = [_reorder(whole, rounds, "edge-moe")]
    points: list[OrderPoint] = []
    lowered, sizes = [], []
    for experts in (1, *SWEEP):
        file = folder / f"vision-{experts}.nest"
        with TemporaryDirectory() as fresh:
            report = export_chain(
                vision_chain(1, experts), file, experts=form, jobs=jobs, cache_dir=Path(fresh)
            )
            lowered.append(sum(path.is_file() for path in Path(fresh).rglob("*")))
        sizes.append(report.file_bytes)
        if experts > 1:
            points += [_time_order(file, experts, order, rounds) for order in ORDERS]
    records += _memory_records(folder, points)
    records += _file_records(folder, lowered, sizes)
    return OrderResult(records, points)


def _reorder(bundle: Path, rounds: int, model: str) -> Record:
    times: dict[ExpertOrder, list[float]] = {"queue": [], "cache": []}
    inputs = _image()
    with nestling_runtime.open(bundle, threads=1) as opened, opened.session() as session:
        session.select("all")
        for _ in range(rounds):
            for order, found in times.items():
                _setting(order).apply(opened)
                session.run(input=inputs)
                began = time.perf_counter()
                session.run_bound()
                found.append(time.perf_counter() - began)
    ratios = [cache / queue for cache, queue in zip(times["cache"], times["queue"], strict=True)]
    return ratio_record(
        REORDER_SPEEDUP,
        ratios,
        baseline=1e3 * summarise(times["cache"]).median,
        model=model,
        where=f"{describe_machine(1)}; random weights, {TOKENS} patches at once, 6 layers of "
        f"{EXPERTS} experts, {TOP_K} a patch, memory for {_ROOM} experts, storage {STORAGE}; time "
        "patch by patch with a cache (our eviction) over expert by expert; baseline: milliseconds "
        "of the former",
    )


def _setting(order: ExpertOrder) -> Setting:
    return Setting(room=_ROOM, storage=STORAGES[STORAGE], order=order)


def _image() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(0).standard_normal((1, TOKENS, DIM)).astype(np.float32)


def _time_order(bundle: Path, experts: int, order: ExpertOrder, rounds: int) -> OrderPoint:
    with nestling_runtime.open(bundle, threads=1) as opened, opened.session() as session:
        session.select("all")
        _setting(order).apply(opened)
        session.run(input=_image())
        times = []
        for _ in range(rounds):
            began = time.perf_counter()
            session.run_bound()
            times.append(time.perf_counter() - began)
        peak = experts_of(opened).statistics().peak_bytes
    return OrderPoint(experts, order, summarise(times).median, peak)


def _memory_records(folder: Path, points: Sequence[OrderPoint]) -> list[Record]:
    """Memory of experts by the store's count, and what a fresh process grows by."""
    records = []
    grown: dict[int, int] = {}
    for experts in SWEEP:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            grown[experts] = pool.submit(_growth, folder / f"vision-{experts}.nest").result()
    first = SWEEP[0]
    queue = {point.experts: point for point in points if point.order == "queue"}
    for experts in SWEEP:
        peak, base = float(queue[experts].memory_bytes), float(queue[first].memory_bytes)
        where = (
            f"most bytes of resident experts while an image runs in queue order, {experts} experts "
            f"in the layer; baseline: with {first}; proportional memory of a fresh process that "
            f"opens the bundle and runs it twice grows by {grown[experts]:,} bytes, of which the "
            "router and its program are not experts"
        )
        model = f"{experts} experts"
        records.append(Record(QUEUE_MEMORY, peak, "bytes", base, peak / base, None, model, where))
    return records


def _growth(bundle: Path) -> int:
    """Return what this process grows by when it opens and runs a bundle, in bytes."""
    before = _proportional_bytes()
    with nestling_runtime.open(bundle, threads=1) as opened, opened.session() as session:
        session.select("all")
        _setting("queue").apply(opened)
        session.run(input=_image())
        session.run_bound()
        return _proportional_bytes() - before


def _proportional_bytes() -> int:
    for line in Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return 1024 * int(line.split()[1])
    return 0


def _file_records(folder: Path, lowered: Sequence[int], sizes: Sequence[int]) -> list[Record]:
    """Compare a layer of many experts with a layer of one: lowerings, and bytes of the file."""
    records = []
    base = Path(folder / "vision-1.nest")
    assert base.exists()
    for experts, count, size in zip(SWEEP, lowered[1:], sizes[1:], strict=True):
        model = f"{experts} experts"
        where = "stages lowered for a network with one layer of experts; baseline: with one expert"
        records.append(
            Record(LOWERINGS, count, "1", lowered[0], count / lowered[0], None, model, where)
        )
        added, weights = size - sizes[0], (experts - 1) * expert_bytes(DIM, EXPERT_HIDDEN, GROUP)
        where = (
            "bytes of the file beyond that with one expert; baseline: bytes of the added experts' "
            "weights and scales (8 bits, a scale of 16 bits for each 32)"
        )
        records.append(
            Record(EXPERT_FILE_BYTES, added, "bytes", weights, added / weights, None, model, where)
        )
    return records
