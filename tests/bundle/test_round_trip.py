"""What the Python writer writes is what the C reader reads."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from bundle.samples import builders, tiny, written
from core.server import Reader
from hypothesis import HealthCheck, given, settings

from nestling.bundle import BundleBuilder, Manifest
from nestling.bundle.manifest import DTYPE_BYTES


def as_read(manifest: Manifest, data: bytes) -> dict[str, Any]:
    """What the reader must say about a bundle, from what the writer says."""

    def without_none(entry: Any) -> dict[str, Any]:
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(entry).items()
            if value is not None
        }

    def item(entry: Any) -> dict[str, Any]:
        start = manifest.sections[entry.section].offset + entry.offset
        return {**without_none(entry), "data": data[start : start + min(entry.size, 64)].hex()}

    expected: dict[str, Any] = {
        name: getattr(manifest, name) for name in ("name", "producer", "target", "scheme", "family")
    }
    expected["signature_bytes"] = 0
    expected["sections"] = [
        {**without_none(entry), "sha256": entry.sha256.hex()} for entry in manifest.sections
    ]
    expected["slots"] = []
    for slot in manifest.slots:
        size = DTYPE_BYTES[slot.dtype]
        for dim in slot.shape:
            size *= dim
        expected["slots"].append({**without_none(slot), "bytes": size})
    expected["constants"] = [item(entry) for entry in manifest.constants]
    for constant in expected["constants"]:
        if "shape" in constant:
            constant.setdefault("dim_order", list(range(len(constant["shape"]))))
    expected["programs"] = [item(entry) for entry in manifest.programs]
    expected["positions"] = [without_none(entry) for entry in manifest.positions]
    expected["stages"] = [
        {
            **without_none(entry),
            "bindings": [list(b) for b in sorted(entry.bindings, key=lambda b: b[0].encode())],
        }
        for entry in manifest.stages
    ]
    expected["paths"] = [{"cost_us": {}, **without_none(entry)} for entry in manifest.paths]
    expected["meta"] = {
        name: {"float": value} if isinstance(value, float) else value
        for name, value in manifest.meta.items()
    }
    return expected


def test_the_tiny_bundle_reads_as_written(reader: Reader) -> None:
    data, manifest = written(tiny())
    answer = reader.open(data)
    assert answer["bundle"] == as_read(manifest, data)
    assert answer["sections"] == [None] * len(manifest.sections)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(builder=builders())
def test_any_bundle_reads_as_written(reader: Reader, builder: BundleBuilder) -> None:
    data, manifest = written(builder)
    answer = reader.open(data)
    assert "error" not in answer, answer
    assert answer["bundle"] == as_read(manifest, data)
    assert answer["sections"] == [None] * len(manifest.sections)


def test_entries_are_found_by_name(reader: Reader) -> None:
    data, manifest = written(tiny())
    reader.open(data)
    for table, field in (
        ("sections", "name"),
        ("slots", "name"),
        ("constants", "key"),
        ("positions", "name"),
        ("stages", "name"),
        ("paths", "name"),
    ):
        names = [getattr(entry, field) for entry in getattr(manifest, table)]
        assert [reader.find(table, name) for name in names] == list(range(len(names)))
        assert reader.find(table, "no such") is None
        assert reader.find(table, "") is None


def test_many_constants_stay_sorted_and_unique(reader: Reader) -> None:
    builder = tiny()
    for number in range(3000):
        builder.add_constant("core", f"k{number * 7919 % 3000}", number.to_bytes(4, "little"))
    data, manifest = written(builder)
    answer = reader.open(data)
    assert [entry["key"] for entry in answer["bundle"]["constants"]] == [
        constant.key for constant in manifest.constants
    ]
    assert reader.find("constants", "k2999") is not None
