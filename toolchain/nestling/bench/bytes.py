"""How large the bundle is."""

from __future__ import annotations

from nestling.bench.records import Record, missing_record
from nestling.bench.subject import Subject

BUNDLE_BYTES_RATIO = "bundle_bytes_ratio"
SEPARATE_BYTES_RATIO = "separate_bytes_ratio"


def measure_bytes(subject: Subject) -> list[Record]:
    """Compare the bundle with plain ExecuTorch files.

    - `bundle_bytes_ratio`: the bundle against the plain program of its full subnet alone.
    - `separate_bytes_ratio`: what one plain program a named path takes, against the bundle.
    """
    plain = {name: file for name, file in subject.plain.items() if file.exists()}
    if subject.full not in plain:
        reason = "no plain program beside the bundle"
        return [
            missing_record(metric, "1", subject.label, reason)
            for metric in (BUNDLE_BYTES_RATIO, SEPARATE_BYTES_RATIO)
        ]
    bundle = subject.bundle.stat().st_size
    full = plain[subject.full].stat().st_size
    separate = sum(file.stat().st_size for file in plain.values())
    where = "bytes on disk; the same on any machine"
    return [
        Record(
            BUNDLE_BYTES_RATIO,
            bundle / full,
            "1",
            float(full),
            bundle / full,
            None,
            subject.label,
            where,
        ),
        Record(
            SEPARATE_BYTES_RATIO,
            separate / bundle,
            "1",
            float(bundle),
            separate / bundle,
            None,
            subject.label,
            where,
        ),
    ]
