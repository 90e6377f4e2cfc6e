"""Bundles made from another one, to compare with: one path alone, other weights in one blob."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cbor2

from nestling.bundle.manifest import PREFIX_BYTES
from nestling.errors import BundleError
from nestling_runtime.bundle import Bundle


def keep_path(bundle: Path, name: str, out: Path) -> None:
    """Write a bundle that has one path and its stages only; programs and weights stay.

    Raises:
        BundleError: The bundle cannot be read.
        PathError: It has no such path.
    """
    with Bundle.open(bundle) as opened:
        path = opened.path_index(name)
        chain = opened.paths[path].chain
    data = bundle.read_bytes()
    manifest = _read_manifest(data)
    kept = sorted(set(chain))
    entry = manifest["paths"][path] | {"chain": [kept.index(stage) for stage in chain]}
    entry.pop("fused", None)
    stages = [manifest["stages"][stage] for stage in kept]
    out.write_bytes(_with_manifest(data, manifest | {"stages": stages, "paths": [entry]}))


def change_blob(bundle: Path, out: Path) -> int:
    """Write a bundle with other weights at the last level, and so with one blob that differs.

    Returns:
        Bytes of that blob.

    Raises:
        BundleError: The bundle cannot be read.
    """
    with Bundle.open(bundle) as opened:
        stage = max(opened.stages, key=lambda stage: (stage.level, stage.first))
        # Of a Cortex-M layer's two constants the first one is its weights, which may be any bytes.
        constant = opened.constants[stage.bindings[-2][1]]
        section = opened.sections[constant.section]
    data = bytearray(bundle.read_bytes())
    start = section.offset_bytes + constant.offset_bytes
    for place in range(start, start + constant.size_bytes):
        data[place] ^= 0x15
    content = data[section.offset_bytes : section.offset_bytes + section.size_bytes]
    manifest = _read_manifest(bytes(data))
    manifest["sections"][constant.section]["sha256"] = hashlib.sha256(content).digest()
    out.write_bytes(_with_manifest(bytes(data), manifest))
    return section.size_bytes


def _manifest_bytes(data: bytes) -> int:
    return int.from_bytes(data[16:24], "little")


def _read_manifest(data: bytes) -> dict[str, Any]:
    manifest: dict[str, Any] = cbor2.loads(data[PREFIX_BYTES:][: _manifest_bytes(data)])
    return manifest


def _with_manifest(data: bytes, manifest: Mapping[str, Any]) -> bytes:
    """Put another manifest in front of the same sections; a signature goes."""
    first = min(section["offset"] for section in manifest["sections"])
    encoded = cbor2.dumps(dict(manifest), canonical=True)
    if PREFIX_BYTES + len(encoded) > first:
        raise BundleError("the changed manifest does not fit before the sections")
    prefix = (
        data[:12]
        + bytes(4)
        + len(encoded).to_bytes(8, "little")
        + data[24:32]
        + hashlib.sha256(encoded).digest()
    )
    return prefix + encoded + bytes(first - PREFIX_BYTES - len(encoded)) + data[first:]
