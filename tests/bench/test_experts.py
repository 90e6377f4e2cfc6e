"""Measuring experts: what the records of a tiny decoder say, and how the pictures are drawn."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from experts import bundles

from nestling.bench.experts_language import (
    Workload,
    measure_alignment,
    measure_memory_points,
    measure_quarter,
    point_records,
    read_bits,
)
from nestling.bench.experts_plot import (
    DrawnRow,
    MemoryPoint,
    OrderPoint,
    draw_digits,
    draw_memory,
    draw_orders,
    draw_tasks,
)
from nestling.bench.experts_quality import measure_quality
from nestling.bench.experts_replay import BOUND, measure_hit_rates
from nestling.bench.experts_running import Setting, expert_bytes
from nestling.bench.records import Record
from nestling.experts.routing import expert_layers
from nestling.experts.slices import encode_expert
from nestling.language.bits import Windows

TOTAL = 2 * bundles.EXPERTS


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("experts") / "decoder.nest"
    bundles.export_decoder_net(bundles.make_decoder(), path, experts=bundles.NIBBLES)
    return path


@pytest.fixture(scope="module")
def windows() -> Windows:
    generator = torch.Generator().manual_seed(0)
    text = torch.randint(bundles.VOCABULARY, (2, 25), generator=generator)
    return Windows(text[:, :-1], text[:, 1:], torch.ones(2, 24, dtype=torch.int64), ("prose",) * 2)


@pytest.fixture(scope="module")
def work(windows: Windows) -> Workload:
    return Workload([row[:8].tolist() for row in windows.tokens], 8)


def by_model(records: list[Record]) -> dict[str, Record]:
    return {record.model: record for record in records}


def test_speeds_are_compared_with_all_resident(bundle: Path, work: Workload) -> None:
    records = by_model(measure_quarter(bundle, work, TOTAL, rounds=1))
    assert {"1500MBps", "200MBps", "200MBps lru"} <= set(records)
    for record in records.values():
        assert record.value is not None and record.value > 0
        assert f"room for {TOTAL // 4} of {TOTAL} experts" in record.where
    assert "LRU, no prefetch" in records["200MBps lru"].where
    ahead = by_model(measure_alignment(bundle, work, TOTAL, bundles.TOP_K, rounds=1))
    assert {"200MBps", "200MBps lru", "200MBps two-layers"} <= set(ahead)


def test_a_trace_is_replayed_under_every_policy(bundle: Path, windows: Windows) -> None:
    rates = {
        name: r.value for name, r in by_model(measure_hit_rates(bundle, windows.tokens)).items()
    }
    for share in ("0.25", "0.5"):
        bound = rates[f"{BOUND} {share}"]
        found = [rate for name, rate in rates.items() if name.endswith(share)]
        assert bound is not None and all(rate is not None and rate <= bound for rate in found)
    assert rates["lru 0.5"] > rates["lru 0.125"]  # type: ignore[operator]


def test_answers_of_both_precisions(bundle: Path, windows: Windows) -> None:
    net = bundles.make_decoder()
    records = {r.metric: r for r in measure_quality(net, bundle, windows, bundles.NIBBLES)}
    assert records["language_parity"].value < 1e-3  # type: ignore[operator]
    # An answer that is not asked for again may do without its second half.
    assert 0.5 < records["upgrade_bytes"].ratio <= 1.0  # type: ignore[operator]
    whole, low = (read_bits(bundle, windows.tokens, Setting(bits=bits)) for bits in (8, 4))
    assert not torch.equal(whole, low)


def test_memory_in_pictures_and_records(bundle: Path, work: Workload, tmp_path: Path) -> None:
    short = Workload(work.prompts[:1], 2)
    points = measure_memory_points(bundle, short, TOTAL, rounds=1)
    assert len(points) == 2 * 4 * 5 * 2
    assert all(point.tokens_per_s > 0 and 0 <= point.hit_rate <= 1 for point in points)
    assert all(point.hit_rate == 1.0 for point in points if point.share == 1.0)
    records = point_records(points, "here")
    assert len({(record.metric, record.model) for record in records}) == 2 * len(points)
    draw_memory(points, tmp_path / "memory.png", "here")
    assert (tmp_path / "memory.png").stat().st_size > 10_000


def test_other_pictures(tmp_path: Path) -> None:
    image = torch.zeros(10, 8, 8).numpy()
    draw_digits([DrawnRow("one", image), DrawnRow("two", image)], tmp_path / "digits.png", "")
    draw_tasks(torch.zeros(4, 10, 8, 8).numpy(), {"digit": ["a 1"] * 10}, tmp_path / "t.png", "")
    orders = [OrderPoint(4, order, 0.1, 1000) for order in ("queue", "cache")]
    draw_orders(orders, tmp_path / "orders.png", "")
    point = MemoryPoint("1500MBps", "lru", True, 0.5, 10.0, 0.5)
    draw_memory([point], tmp_path / "one.png", "")
    assert len(list(tmp_path.glob("*.png"))) == 4


def test_bytes_of_an_expert_are_those_of_its_slices() -> None:
    bank = expert_layers(bundles.make_decoder())[0].bank
    slices = encode_expert(bank.matrices().expert(0), bundles.NIBBLES)
    wanted = expert_bytes(bundles.DIM, bundles.HIDDEN, 16, matrices=3)
    assert sum(map(len, slices)) == wanted
