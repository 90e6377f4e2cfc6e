from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestling.bench.records import (
    Record,
    describe_machine,
    missing_record,
    read_records,
    summarise,
    write_records,
)
from nestling.bench.report import format_bytes, is_reached, records_table
from nestling.errors import NestlingError

FIELDS = ["metric", "value", "unit", "baseline", "ratio", "spread", "model", "where"]


def record(metric: str, value: float | None, **others: object) -> Record:
    fields: dict[str, object] = {
        "unit": "1",
        "baseline": None,
        "ratio": value,
        "spread": None,
        "model": "m",
        "where": "here",
    }
    return Record(metric=metric, value=value, **(fields | others))  # type: ignore[arg-type]


@given(st.lists(st.floats(0, 1e9), min_size=1))
def test_summary_is_median_and_a_range_that_holds_half(samples: list[float]) -> None:
    estimate = summarise(samples)
    assert estimate.median == statistics.median(samples)
    assert 0 <= estimate.spread <= max(samples) - min(samples)


def test_summary_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no samples"):
        summarise([])


def test_records_survive_the_file(tmp_path: Path) -> None:
    records = [record("a", 1.5, spread=0.1), missing_record("b", "us", "m", "no reason")]
    file = tmp_path / "new" / "records.json"
    write_records(records, file)
    assert read_records(file) == records
    assert [list(entry) for entry in json.loads(file.read_text())] == [FIELDS, FIELDS]
    assert [entry.name for entry in file.parent.iterdir()] == ["records.json"]


def test_a_folder_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NestlingError, match="cannot write the records"):
        write_records([], tmp_path / "file" / "records.json")


def test_missing_figures_say_why() -> None:
    missing = missing_record("peer_ratio", "1", "litert", "no converter")
    assert missing.value is None
    assert missing.where == "not measured: no converter"
    assert is_reached(missing) is None


def test_the_machine_has_no_name() -> None:
    import socket

    text = describe_machine(2)
    assert "2 threads" in text
    assert socket.gethostname() not in text


@pytest.mark.parametrize(
    ("made", "reached"),
    [
        (record("chain_ratio", 1.03), True),
        (record("chain_ratio", 1.031), False),
        (record("reload_ratio", 999.0), False),
        (record("switch_overhead_p99_us", 9.0, unit="us", baseline=100.0), True),
        (record("switch_overhead_p99_us", 11.0, unit="us", baseline=100.0), False),
        (record("switch_overhead_p99_us", 11.0, unit="us", baseline=2000.0), True),
        (record("runtime_rss_bytes", 5e6, unit="bytes", baseline=12e6, ratio=5 / 12), True),
        (record("parity_max", 1e-5), True),
        (record("parity_max", 0.98, unit="top-1 agreement"), False),
        (record("run_us_full", 3.0, unit="us"), None),
    ],
)
def test_verdicts(made: Record, reached: bool | None) -> None:
    assert is_reached(made) is reached


def test_table_has_a_row_for_every_record() -> None:
    assert records_table([record("a", 1.0), record("b", None)]).row_count == 2


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (12_000_000, "12 MB"), (1_530_000, "1.53 MB")]
)
def test_bytes_for_people(count: float, text: str) -> None:
    assert format_bytes(count) == text
