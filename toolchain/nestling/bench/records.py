"""What a measurement gives: one record a figure, with the machine that it was taken on."""

from __future__ import annotations

import json
import os
import platform
import statistics
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from nestling.errors import NestlingError


@dataclass(frozen=True)
class Record:
    """One figure.

    Attributes:
        metric: Name, as in the README's table.
        value: The figure; None when it was not measured, and then `where` says why.
        unit: "1" for a ratio, "bytes", "us", ...
        baseline: What the value is compared with, in its own unit: for a ratio, the denominator.
        ratio: The comparison; equal to `value` where the value is a ratio already.
        spread: Interquartile range of the repeated estimates behind `value`, in `unit`; None where
            there is only one, as with bytes.
        model: The network, or the other side of the comparison where the metric has one.
        where: Machine, threads, and what else somebody needs to measure it again.
    """

    metric: str
    value: float | None
    unit: str
    baseline: float | None
    ratio: float | None
    spread: float | None
    model: str
    where: str


@dataclass(frozen=True)
class Estimate:
    """A median and how far the estimates behind it lie apart.

    Attributes:
        median: In the unit of the samples.
        spread: Interquartile range; 0 for a single sample.
    """

    median: float
    spread: float


def summarise(samples: Sequence[float]) -> Estimate:
    """Return median and interquartile range.

    Raises:
        ValueError: No samples.
    """
    if not samples:
        raise ValueError("no samples")
    if len(samples) == 1:
        return Estimate(float(samples[0]), 0.0)
    low, _, high = statistics.quantiles(samples, n=4, method="inclusive")
    return Estimate(float(statistics.median(samples)), float(high - low))


def ratio_record(
    metric: str,
    ratios: Sequence[float],
    *,
    baseline: float,
    model: str,
    where: str,
) -> Record:
    """Make the record of a ratio that was estimated several times, once a round."""
    estimate = summarise(ratios)
    return Record(
        metric, estimate.median, "1", baseline, estimate.median, estimate.spread, model, where
    )


def missing_record(metric: str, unit: str, model: str, reason: str) -> Record:
    """Make the record of a figure that could not be taken: silence is not a zero."""
    return Record(metric, None, unit, None, None, None, model, f"not measured: {reason}")


def describe_machine(threads: int) -> str:
    """Return the machine in words, without its name: processor, cores, system, threads."""
    cores = len(os.sched_getaffinity(0))
    return (
        f"{_processor()}, {cores} cores, {platform.system()} {platform.release().split('-')[0]}, "
        f"{threads} thread{'s' if threads != 1 else ''}"
    )


def _processor() -> str:
    """Return the processor's own name, else its architecture."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"{platform.machine()} {' '.join(line.split(':', 1)[1].split())}"
    except OSError:
        pass
    return platform.machine()


def write_records(records: Iterable[Record], path: Path) -> None:
    """Write a JSON list, one record a line, through a temporary file and a rename.

    Raises:
        NestlingError: The folder cannot be written to.
    """
    lines = ",\n".join(json.dumps(asdict(record)) for record in records)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=path.name, delete=False, encoding="utf-8"
        ) as stream:
            stream.write(f"[\n{lines}\n]\n")
        # A temporary file is private; a report is not.
        os.chmod(stream.name, 0o644)
        os.replace(stream.name, path)
    except OSError as error:
        raise NestlingError(
            "cannot write the records", actual=error.strerror, hint=f"check {path}"
        ) from error


def read_records(path: Path) -> list[Record]:
    """Read what `write_records` wrote.

    Raises:
        NestlingError: The file holds something else.
    """
    try:
        return [Record(**fields) for fields in json.loads(path.read_text(encoding="utf-8"))]
    except (TypeError, ValueError) as error:
        raise NestlingError(f"{path} holds no records", hint="remove it") from error


def merge_records(records: Sequence[Record], path: Path) -> None:
    """Write records beside what the file holds of other metrics or models.

    Raises:
        NestlingError: The file holds something else, or cannot be written.
    """
    ours = {(record.metric, record.model) for record in records}
    kept = read_records(path) if path.exists() else []
    write_records([one for one in kept if (one.metric, one.model) not in ours] + [*records], path)
