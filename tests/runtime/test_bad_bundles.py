"""Bundles that are damaged, foreign or lie: one clear error, and what runs goes on running."""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from runtime.tiny_bundle import Artifacts, tiny_builder
from runtime.tiny_model import CLASSES, INPUT_UNITS, Image, Lowered

import nestling_runtime
from nestling.bundle.writer import BundleBuilder
from nestling_runtime import Bundle, BundleError, EngineError, NestlingError, TargetError


def opens(path: Path) -> None:
    """Open, load and run everything."""
    with nestling_runtime.open(path, threads=1) as model, model.session() as session:
        for name in model.path_names:
            for mode in ("chain", "fused"):
                session.select(name, mode=mode)  # type: ignore[arg-type]
                session.run_bound()


@pytest.fixture
def running(tiny_path: Path, image: Image) -> nestling_runtime.Session:
    """A session that must not be disturbed; its results are compared afterwards."""
    model = nestling_runtime.open(tiny_path, threads=1)
    session = model.session()
    session.select("full")
    session.expected = session.run(image=image)["logits"]  # type: ignore[attr-defined]
    yield session
    np.testing.assert_array_equal(session.run(image=image)["logits"], session.expected)  # type: ignore[attr-defined]
    model.close()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("empty", "ends before|empty|fewer|short|cut"),
        ("text", "not a nestling bundle|magic|foreign"),
        ("newer", "newer|version"),
        ("cut in the manifest", "cut|fewer|short|ends"),
        ("cut in the last section", "cut|fewer|short|ends"),
        ("too long", "longer|more|trailing|bytes"),
        ("manifest edited", "not those that were written"),
        ("other target", "target"),
    ],
)
def test_bad_files(
    running: nestling_runtime.Session,
    made: Artifacts,
    tiny_path: Path,
    tmp_path: Path,
    name: str,
    reason: str,
) -> None:
    good = tiny_path.read_bytes()
    bad = tmp_path / "bad.nest"
    if name == "other target":
        tiny_builder(made, target="hexagon").write(bad)
    else:
        bad.write_bytes(
            {
                "empty": b"",
                "text": b"hello, I am not a bundle\n" * 10,
                "newer": good[:8] + struct.pack("<I", 3) + good[12:],
                "cut in the manifest": good[:300],
                "cut in the last section": good[:-1],
                "too long": good + b"\0",
                "manifest edited": good[:200] + bytes([good[200] ^ 1]) + good[201:],
            }[name]
        )
    kind = TargetError if name == "other target" else BundleError
    with pytest.raises(kind, match=f"(?i){reason}"):
        nestling_runtime.open(bad)
    if name != "other target":
        with pytest.raises(BundleError):
            Bundle.open(bad)
        with pytest.raises(BundleError):
            nestling_runtime.open(bad.read_bytes() or b"\0")


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="No such file"):
        nestling_runtime.open(tmp_path / "nothing.nest")
    with pytest.raises(BundleError, match="not a regular file"):
        nestling_runtime.open(tmp_path)


def test_every_section_is_checked_before_it_is_used(
    running: nestling_runtime.Session, tiny_path: Path, tmp_path: Path
) -> None:
    good = tiny_path.read_bytes()
    with Bundle.open(tiny_path) as bundle:
        sections = bundle.sections
    for section in sections:
        at = section.offset_bytes + section.size_bytes // 2
        bad = tmp_path / f"{section.name}.nest"
        bad.write_bytes(good[:at] + bytes([good[at] ^ 0x40]) + good[at + 1 :])
        with pytest.raises(BundleError, match=f"section {section.name}"):
            opens(bad)
        with pytest.raises(BundleError, match=f"section {section.name}"):
            nestling_runtime.open(bad, verify_all=True)
        with Bundle.open(bad) as bundle, pytest.raises(BundleError, match=section.name):
            bundle.check_sections()


def test_a_damaged_level_leaves_smaller_paths_usable(
    tiny_path: Path, tmp_path: Path, image: Image
) -> None:
    good = tiny_path.read_bytes()
    with Bundle.open(tiny_path) as bundle:
        level3 = next(section for section in bundle.sections if section.name == "level3")
    bad = tmp_path / "bad.nest"
    at = level3.offset_bytes
    bad.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
    with nestling_runtime.open(bad, threads=1) as model, model.session() as session:
        session.select("base", mode="chain")
        expected = session.run(image=image)["logits"]
        with pytest.raises(BundleError, match="level3"):
            session.select("full", mode="chain")
        assert session.selection()[0] == "base"
        np.testing.assert_array_equal(session.run(image=image)["logits"], expected)
        assert model.memory().stages_pinned == 5


