"""What a process holds in memory: every question is asked in a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nestling.bench import native
from nestling.bench.records import Record, missing_record, summarise
from nestling.bench.subject import Subject
from nestling.errors import NestlingError

RESIDENT_BYTES_RATIO = "resident_bytes_ratio"
RUNTIME_RSS_BYTES = "runtime_rss_bytes"

_REPEATS = 3
_LIMITS = {"c": 12_000_000.0, "python": 60_000_000.0}


def measure_memory(subject: Subject) -> list[Record]:
    """Measure resident memory of paths, and of the runtime itself.

    - `resident_bytes_ratio`: what all named paths add to a process, against what the full one alone
      adds. Counted is the growth of Pss (private pages, and a fair share of shared ones, file pages
      included) from before the bundle is opened until every path ran once.
    - `resident_bytes_ratio_chain`: the same with the paths as chains of stages.
    - `resident_bytes_ratio_plain`: the same question to plain ExecuTorch with one file a path.
    - `runtime_rss_bytes`: all resident pages of a program that opened the bundle, except pages of
      the bundle itself; the baseline is the limit that we set ourselves.
    """
    full = (subject.full,)

    def nested(**paths: tuple[str, ...]) -> int:
        measured = native.measure_nested_memory(
            subject.bundle, inputs=subject.inputs, threads=subject.threads, **paths
        )
        return _growth(measured)

    def plain(files: Mapping[str, Path]) -> int:
        return _growth(
            native.measure_plain_memory(files, inputs=subject.inputs, threads=subject.threads)
        )

    records = [
        _ratio(
            subject,
            RESIDENT_BYTES_RATIO,
            lambda: nested(fused=subject.paths),
            lambda: nested(fused=full),
        ),
        _ratio(
            subject,
            f"{RESIDENT_BYTES_RATIO}_chain",
            lambda: nested(chain=subject.paths),
            lambda: nested(chain=full),
        ),
    ]
    metric = f"{RESIDENT_BYTES_RATIO}_plain"
    if set(subject.plain) >= set(subject.paths):
        alone = {subject.full: subject.plain[subject.full]}
        records.append(_ratio(subject, metric, lambda: plain(subject.plain), lambda: plain(alone)))
    else:
        records.append(
            missing_record(metric, "1", subject.label, "no plain programs beside the bundle")
        )
    return [*records, *_runtime_records(subject)]


def _growth(measured: Mapping[str, Any]) -> int:
    return int(measured["after"]["pss"]) - int(measured["before"]["pss"])


def _ratio(
    subject: Subject, metric: str, many: Callable[[], int], one: Callable[[], int]
) -> Record:
    """Compare two memory questions, each asked several times in turns."""
    pairs = [(many(), one()) for _ in range(_REPEATS)]
    ratios = summarise([large / max(small, 1) for large, small in pairs])
    baseline = summarise([float(small) for _, small in pairs]).median
    return Record(
        metric,
        ratios.median,
        "1",
        baseline,
        ratios.median,
        ratios.spread,
        subject.label,
        f"{subject.where}; baseline: bytes of the full path alone",
    )


def _runtime_records(subject: Subject) -> list[Record]:
    """Measure a C program and a Python process that have the bundle open, no path loaded."""
    samples = {
        "c": [
            _without_weights(native.measure_open_memory(subject.bundle)) for _ in range(_REPEATS)
        ],
        "python": [_measure_python(subject.bundle) for _ in range(_REPEATS)],
    }
    records = []
    for language, values in samples.items():
        estimate = summarise([float(value) for value in values])
        limit = _LIMITS[language]
        records.append(
            Record(
                RUNTIME_RSS_BYTES,
                estimate.median,
                "bytes",
                limit,
                estimate.median / limit,
                estimate.spread,
                language,
                f"{subject.where}; {subject.label} open, its own pages not counted; "
                "baseline: the limit",
            )
        )
    return records


def _without_weights(measured: Mapping[str, Any]) -> int:
    return int(measured["rss"]) - int(measured["mapped_file"])


_PYTHON_PROGRAM = """
import json, sys
import nestling_runtime
model = nestling_runtime.open(sys.argv[1])
all_bytes = file_bytes = 0
of_file = False
for line in open("/proc/self/smaps"):
    if line.startswith("Rss:"):
        size = int(line.split()[1]) * 1024
        all_bytes += size
        file_bytes += size if of_file else 0
    elif "-" in line.split(" ", 1)[0]:
        of_file = line.rstrip().endswith(sys.argv[1])
print(json.dumps({"rss": all_bytes, "mapped_file": file_bytes}))
"""


def _measure_python(bundle: Path) -> int:
    """Open the bundle in a fresh interpreter with nothing else in it."""
    packages = Path(__file__).parents[3] / "runtime_py"
    environment = dict(os.environ)
    if packages.is_dir():
        environment["PYTHONPATH"] = str(packages)
    done = subprocess.run(
        [sys.executable, "-c", _PYTHON_PROGRAM, str(bundle.resolve())],
        capture_output=True,
        text=True,
        env=environment,
    )
    if done.returncode != 0:
        raise NestlingError(
            "a Python process could not open the bundle",
            actual=(done.stderr.strip().splitlines() or ["no message"])[-1],
        )
    return _without_weights(json.loads(done.stdout.splitlines()[-1]))
