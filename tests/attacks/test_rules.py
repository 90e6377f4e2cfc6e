"""One test a rule of SPEC.md: a bundle that breaks it is refused, and the error says where.

Each case edits the manifest of the tiny bundle (or its bytes), puts the hashes right again, so that
only the rule stands between the file and the reader, and names the code and the place that the
error must give.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import cbor2
import pytest
from bundle.samples import Edit, edited, manifest_end, tiny, with_manifest, with_section, written
from core.server import Reader

DATA, MANIFEST = written(tiny())
ENCODED = DATA[64 : manifest_end(DATA)]
SECTIONS = {section.name: number for number, section in enumerate(MANIFEST.sections)}
CONSTANTS = {constant.key: number for number, constant in enumerate(MANIFEST.constants)}


def put(table: str, number: int, key: str, value: object) -> Edit:
    """Set one member of one entry."""

    def edit(manifest: dict[str, Any]) -> None:
        manifest[table][number][key] = value

    return edit


def drop(table: str, number: int, key: str) -> Edit:
    """Remove one member of one entry."""

    def edit(manifest: dict[str, Any]) -> None:
        del manifest[table][number][key]

    return edit


def top(key: str, value: object) -> Edit:
    """Set one member of the manifest."""

    def edit(manifest: dict[str, Any]) -> None:
        manifest[key] = value

    return edit


def again(table: str, number: int = 0) -> Edit:
    """Append a copy of an entry."""

    def edit(manifest: dict[str, Any]) -> None:
        manifest[table].append(dict(manifest[table][number]))

    return edit


def shift(table: str, number: int, key: str, by: int) -> Edit:
    """Add to one number."""

    def edit(manifest: dict[str, Any]) -> None:
        manifest[table][number][key] += by

    return edit


def swap(table: str, a: int, b: int) -> Edit:
    """Exchange two entries."""

    def edit(manifest: dict[str, Any]) -> None:
        entries = manifest[table]
        entries[a], entries[b] = entries[b], entries[a]

    return edit


def many(table: str, count: int) -> Edit:
    """Fill a table with renamed copies of its first entry."""

    def edit(manifest: dict[str, Any]) -> None:
        first = manifest[table][0]
        manifest[table] = [{**first, "name": f"n{number}"} for number in range(count)]

    return edit


def rows_of(shape: list[int]) -> Edit:
    """Make the slot "x" rows of the slot "logits", a state of that shape."""

    def edit(manifest: dict[str, Any]) -> None:
        manifest["slots"][1]["append"] = 2
        manifest["slots"][2] |= {"role": "state", "shape": shape}

    return edit


EDITS: dict[str, tuple[Edit, str, str]] = {
    # ---- encoding of entries ----
    "an unknown member": (put("slots", 0, "zzz", 1), "CORRUPT", "slots[0]"),
    "an unknown member of the manifest": (top("zzz", 1), "CORRUPT", "manifest"),
    "a missing member": (drop("positions", 1, "layer"), "CORRUPT", "positions[1]"),
    "a text for a number": (put("stages", 2, "macs", "10"), "CORRUPT", "stages[2]"),
    "a number for a text": (put("paths", 0, "name", 7), "CORRUPT", "paths[0]"),
    "a negative number": (put("constants", 0, "size", -1), "CORRUPT", "constants[0]"),
    "a number over 32 bits": (put("positions", 0, "layer", 2**32), "CORRUPT", "positions[0]"),
    "a number over 64 bits": (put("stages", 0, "macs", 2**64), "CORRUPT", "stages[0]"),
    "an unknown dtype": (put("slots", 0, "dtype", "f8"), "CORRUPT", "slots[0]"),
    "an unknown role": (put("slots", 0, "role", "both"), "CORRUPT", "slots[0]"),
    "an unknown kind": (put("sections", 0, "kind", "code"), "CORRUPT", "sections[0]"),
    "a short hash": (put("sections", 0, "sha256", b"\0" * 31), "CORRUPT", "sections[0]"),
    "a tag": (put("positions", 0, "layer", cbor2.CBORTag(1, 1)), "CORRUPT", "positions[0]"),
    "an integer for a float": (put("paths", 0, "quality", {"a": 1}), "CORRUPT", "paths[0]"),
    "not a number": (put("paths", 0, "quality", {"a": float("nan")}), "CORRUPT", "paths[0]"),
    "an infinite figure": (put("paths", 0, "quality", {"a": float("inf")}), "CORRUPT", "paths[0]"),
    "a negative cost": (put("paths", 1, "cost_us", {"a": -1.0}), "CORRUPT", "paths[1]"),
    "a list in a note": (top("meta", {"a": []}), "CORRUPT", "manifest"),
    "bytes in a note": (top("meta", {"a": b""}), "CORRUPT", "manifest"),
    "an undefined note": (top("meta", {"a": cbor2.undefined}), "CORRUPT", "manifest"),
    # ---- names ----
    "an empty name": (put("stages", 0, "name", ""), "CORRUPT", "stages[0]"),
    "a name of 128 bytes": (put("stages", 0, "name", "n" * 128), "CORRUPT", "stages[0]"),
    "a control character": (put("stages", 0, "name", "a\nb"), "CORRUPT", "stages[0]"),
    "a C1 control character": (put("stages", 0, "name", "a\x85b"), "CORRUPT", "stages[0]"),
    "an empty model name": (top("name", ""), "CORRUPT", "manifest"),
    "an empty note name": (top("meta", {"": 1}), "CORRUPT", "manifest"),
    "an empty metric name": (put("paths", 0, "quality", {"": 1.0}), "CORRUPT", "paths[0]"),
    "two slots of one name": (put("slots", 1, "name", "image"), "CORRUPT", "slots[1]"),
    "two stages of one name": (put("stages", 3, "name", "stem"), "CORRUPT", "stages[3]"),
    "two sections of one name": (put("sections", 2, "name", "core"), "CORRUPT", "sections[2]"),
    "two constants of one key": (put("constants", 2, "key", "w.core"), "CORRUPT", "constants[2]"),
    "two positions of one name": (put("positions", 2, "name", "stem"), "CORRUPT", "positions[2]"),
    "two paths of one name": (put("paths", 0, "name", "full"), "CORRUPT", "paths[1]"),
    # ---- tables ----
    "no slots": (top("slots", []), "CORRUPT", "slots[0]"),
    "no stages": (top("stages", []), "CORRUPT", "stages[0]"),
    "no paths": (top("paths", []), "CORRUPT", "paths[0]"),
    "no programs": (top("programs", []), "CORRUPT", "programs[0]"),
    "no positions": (top("positions", []), "CORRUPT", "positions[0]"),
    "no sections": (top("sections", []), "CORRUPT", "sections[0]"),
    "a table that is a map": (top("slots", {}), "CORRUPT", "slots[0]"),
    "257 sections": (many("sections", 257), "LIMIT", "sections[0]"),
    # ---- tensors ----
    "a dimension of 0": (put("slots", 0, "shape", [1, 0]), "CORRUPT", "slots[0]"),
    "17 dimensions": (put("slots", 0, "shape", [1] * 17), "CORRUPT", "slots[0]"),
    "a tensor over 2^64 bytes": (put("slots", 0, "shape", [2**31] * 3), "CORRUPT", "slots[0]"),
    "a layout of another size": (put("constants", 1, "shape", [2, 3]), "CORRUPT", "constants[1]"),
    "a dtype without a shape": (drop("constants", 1, "shape"), "CORRUPT", "constants[1]"),
    "a shape without a dtype": (drop("constants", 1, "dtype"), "CORRUPT", "constants[1]"),
    "no dim_order": (drop("constants", 1, "dim_order"), "CORRUPT", "constants[1]"),
    "a dim_order twice": (put("constants", 1, "dim_order", [0, 0]), "CORRUPT", "constants[1]"),
    "a dim_order too far": (put("constants", 1, "dim_order", [0, 2]), "CORRUPT", "constants[1]"),
    "a short dim_order": (put("constants", 1, "dim_order", [0]), "CORRUPT", "constants[1]"),
    # ---- sections ----
    "an empty section": (put("sections", 0, "size", 0), "CORRUPT", "sections[0]"),
    "a level on programs": (put("sections", 0, "level", 1), "CORRUPT", "sections[0]"),
    "a section at 0": (put("sections", 0, "offset", 0), "CORRUPT", "programs"),
    "a section between": (shift("sections", 1, "offset", 64), "CORRUPT", "core"),
    "a hole before a section": (shift("sections", 1, "offset", 16384), "CORRUPT", "core"),
    "a section behind the end": (put("sections", 2, "size", 2**40), "CORRUPT", "level2"),
    "a section of 2^64 - 1": (put("sections", 1, "size", 2**64 - 1), "CORRUPT", "core"),
    "an offset of 2^64 - 1": (put("sections", 1, "offset", 2**64 - 1), "CORRUPT", "core"),
    "a section too short": (shift("sections", 2, "size", -1), "CORRUPT", "sections"),
    "a section over another": (shift("sections", 0, "size", 20000), "CORRUPT", "core"),
    "sections out of order": (swap("sections", 1, 2), "CORRUPT", "level2"),
    "an unused section": (
        lambda manifest: manifest["constants"].pop(CONSTANTS["w.more"]),
        "CORRUPT",
        "sections[2]",
    ),
    # ---- programs and constants in their sections ----
    "a constant in no section": (put("constants", 0, "section", 9), "CORRUPT", "sections[1]"),
    "a constant among programs": (put("constants", 0, "section", 0), "CORRUPT", "sections[1]"),
    "a program in a blob": (put("programs", 3, "section", 1), "CORRUPT", "sections[0]"),
    "a constant off its place": (shift("constants", 1, "offset", 64), "CORRUPT", "constants[1]"),
    "a constant not aligned": (shift("constants", 1, "offset", -1), "CORRUPT", "constants[1]"),
    "constants that overlap": (shift("constants", 0, "size", 64), "CORRUPT", "constants[1]"),
    "an offset that wraps": (put("constants", 1, "offset", 2**64 - 64), "CORRUPT", "constants[1]"),
    "a constant too large": (put("constants", 0, "size", 2**64 - 1), "CORRUPT", "constants[0]"),
    "a constant too short": (shift("constants", 2, "size", -1), "CORRUPT", "sections[2]"),
    "an empty constant": (put("constants", 0, "size", 0), "CORRUPT", "constants[0]"),
    "constants out of order": (swap("constants", 0, 1), "CORRUPT", "constants[0]"),
    "sections of constants out of order": (swap("constants", 1, 2), "CORRUPT", "sections[1]"),
    "an empty program": (put("programs", 0, "size", 0), "CORRUPT", "programs[0]"),
    "a program that inflates to nothing": (
        put("programs", 0, "unpacked", 0),
        "CORRUPT",
        "programs[0]",
    ),
    "a program that inflates to too much": (
        put("programs", 0, "unpacked", (64 << 20) + 1),
        "CORRUPT",
        "programs[0]",
    ),
    "programs that overlap": (put("programs", 1, "offset", 0), "CORRUPT", "programs[1]"),
    "programs out of order": (swap("programs", 2, 3), "CORRUPT", "programs[2]"),
    # ---- slots ----
    "rows of a slot that is not there": (put("slots", 1, "append", 3), "CORRUPT", "slots[1]"),
    "rows of a slot that is no state": (put("slots", 1, "append", 0), "CORRUPT", "slots[1]"),
    "rows of another shape": (rows_of([8, 3]), "CORRUPT", "slots[1]"),
    "rows of another rank": (rows_of([8, 4, 1]), "CORRUPT", "slots[1]"),
    "a growing slot written": (rows_of([8, 4]), "CORRUPT", "stages[2]"),
    # ---- stages ----
    "a stage without a program": (put("stages", 0, "program", 4), "CORRUPT", "stages[0]"),
    "a position that is not there": (put("stages", 0, "last", 3), "CORRUPT", "stages[0]"),
    "a span that runs backwards": (put("stages", 3, "first", 3), "CORRUPT", "stages[3]"),
    "a slot that is not there": (put("stages", 0, "inputs", [3]), "CORRUPT", "stages[0]"),
    "an output that is not there": (put("stages", 0, "outputs", [3]), "CORRUPT", "stages[0]"),
    "no outputs": (put("stages", 0, "outputs", []), "CORRUPT", "stages[0]"),
    "an input slot written": (put("stages", 0, "outputs", [0]), "CORRUPT", "stages[0]"),
    "a slot written twice": (put("stages", 0, "outputs", [1, 1]), "CORRUPT", "stages[0]"),
    "a constant that is not there": (put("stages", 0, "bindings", [3]), "CORRUPT", "stages[0]"),
    "one binding twice": (put("stages", 0, "bindings", [0, 0]), "CORRUPT", "stages[0]"),
    "bindings out of order": (put("stages", 0, "bindings", [1, 0]), "CORRUPT", "stages[0]"),
    "renamed to its key": (
        put("stages", 0, "bindings", [["w.core", CONSTANTS["w.core"]]]),
        "CORRUPT",
        "stages[0]",
    ),
    "a binding of three": (put("stages", 0, "bindings", [["w", 0, 0]]), "CORRUPT", "stages[0]"),
    "bits of 0": (put("stages", 0, "bits", 0), "CORRUPT", "stages[0]"),
    "bits of 65": (put("stages", 0, "bits", 65), "CORRUPT", "stages[0]"),
    # ---- paths ----
    "an empty chain": (put("paths", 0, "chain", []), "CORRUPT", "paths[0]"),
    "a stage that is not there": (put("paths", 0, "chain", [0, 4]), "CORRUPT", "paths[0]"),
    "a fused stage that is not there": (put("paths", 0, "fused", 4), "CORRUPT", "paths[0]"),
    "a fused stage that is no path": (put("paths", 0, "fused", 0), "PATH", "paths[0]"),
    "a path that skips its head": (put("paths", 0, "chain", [0, 1]), "PATH", "paths[0]"),
    "a path that runs backwards": (put("paths", 0, "chain", [2, 0]), "PATH", "paths[0]"),
    "a path that reads too early": (put("stages", 0, "inputs", [1]), "PATH", "paths[0]"),
    "paths out of order": (swap("paths", 0, 1), "CORRUPT", "paths[1]"),
}


@pytest.mark.parametrize("rule", EDITS)
def test_a_broken_rule_is_refused_where_it_is_broken(reader: Reader, rule: str) -> None:
    edit, code, place = EDITS[rule]
    error = reader.error(edited(prefix(version=2), edit))
    assert (error["code"], error["section"]) == (f"NST_E_{code}", place), error
    assert error["message"]


@pytest.mark.parametrize(
    ("edit", "place"),
    [
        (put("programs", 1, "target", "acme"), "programs[1]"),
        (put("slots", 1, "append", 2), "slots[1]"),
        (put("positions", 1, "part", True), "positions[1]"),
    ],
)
def test_version_1_knows_no_members_of_version_2(reader: Reader, edit: Edit, place: str) -> None:
    error = reader.error(edited(DATA, edit))
    assert (error["code"], error["section"]) == ("NST_E_CORRUPT", place), error
    assert (error["expected"], error["actual"]) == (2, 1)


def raw(old: bytes, new: bytes, count: int = 1) -> bytes:
    """The bundle with some bytes of its manifest exchanged."""
    assert ENCODED.count(old) >= 1
    return with_manifest(DATA, ENCODED.replace(old, new, count))


def key(name: str) -> bytes:
    return bytes(cbor2.dumps(name))


RAW: dict[str, tuple[Callable[[], bytes], str]] = {
    "an integer in a longer form": (
        lambda: raw(key("layer") + b"\0", key("layer") + b"\x18\0"),
        "",
    ),
    "a text in a longer form": (lambda: raw(key("small"), b"\x78\x05small"), ""),
    "a list of indefinite length": (
        lambda: raw(key("shape") + b"\x82\1\4", key("shape") + b"\x9f\1\4\xff"),
        "",
    ),
    "a map of indefinite length": (
        lambda: with_manifest(DATA, b"\xbf" + ENCODED[1:] + b"\xff"),
        "",
    ),
    "a text in pieces": (lambda: raw(key("small"), b"\x7f\x65small\xff"), ""),
    "a float in a longer form": (
        lambda: raw(
            b"\xf9" + cbor2.dumps(0.5, canonical=True)[1:], b"\xfb" + b"\x3f\xe0" + b"\0" * 6
        ),
        "paths[0]",
    ),
    "an f32 that fits f16": (lambda: raw(b"\xf9\x38\0", b"\xfa\x3f\0\0\0"), "paths[0]"),
    "a member twice": (lambda: raw(key("role"), key("name")), "slots[0]"),
    "members out of order": (
        lambda: raw(
            key("name") + key("stem") + key("layer") + b"\0",
            key("layer") + b"\0" + key("name") + key("stem"),
        ),
        "positions[0]",
    ),
    "a broken text": (lambda: raw(key("small"), b"\x65sm\xff\xfel"), "paths[0]"),
    "an overlong text": (lambda: raw(key("small"), b"\x65sma\xc0\x80"), "paths[0]"),
    "a surrogate": (lambda: raw(key("small"), b"\x65sm\xed\xa0\x80"), "paths[0]"),
    "a text cut in two": (lambda: raw(key("small"), b"\x65smal\xc3"), "paths[0]"),
    "bytes behind the manifest": (lambda: with_manifest(DATA, ENCODED + b"\0"), "manifest"),
    "a manifest cut short": (lambda: with_manifest(DATA, ENCODED[:-1]), "positions[2]"),
    "an empty map": (lambda: with_manifest(DATA, b"\xa0"), "manifest"),
    "a number": (lambda: with_manifest(DATA, b"\0"), "manifest"),
    "a table of 2^32 - 1 entries": (
        lambda: raw(key("slots") + b"\x83", key("slots") + b"\x9a\xff\xff\xff\xff"),
        "slots[0]",
    ),
    "a table of 2^64 - 1 entries": (
        lambda: raw(key("slots") + b"\x83", key("slots") + b"\x9b" + b"\xff" * 8),
        "slots[0]",
    ),
    "a table longer than the manifest": (
        lambda: raw(key("slots") + b"\x83", key("slots") + b"\x19\x10\0"),
        "slots[0]",
    ),
    "a map of 2^63 pairs": (
        lambda: raw(key("quality") + b"\xa1", key("quality") + b"\xbb\x80" + b"\0" * 7),
        "paths[0]",
    ),
    "a text of 2^64 - 1 bytes": (lambda: raw(key("small"), b"\x7b" + b"\xff" * 8 + b"small"), ""),
    "an array nested 10,000 deep": (
        lambda: raw(key("classes") + b"\2", key("classes") + b"\x81" * 10000 + b"\2"),
        "manifest",
    ),
    "a tag nested 10,000 deep": (
        lambda: raw(key("classes") + b"\2", key("classes") + b"\xc1" * 10000 + b"\2"),
        "manifest",
    ),
    "a map nested in a shape": (
        lambda: raw(key("shape") + b"\x82\1\4", key("shape") + b"\x82\xa0\4"),
        "slots[0]",
    ),
}


@pytest.mark.parametrize("rule", RAW)
def test_an_encoding_that_is_not_canonical_is_refused(reader: Reader, rule: str) -> None:
    build, place = RAW[rule]
    error = reader.error(build())
    assert error["code"] == "NST_E_CORRUPT", error
    assert error["section"].startswith(place), error


def test_bytes_that_no_constant_owns_must_be_zero(reader: Reader) -> None:
    core = MANIFEST.sections[SECTIONS["core"]]
    content = bytearray(DATA[core.offset : core.offset + core.size])
    assert content[70:128] == bytes(58)
    content[127] = 1
    answer = reader.open(with_section(DATA, SECTIONS["core"], bytes(content)))
    errors = answer["sections"]
    assert [error is None for error in errors] == [True, False, True]
    error = errors[SECTIONS["core"]]
    assert (error["code"], error["section"]) == ("NST_E_CORRUPT", "core")


def test_padding_between_sections_must_be_zero(reader: Reader) -> None:
    for section in MANIFEST.sections[1:]:
        data = bytearray(DATA)
        data[section.offset - 1] = 1
        error = reader.error(bytes(data))
        assert (error["code"], error["section"]) == ("NST_E_CORRUPT", section.name)


def test_the_room_for_a_signature_must_be_zero_without_one(reader: Reader) -> None:
    data = bytearray(DATA)
    data[manifest_end(DATA) + 5] = 1
    assert reader.error(bytes(data))["code"] == "NST_E_CORRUPT"


def test_one_constant_may_have_two_keys(reader: Reader) -> None:
    builder = tiny()
    first = builder.add_constant("core", "again", bytes(range(70)))
    assert first != CONSTANTS["w.core"]
    data, manifest = written(builder)
    assert "error" not in reader.open(data)
    places = {c.key: (c.section, c.offset, c.size) for c in manifest.constants}
    assert places["again"] == places["w.core"]


def test_a_section_that_differs_in_one_byte_is_named(reader: Reader) -> None:
    for number, section in enumerate(MANIFEST.sections):
        data = bytearray(DATA)
        data[section.offset + section.size // 2] ^= 0x10
        codes = [
            error and (error["code"], error["section"])
            for error in reader.open(bytes(data))["sections"]
        ]
        expected: list[tuple[str, str] | None] = [None] * len(codes)
        expected[number] = ("NST_E_HASH", section.name)
        assert codes == expected


def prefix(**changes: int) -> bytes:
    """The bundle with fields of the prefix changed."""
    fields = {
        "version": (8, 4),
        "signature": (12, 4),
        "manifest": (16, 8),
        "total": (24, 8),
    }
    data = bytearray(DATA)
    for name, value in changes.items():
        start, size = fields[name]
        data[start : start + size] = value.to_bytes(size, "little")
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "code", "expected", "actual"),
    [
        (prefix(version=3), "VERSION", 2, 3),
        (prefix(version=2**32 - 1), "VERSION", 2, 2**32 - 1),
        (prefix(version=0), "VERSION", 2, 0),
        (prefix(total=len(DATA) + 1), "TRUNCATED", len(DATA) + 1, len(DATA)),
        (prefix(total=2**64 - 1), "TRUNCATED", 2**64 - 1, len(DATA)),
        (DATA + b"\0", "CORRUPT", len(DATA), len(DATA) + 1),
        (DATA + DATA, "CORRUPT", len(DATA), 2 * len(DATA)),
        (prefix(manifest=2**64 - 1), "LIMIT", 64 << 20, 2**64 - 1),
        (prefix(manifest=(64 << 20) + 1), "LIMIT", 64 << 20, (64 << 20) + 1),
        (DATA[:63], "TRUNCATED", 64, 63),
        (DATA[:100], "TRUNCATED", len(DATA), 100),
        (b"", "TRUNCATED", 64, 0),
    ],
)
def test_the_prefix_is_checked_first(
    reader: Reader, data: bytes, code: str, expected: int, actual: int
) -> None:
    error = reader.error(data)
    assert (error["code"], error["section"]) == (f"NST_E_{code}", "prefix")
    assert (error["expected"], error["actual"]) == (expected, actual)


@pytest.mark.parametrize("size", [0, 65, len(DATA), 2**26])
def test_a_manifest_that_leaves_no_room_is_refused(reader: Reader, size: int) -> None:
    error = reader.error(prefix(manifest=size))
    assert error["code"] in ("NST_E_CORRUPT", "NST_E_HASH")


@pytest.mark.parametrize("size", [1, 83, 85, 2**32 - 1])
def test_a_signature_has_one_size(reader: Reader, size: int) -> None:
    assert reader.error(prefix(signature=size))["code"] == "NST_E_CORRUPT"


def test_a_signature_of_zeros_is_malformed(reader: Reader) -> None:
    error = reader.error(prefix(signature=84))
    assert (error["code"], error["section"]) == ("NST_E_SIGNATURE", "signature")


@pytest.mark.parametrize(
    "foreign",
    [
        b"PK\x03\x04" + DATA,
        b"\x7fELF" + bytes(200),
        b"%PDF-1.7\n" + DATA,
        DATA[1:],
        b"\0" * 64,
        b"ET12" * 40,
        b"GGUF\x03\0\0\0" + bytes(100),
        DATA.replace(b"\r\n", b"\n", 1),
        DATA.replace(b"\x1a", b"", 1),
    ],
)
def test_another_kind_of_file_is_called_foreign(reader: Reader, foreign: bytes) -> None:
    error = reader.error(foreign)
    assert error["code"] == "NST_E_FOREIGN"


def test_a_polyglot_has_no_place_to_hide(reader: Reader) -> None:
    """A zip archive is found from its end: bytes there, or in any padding, are refused."""
    archive = b"PK\x05\x06" + bytes(18)
    assert reader.error(DATA + archive)["code"] == "NST_E_CORRUPT"
    for section in MANIFEST.sections:
        start = section.offset - len(archive)
        data = DATA[:start] + archive + DATA[section.offset :]
        assert reader.error(data)["code"] == "NST_E_CORRUPT"


def test_a_damaged_manifest_is_named_before_it_is_read(reader: Reader) -> None:
    data = bytearray(DATA)
    data[100] ^= 1
    error = reader.error(bytes(data))
    assert (error["code"], error["section"]) == ("NST_E_HASH", "manifest")
    assert hashlib.sha256(data[64 : manifest_end(DATA)]).digest() != data[32:64]