def rebuilt(made: Artifacts, stage: str, change: dict[str, object]) -> Artifacts:
    """The artifacts with one stage changed."""
    old = made.stages[stage]
    new = Lowered(
        pte=change.get("pte", old.pte),  # type: ignore[arg-type]
        weights=change.get("weights", old.weights),  # type: ignore[arg-type]
        arena_bytes=change.get("arena_bytes", old.arena_bytes),  # type: ignore[arg-type]
    )
    return Artifacts({**made.stages, stage: new}, made.dense)


@pytest.mark.parametrize("which", ["delegate", "method"])
def test_a_constant_that_is_not_bound(
    running: nestling_runtime.Session, made: Artifacts, tmp_path: Path, which: str
) -> None:
    """Stock ExecuTorch crashes here; it must not be asked for what is not there."""
    weights = dict(made.stages["block1.w2"].weights)
    names = [name for name, weight in weights.items() if bool(weight.dtype) == (which == "method")]
    missing = names[0]
    del weights[missing]
    path = tmp_path / "unbound.nest"
    tiny_builder(rebuilt(made, "block1.w2", {"weights": weights})).write(path)
    with nestling_runtime.open(path, threads=1) as model, model.session() as session:
        session.select("tiny", mode="chain")
        with pytest.raises(BundleError, match=f"asks for the constant {missing[:20]}") as error:
            session.select("base", mode="chain")
        assert error.value.stage == "block1.w2"
        session.select("full", mode="chain")
        session.run_bound()


def test_a_program_that_is_no_program(
    running: nestling_runtime.Session, made: Artifacts, tmp_path: Path
) -> None:
    for number, pte in enumerate((b"nonsense" * 40, made.stages["head"].pte[:300], b"\0" * 200)):
        path = tmp_path / f"{number}.nest"
        tiny_builder(rebuilt(made, "stem", {"pte": pte})).write(path)
        with pytest.raises(EngineError) as error:
            opens(path)
        assert error.value.stage == "stem"


def test_a_program_with_other_arguments(
    running: nestling_runtime.Session, made: Artifacts, tmp_path: Path
) -> None:
    path = tmp_path / "swapped.nest"
    head = made.stages["head"]
    tiny_builder(rebuilt(made, "stem", {"pte": head.pte, "weights": head.weights})).write(path)
    with pytest.raises(BundleError, match="takes 1 inputs and gives 1 outputs"):
        opens(path)
    tiny_builder(rebuilt(made, "head", {"pte": made.stages["fused.tiny"].pte})).write(path)
    with pytest.raises(BundleError, match="disagree on the slot x"):
        opens(path)


def test_an_arena_that_was_promised_too_small(made: Artifacts, tmp_path: Path) -> None:
    path = tmp_path / "arena.nest"
    changed = Artifacts(
        {name: Lowered(lowered.pte, lowered.weights, 0) for name, lowered in made.stages.items()},
        made.dense,
    )
    tiny_builder(changed).write(path)
    opens(path)


def test_one_name_for_two_weights_in_one_bundle(made: Artifacts, tmp_path: Path) -> None:
    """XNNPACK's cache knows weights by name alone; two meanings would crash it."""
    builder = BundleBuilder(name="twice")
    image = builder.add_slot("image", "f32", (1, INPUT_UNITS), "input")
    out = builder.add_slot("logits", "f32", (1, CLASSES), "output")
    builder.add_position("all", 0, True)
    first = builder.add_constant("core", "first", b"\1" * 64)
    second = builder.add_constant("core", "second", b"\2" * 64)
    program = builder.add_program(made.stages["head"].pte)
    stages = [
        builder.add_stage(
            name,
            program=program,
            first=0,
            inputs=[image],
            outputs=[out],
            bindings=[("weight", constant)],
        )
        for name, constant in (("a", first), ("b", second))
    ]
    builder.add_path("one", stages[:1])
    builder.write(tmp_path / "twice.nest")
    with pytest.raises(BundleError, match="the weight weight means two constants"):
        nestling_runtime.open(tmp_path / "twice.nest")


