"""What the language figures are made of: rolling means, fitted thresholds, merged records."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nestling.bench.language import LanguageResult, PolicyRow, language_records, merge_records
from nestling.bench.language_fit import bisect, rolling_mean
from nestling.bench.language_plot import wrap_pieces
from nestling.bench.records import Record, read_records, write_records


@given(st.lists(st.floats(0, 8), min_size=1, max_size=30), st.integers(1, 6))
def test_a_rolling_mean_is_that_of_the_last_ones(values: list[float], window: int) -> None:
    found = rolling_mean(torch.tensor(values, dtype=torch.float64), window).tolist()
    for index, mean in enumerate(found):
        last = values[max(0, index + 1 - window) : index + 1]
        assert mean == pytest.approx(sum(last) / len(last), abs=1e-9)


def test_bisection_finds_the_least_value_that_is_enough() -> None:
    assert bisect(lambda value: value < 0.3, 0.0, 1.0, 30) == pytest.approx(0.3)


def test_text_is_broken_at_line_ends_and_full_lines() -> None:
    lines = wrap_pieces(["ab", "cde", "\nf"], [True, False, True], columns=4)
    assert ["".join(c for c, _ in line) for line in lines] == ["abcd", "e↵", "f"]
    assert [full for _, full in lines[0]] == [True, True, False, False]


def test_records_of_others_stay(tmp_path: Path) -> None:
    def row(policy: str, loss: float, macs: float) -> PolicyRow:
        return PolicyRow(policy, loss, 0.4, 0.8, macs)

    file = tmp_path / "bench.json"
    timed = Record("speedup", 1.5, "1", None, 1.5, None, "entropy", "native")
    old = Record("mac_speedup", 9.0, "1", None, 9.0, None, "entropy", "before")
    write_records([timed, old], file)
    result = LanguageResult([row("full", 2.0, 100.0), row("entropy", 2.1, 50.0)], full_macs=100.0)
    merge_records(language_records(result), file)
    found = {(record.metric, record.model): record for record in read_records(file)}
    assert found["speedup", "entropy"] == timed
    assert found["mac_speedup", "entropy"].value == 2.0
    assert found["bits_per_byte", "entropy"].ratio == pytest.approx(1.05)
