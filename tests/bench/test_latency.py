"""How samples become figures, on samples whose figures are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestling.bench.latency import geomean_spread, latency_records, quantile, switch_records
from nestling.bench.records import Record
from nestling.bench.subject import Subject

SUBJECT = Subject(Path("x.nest"), "m", "fp32", ("tiny", "full"))


def steady(path: str, fused: int, chain: int, plain: int | None) -> dict[str, Any]:
    """Rounds of a machine that is slower in every second one; ratios within a round stay."""
    slow = [1, 3, 1, 3]
    samples = {"fused": [[fused * s] * 3 for s in slow], "chain": [[chain * s] * 3 for s in slow]}
    if plain is not None:
        samples["plain"] = [[plain * s] * 3 for s in slow]
    return {"path": path, "samples": samples}


def switched(path: str, select: int, first: int, run: int) -> dict[str, Any]:
    return {"path": path, "select": [select] * 50, "first": [first] * 50, "steady": [run] * 50}


def measure(**changes: Any) -> dict[str, Record]:
    samples = {
        "steady": [steady("tiny", 1000, 1010, 1000), steady("full", 2200, 2244, 2000)],
        "switch": [switched("tiny", 100, 1400, 1000), switched("full", 100, 30_000, 20_000)],
        "alternating": {"nested": [1000, 1000], "plain": [1500, 1700]},
        "reload": {"plain": [4_000_000] * 20, "select": [400] * 20},
    } | changes
    return {record.metric: record for record in latency_records(SUBJECT, samples)}


def test_ratios_are_taken_within_rounds() -> None:
    records = measure()
    worst = records["nest_ratio_worst"]
    assert worst.value == pytest.approx(1.1)
    assert worst.spread == pytest.approx(0.0)
    assert "full" in worst.where
    assert records["nest_ratio_geomean"].value == pytest.approx(1.1**0.5)
    assert records["chain_ratio"].value == pytest.approx(1.02)
    assert records["run_us_full"].ratio == pytest.approx(1.1)


def test_alternating_and_reload() -> None:
    records = measure()
    assert records["alternating_ratio"].value == pytest.approx(1.6)
    assert records["reload_ratio"].value == pytest.approx(10_000)
    assert records["reload_ratio"].baseline == pytest.approx(0.4)


def test_switch_overhead_includes_select_and_is_that_of_the_worst_path() -> None:
    record = measure()["switch_overhead_p99_us"]
    assert record.value == pytest.approx(10.1)
    assert record.baseline == pytest.approx(20.0)
    assert record.ratio == pytest.approx(10.1 / 20)
    assert "full" in record.where


def test_worst_is_what_the_limit_counts() -> None:
    # 15 us are nothing beside a run of 10 ms, 9 us are much beside one of 100 us.
    samples = [switched("tiny", 0, 109_000, 100_000), switched("full", 0, 10_015_000, 10_000_000)]
    (_, p99) = switch_records(SUBJECT, samples)
    assert "tiny" in p99.where


def test_what_cannot_be_compared_says_so() -> None:
    records = measure(
        steady=[steady("full", 2200, 2244, None)],
        switch=[],
        alternating={"nested": [], "plain": []},
        reload={"plain": [], "select": []},
    )
    for metric in ("nest_ratio_worst", "nest_ratio_geomean", "alternating_ratio", "reload_ratio"):
        assert records[metric].value is None
        assert "no plain programs" in records[metric].where
    assert "one path" in records["switch_overhead_p99_us"].where
    assert records["run_us_full"].baseline is None


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.floats(0, 1))
def test_quantile_is_numpys(samples: list[float], share: float) -> None:
    import numpy as np

    assert quantile(samples, share) == pytest.approx(np.quantile(samples, share), abs=1e-6)


def test_paths_may_differ_in_rounds() -> None:
    assert geomean_spread([[1.0, 1.0], [2.0, 2.0, 2.0]]) == 0.0
