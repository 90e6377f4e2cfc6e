"""The builder: layout, sharing, order, and the file that it leaves."""

from __future__ import annotations

import hashlib
import stat
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from bundle.samples import builders, tiny, written
from core.server import Reader
from hypothesis import HealthCheck, given, settings

from nestling.bundle import BundleBuilder
from nestling.bundle.manifest import NAME_LIMIT_BYTES
from nestling.errors import BundleError


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(builder=builders())
def test_the_same_calls_give_the_same_bytes(builder: BundleBuilder) -> None:
    assert written(builder) == written(builder)


def test_every_section_starts_at_16_kib_and_has_its_hash() -> None:
    data, manifest = written(tiny())
    end = 0
    for section in manifest.sections:
        assert section.offset % 16384 == 0
        assert section.offset >= end
        end = section.offset + section.size
        assert hashlib.sha256(data[section.offset : end]).digest() == section.sha256
    assert end == len(data)


def test_items_start_at_64_bytes() -> None:
    _, manifest = written(tiny())
    assert all(item.offset % 64 == 0 for item in (*manifest.constants, *manifest.programs))


def test_equal_bytes_are_stored_once_a_section(reader: Reader) -> None:
    builder = tiny()
    before = len(written(builder)[0])
    for number in range(50):
        builder.add_constant("core", f"copy{number}", bytes(range(70)))
    data, manifest = written(builder)
    assert len(data) == before
    places = {(c.section, c.offset) for c in manifest.constants if c.size == 70}
    assert len(places) == 1
    assert "error" not in reader.open(data)


def test_one_key_with_equal_bytes_is_one_constant() -> None:
    builder = tiny()
    first = builder.add_constant("core", "w.core", bytes(range(70)))
    again = builder.add_constant("level2", "w.core", bytearray(range(70)))
    assert first == again
    _, manifest = written(builder)
    constant = next(c for c in manifest.constants if c.key == "w.core")
    assert manifest.sections[constant.section].name == "core"


def test_a_shared_constant_moves_to_the_section_declared_first(reader: Reader) -> None:
    builder = tiny()
    builder.add_constant("core", "w.more", b"\x07" * 40)
    data, manifest = written(builder)
    assert [section.name for section in manifest.sections] == ["programs", "core"]
    answer = reader.open(data)
    assert [entry["name"] for entry in answer["bundle"]["sections"]] == ["programs", "core"]


def test_one_program_may_have_two_methods(reader: Reader) -> None:
    builder = tiny()
    first = builder.add_program(b"two methods", "prefill")
    second = builder.add_program(b"two methods", "decode")
    assert first != second
    assert builder.add_program(b"two methods", "decode") == second
    data, manifest = written(builder)
    assert "error" not in reader.open(data)
    places = {p.method: (p.section, p.offset, p.size) for p in manifest.programs}
    assert places["prefill"] == places["decode"]


def test_a_packed_program_is_one_zlib_stream(reader: Reader) -> None:
    builder = tiny()
    pte = b"compressible " * 1000
    index = builder.add_program(pte, packed=True)
    assert builder.add_program(pte, packed=True) == index
    assert builder.add_program(pte) != index
    data, manifest = written(builder)
    assert "error" not in reader.open(data)
    packed, plain = manifest.programs[-2:]
    assert (packed.unpacked, plain.unpacked) == (len(pte), None)
    start = manifest.sections[packed.section].offset + packed.offset
    assert zlib.decompress(data[start : start + packed.size]) == pte


def test_paths_are_sorted_by_cost() -> None:
    _, manifest = written(tiny())
    assert [path.name for path in manifest.paths] == ["small", "full"]


def test_a_manifest_larger_than_a_section_boundary_moves_the_sections(reader: Reader) -> None:
    builder = tiny()
    for number in range(400):
        builder.add_slot(f"slot {number} with a rather long name", "f32", (number + 1,))
    data, manifest = written(builder)
    assert manifest.sections[0].offset > 16384
    assert "error" not in reader.open(data)


