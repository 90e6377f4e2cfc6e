"""Records as a table that people can read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from nestling.bench.records import Record

# Metric -> (comparison, limit): what the README promises. The rest is shown without a verdict.
WANTED: dict[str, tuple[str, float]] = {
    "bundle_bytes_ratio": ("<=", 1.02),
    "resident_bytes_ratio": ("<=", 1.05),
    "reload_ratio": (">=", 1000.0),
    "chain_ratio": ("<=", 1.03),
    "nest_ratio_worst": ("<=", 1.08),
    "nest_ratio_geomean": ("<=", 1.03),
    "alternating_ratio": (">=", 1.3),
    "retention_min": (">=", 0.96),
    "retention_separate": (">=", 0.99),
    "peer_ratio": (">=", 1.0),
}
_SWITCH_US, _SWITCH_SHARE = 10.0, 0.01
_TOP1_AGREEMENT, _FP32_DIFFERENCE = 0.99, 1e-4


def is_reached(record: Record) -> bool | None:
    """Return whether a figure is as wanted; None when nothing was promised or nothing measured."""
    if record.value is None:
        return None
    if record.metric == "switch_overhead_p99_us":
        share = _SWITCH_SHARE * (record.baseline or 0.0)
        return record.value <= max(_SWITCH_US, share)
    if record.metric == "runtime_rss_bytes":
        return record.ratio is not None and record.ratio <= 1.0
    if record.metric == "parity_max":
        if record.unit == "top-1 agreement":
            return record.value >= _TOP1_AGREEMENT
        return record.value <= _FP32_DIFFERENCE
    if record.metric not in WANTED:
        return None
    comparison, limit = WANTED[record.metric]
    return record.value <= limit if comparison == "<=" else record.value >= limit


def format_bytes(count: float) -> str:
    """Return a number of bytes for people: `1.53 MB`, powers of 1000."""
    for unit in ("B", "kB", "MB"):
        if abs(count) < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def format_value(value: float | None, unit: str) -> str:
    """Return a figure with its unit."""
    if value is None:
        return "-"
    if unit == "bytes":
        return format_bytes(value)
    return f"{value:.4g}" if unit == "1" else f"{value:.4g} {unit}"


def records_table(records: Sequence[Record]) -> Table:
    """Return the records as a table, one row each, those that miss their mark in red."""
    table = Table(title="Measurements", title_justify="left", header_style="bold")
    table.add_column("model", overflow="fold")
    table.add_column("metric", no_wrap=True)
    for name in ("value", "spread", "baseline", "wanted"):
        table.add_column(name, justify="right")
    for record in records:
        reached = is_reached(record)
        style = {True: "green", False: "red", None: ""}[reached]
        value = format_value(record.value, record.unit)
        table.add_row(
            record.model,
            record.metric,
            f"[{style}]{value}[/]" if style else value,
            format_value(record.spread, record.unit),
            "-" if record.baseline is None else f"{record.baseline:.4g}",
            _wanted_text(record),
        )
    return table


def _wanted_text(record: Record) -> str:
    if record.metric == "switch_overhead_p99_us":
        return "<= 10 us or 1 %"
    if record.metric == "runtime_rss_bytes" and record.baseline:
        return f"<= {format_bytes(record.baseline)}"
    if record.metric == "parity_max":
        return ">= 0.99" if record.unit == "top-1 agreement" else "<= 0.0001"
    if record.metric in WANTED:
        comparison, limit = WANTED[record.metric]
        return f"{comparison} {limit:g}"
    return ""


def print_records(records: Iterable[Record], console: Console | None = None) -> None:
    """Print the table, and below it why anything is missing."""
    records = list(records)
    console = console or Console()
    console.print(records_table(records))
    missing = [record for record in records if record.value is None]
    for record in missing:
        console.print(f"[dim]{record.model} {record.metric}: {record.where}[/]")
