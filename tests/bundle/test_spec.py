"""SPEC.md says what the code does: its example, its limits, its constants."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import cbor2
from core.server import Reader

from nestling.bundle.manifest import (
    MANIFEST_LIMIT_BYTES,
    NAME_LIMIT_BYTES,
    SIGNATURE_BYTES,
    TABLE_LIMITS,
)

ROOT = Path(__file__).resolve().parents[2]
SPEC = (ROOT / "SPEC.md").read_text(encoding="utf-8")
HEADER = (ROOT / "firmware" / "core" / "bundle.h").read_text(encoding="utf-8")
EXAMPLE = SPEC.split("## Example")[1]


def bytes_of_the_example() -> bytes:
    """Put the dump of SPEC.md together again."""
    data = bytearray()
    for line in EXAMPLE.split("```")[1].splitlines():
        row = re.match(r"([0-9a-f]{6})  ((?:[0-9a-f]{2} )*[0-9a-f]{2})(?:  .*)?$", line)
        gap = re.match(r"([0-9a-f]{6})  00 \.\.\. +(\d+) zero bytes", line)
        if gap:
            assert int(gap[1], 16) == len(data)
            data += bytes(int(gap[2]))
        elif row:
            assert int(row[1], 16) == len(data)
            data += bytes.fromhex(row[2])
    return bytes(data)


def test_the_example_is_what_the_script_prints() -> None:
    printed = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "spec_dump.py")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert printed in SPEC


def test_the_example_is_a_bundle(reader: Reader) -> None:
    answer = reader.open(bytes_of_the_example())
    assert answer["bundle"]["name"] == "example"
    assert answer["sections"] == [None, None]


def test_the_limits_are_those_of_the_reader_and_the_writer() -> None:
    table = dict(re.findall(r"^\| ([a-z ]+) \| (\d+) ?(?:MiB|bytes)? \|$", SPEC, re.M))
    for name, limit in TABLE_LIMITS.items():
        assert int(table[name]) == limit
        assert f"NST_MAX_{name.upper()} {limit}u" in HEADER
    assert int(table["manifest"]) << 20 == MANIFEST_LIMIT_BYTES
    assert int(table["name"]) == NAME_LIMIT_BYTES
    assert f"signature, or zeros | 64 + `manifest_bytes` | {SIGNATURE_BYTES} |" in SPEC


def test_the_manifests_members_are_listed_in_their_order() -> None:
    listed = SPEC.split("The members, in canonical order:")[1].split("Every table but")[0]
    members = re.findall(r"^\| `(\w+)` \|", listed, re.M)
    data = bytes_of_the_example()
    manifest = cbor2.loads(data[64 : 64 + int.from_bytes(data[16:24], "little")])
    assert members == list(manifest)


def test_every_member_of_the_grammar_is_described() -> None:
    grammar = (ROOT / "firmware" / "core" / "manifest.cddl").read_text(encoding="utf-8")
    members = set(re.findall(r'"(\w+)" =>', grammar))
    assert members
    assert {member for member in members if f"`{member}`" not in SPEC} == set()