def test_one_name_for_two_weights_in_two_bundles(
    running: nestling_runtime.Session, made: Artifacts, tmp_path: Path
) -> None:
    stem = made.stages["stem"]
    name = next(iter(stem.weights))
    weight = stem.weights[name]
    other = bytearray(weight.data)
    other[5] ^= 1
    changed = {
        key: {k: type(w)(bytes(other)) if k == name else w for k, w in lowered.weights.items()}
        for key, lowered in made.stages.items()
    }
    twisted = Artifacts(
        {
            key: Lowered(lowered.pte, changed[key], lowered.arena_bytes)
            for key, lowered in made.stages.items()
        },
        made.dense,
    )
    path = tmp_path / "twisted.nest"
    tiny_builder(twisted).write(path)
    with pytest.raises(EngineError, match="another open model means other bytes by the weight"):
        opens(path)


def test_opened_twice_shares_and_stays_right(
    running: nestling_runtime.Session, tiny_path: Path, tmp_path: Path, image: Image
) -> None:
    copy = tmp_path / "copy.nest"
    shutil.copy(tiny_path, copy)
    for path in (tiny_path, copy):
        with nestling_runtime.open(path, threads=1) as model, model.session() as session:
            session.select("full")
            np.testing.assert_array_equal(
                session.run(image=image)["logits"],
                running.expected,  # type: ignore[attr-defined]
            )


@pytest.mark.parametrize("how", ["deleted", "replaced", "overwritten", "cut to nothing"])
def test_the_file_changes_while_it_is_open(
    tiny_path: Path, tmp_path: Path, image: Image, how: str
) -> None:
    path = tmp_path / "changing.nest"
    shutil.copy(tiny_path, path)
    with nestling_runtime.open(path, threads=1) as model, model.session() as session:
        session.select("tiny", mode="chain")
        expected = session.run(image=image)["logits"]
        if how == "deleted":
            path.unlink()
        elif how == "replaced":
            (tmp_path / "other").write_bytes(b"something else")
            (tmp_path / "other").replace(path)
        elif how == "overwritten":
            with path.open("r+b") as file:
                file.write(b"\xff" * tiny_path.stat().st_size)
        else:
            os.truncate(path, 0)
        # What is loaded runs on, and a path that has to be loaded loads or says why not.
        np.testing.assert_array_equal(session.run(image=image)["logits"], expected)
        assert [stage.name for stage in model.bundle.stages][:2] == ["stem", "block0.w1"]
        if how in ("deleted", "replaced"):
            session.select("full", mode="chain")
            session.run(image=image)
        else:
            reason = (
                "not those that were written"
                if how == "overwritten"
                else "was cut while it was open"
            )
            with pytest.raises(BundleError, match=reason):
                session.select("full", mode="chain")
            np.testing.assert_array_equal(session.run(image=image)["logits"], expected)
        with pytest.raises(NestlingError) if how != "deleted" else pytest.raises(BundleError):
            nestling_runtime.open(path)


def test_from_descriptor_with_offset_and_from_memory(
    tiny_path: Path, tmp_path: Path, image: Image
) -> None:
    good = tiny_path.read_bytes()
    with nestling_runtime.open(tiny_path, threads=1) as model, model.session() as session:
        session.select("full")
        expected = session.run(image=image)["logits"]
    with nestling_runtime.open(good, threads=1) as model, model.session() as session:
        session.select("full")
        np.testing.assert_array_equal(session.run(image=image)["logits"], expected)
    for offset in (0, 4096, 64, 1, 12345):
        archive = tmp_path / f"archive{offset}"
        archive.write_bytes(b"x" * offset + good + b"tail")
        descriptor = os.open(archive, os.O_RDONLY)
        model = nestling_runtime.open(
            descriptor, threads=1, offset_bytes=offset, length_bytes=len(good)
        )
        os.close(descriptor)
        with model, model.session() as session:
            for mode in ("fused", "chain"):
                session.select("full", mode=mode)  # type: ignore[arg-type]
                np.testing.assert_array_equal(session.run(image=image)["logits"], expected)
    descriptor = os.open(tmp_path / "archive64", os.O_RDONLY)
    with pytest.raises(BundleError, match="ends before the bundle does"):
        nestling_runtime.open(descriptor, offset_bytes=64, length_bytes=len(good) + 100)
    with pytest.raises(BundleError):
        nestling_runtime.open(descriptor, offset_bytes=64)
    os.close(descriptor)
    with pytest.raises(BundleError, match="descriptor"):
        nestling_runtime.open(descriptor)
