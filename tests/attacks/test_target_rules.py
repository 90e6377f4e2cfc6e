"""The rules of SPEC.md for bundles with several targets: one case each."""

from __future__ import annotations

from typing import Any

import pytest
from attacks.test_rules import drop, put
from bundle.samples import Edit, edited, manifest_end, two_targets, with_manifest, written
from core.server import Reader

DATA, MANIFEST = written(two_targets())
STAGES = {stage.name: number for number, stage in enumerate(MANIFEST.stages)}
ACME = [number for number, program in enumerate(MANIFEST.programs) if program.target == "acme"]
OWN = [number for number, program in enumerate(MANIFEST.programs) if program.target is None]
HEAD, BLOCK = STAGES["head@acme"], STAGES["block@2@acme"]


def all_for_others(manifest: dict[str, Any]) -> None:
    """Leave the bundle's own target without a program; stages keep names that fit."""
    for program in manifest["programs"]:
        program["target"] = "acme"
    for number, stage in enumerate(manifest["stages"]):
        stage["name"] = f"s{number}@acme"


def seventeen(manifest: dict[str, Any]) -> None:
    """Name sixteen targets beside the bundle's own."""
    program = manifest["programs"][ACME[0]]
    at = ACME[0]
    manifest["programs"][at : at + 1] = [{**program, "target": f"t{n}"} for n in range(16)]
    for stage in manifest["stages"]:
        stage["program"] += 15 if stage["program"] > at else 0


EDITS: dict[str, tuple[Edit, str, str]] = {
    "an empty target": (put("programs", ACME[0], "target", ""), "CORRUPT", f"programs[{ACME[0]}]"),
    "a target of 128 bytes": (
        put("programs", ACME[0], "target", "t" * 128),
        "CORRUPT",
        f"programs[{ACME[0]}]",
    ),
    "a control character": (
        put("programs", ACME[0], "target", "a\x07"),
        "CORRUPT",
        f"programs[{ACME[0]}]",
    ),
    "a target that is no text": (
        put("programs", ACME[0], "target", 7),
        "CORRUPT",
        f"programs[{ACME[0]}]",
    ),
    "the bundle's own target": (
        put("programs", OWN[1], "target", "xnnpack"),
        "CORRUPT",
        f"programs[{OWN[1]}]",
    ),
    "no program for the bundle's own target": (all_for_others, "CORRUPT", "programs"),
    "too many targets": (seventeen, "LIMIT", "programs"),
    "a name without the target": (put("stages", HEAD, "name", "top"), "CORRUPT", f"stages[{HEAD}]"),
    "a name that is only the target": (
        put("stages", HEAD, "name", "@acme"),
        "CORRUPT",
        f"stages[{HEAD}]",
    ),
    "a program that lost its target": (drop("programs", ACME[0], "target"), "", ""),
    "another first position": (put("stages", HEAD, "first", 1), "CORRUPT", f"stages[{HEAD}]"),
    "another last position": (put("stages", BLOCK, "last", 2), "CORRUPT", f"stages[{BLOCK}]"),
    "another level": (put("stages", HEAD, "level", 3), "CORRUPT", f"stages[{HEAD}]"),
    "other bits, which may be": (put("stages", HEAD, "bits", 8), "", ""),
    "other macs": (put("stages", BLOCK, "macs", 21), "CORRUPT", f"stages[{BLOCK}]"),
    "other inputs": (put("stages", HEAD, "inputs", [0]), "CORRUPT", f"stages[{HEAD}]"),
    "other outputs": (put("stages", HEAD, "outputs", [1, 2]), "CORRUPT", f"stages[{HEAD}]"),
}


def test_the_bundle_itself_is_legal(reader: Reader) -> None:
    assert int.from_bytes(DATA[8:12], "little") == 2
    assert "error" not in reader.open(DATA)


@pytest.mark.parametrize("rule", EDITS)
def test_a_broken_rule_is_refused(reader: Reader, rule: str) -> None:
    edit, code, place = EDITS[rule]
    answer = reader.open(edited(DATA, edit))
    if not code:  # and a stage of the bundle's own target may be called what it likes
        assert "error" not in answer
        return
    assert answer["error"]["code"] == f"NST_E_{code}", answer
    assert answer["error"]["section"].startswith(place), answer


def test_a_stage_may_stand_in_for_nothing(reader: Reader) -> None:
    data = edited(DATA, put("stages", HEAD, "name", "top@acme"))
    assert "error" not in reader.open(data)


def test_the_target_stands_behind_the_offset(reader: Reader) -> None:
    """Canonical order: size, method, offset, target, section."""
    encoded = DATA[64 : manifest_end(DATA)]
    target, section = b"\x66target\x64acme", b"\x67section"
    at = encoded.index(target + section)
    tail = encoded[at + len(target) + len(section) :]
    swapped = encoded[:at] + section + tail[:1] + target + tail[1:]
    error = reader.error(with_manifest(DATA, swapped))
    assert error["code"] == "NST_E_CORRUPT"
    assert error["section"].startswith("programs[")