def test_the_boundary_itself_is_hit_exactly(reader: Reader) -> None:
    """Grow the manifest byte by byte over the border at which the first section moves."""
    offsets = set()
    base = tiny()
    base.meta["pad"] = ""
    room = 16384 - 64 - 84 - len(base.build()[1])
    for padding in range(room - 8, room + 4):
        builder = tiny()
        builder.meta["pad"] = "x" * padding
        data, manifest = written(builder)
        offsets.add(manifest.sections[0].offset)
        assert "error" not in reader.open(data)
    assert offsets == {16384, 32768}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda b: b.add_constant("core", "w.core", b"other"), "two constants have one key"),
        (lambda b: b.add_constant("core", "empty", b""), "no bytes"),
        (lambda b: b.add_constant("programs", "k", b"x"), "holds something else"),
        (lambda b: b.add_program(b"x", section="core"), "holds something else"),
        (lambda b: b.add_section("core", "blob", level=3), "another level"),
        (lambda b: b.add_data("core", b"x"), "there already"),
        (lambda b: b.add_constant("core", "w.shared", b"\x05" * 16, "f32", (4,)), "two layouts"),
    ],
)
def test_a_call_that_cannot_be_right_raises(
    spoil: Callable[[BundleBuilder], object], words: str
) -> None:
    with pytest.raises(BundleError, match=words):
        spoil(tiny())


def stage(builder: BundleBuilder, **changes: object) -> None:
    arguments = {"program": 0, "first": 0, "inputs": [0], "outputs": [1], **changes}
    builder.add_stage("another", **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda b: stage(b, program=9), "not there"),
        (lambda b: stage(b, bindings=[("w", 9)]), "not there"),
        (lambda b: stage(b, macs=-1), "does not fit"),
        (lambda b: stage(b, bits=2**32), "does not fit"),
        (lambda b: b.add_slot("", "f32", ()), "empty or too long"),
        (lambda b: b.add_slot("n" * (NAME_LIMIT_BYTES + 1), "f32", ()), "empty or too long"),
        (lambda b: b.add_slot("a\x00b", "f32", ()), "control character"),
        (lambda b: b.add_slot("\ud800", "f32", ()), "not valid text"),
        (lambda b: b.add_slot("x2", "f8", ()), "unknown value"),
        (lambda b: b.add_slot("x2", "f32", (), "both"), "unknown value"),
        (lambda b: b.add_path("p", [0], quality={"a": float("nan")}), "not finite"),
        (lambda b: b.meta.update(a=[]), "not a plain"),
        (lambda b: b.meta.update(a=2**64), "64 bits"),
        (lambda b: b.add_constant("core", "half", b"x", dtype="u8"), "but not both"),
        (
            lambda b: [
                b.add_section(f"s{i}") or b.add_constant(f"s{i}", f"k{i}", b"x") for i in range(300)
            ],
            "too long",
        ),
    ],
)
def test_what_the_format_cannot_hold_is_not_written(
    spoil: Callable[[BundleBuilder], object], words: str, tmp_path: Path
) -> None:
    builder = tiny()
    spoil(builder)
    with pytest.raises(BundleError, match=words):
        builder.write(tmp_path / "a.nest")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_builder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="at least one entry"):
        BundleBuilder(name="empty").write(tmp_path / "a.nest")


def test_the_file_replaces_an_old_one_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.nest"
    path.write_bytes(b"old")
    path.chmod(0o640)
    tiny().write(path)
    assert path.read_bytes()[:5] == b"\x89NEST"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.nest"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.nest"
    path.write_bytes(b"old")
    builder = tiny()
    builder.meta["bad"] = float("inf")
    with pytest.raises(BundleError):
        builder.write(path)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.nest"]


def test_a_missing_folder_is_an_ordinary_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        tiny().write(tmp_path / "none" / "a.nest")
