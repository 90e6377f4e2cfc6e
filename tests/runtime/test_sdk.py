"""The Python side: reading tables, choosing paths, finding the library."""

from __future__ import annotations

import ctypes
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from runtime.tiny_bundle import Artifacts, chain_of, tiny_builder
from runtime.tiny_model import BLOCKS, CLASSES, PATHS, Image

import nestling_runtime
from nestling.bundle import signing
from nestling_runtime import (
    BudgetPolicy,
    Bundle,
    Model,
    PathError,
    Session,
    SignatureError,
    abi,
    native,
)
from nestling_runtime.policy import CallbackPolicy, run_with


def test_c_finds_entries_by_name(model: Model) -> None:
    """The look-ups that C programs have, beside the tables that Python reads."""
    library = native.library()
    tables = {
        "path": model.bundle.paths,
        "stage": model.bundle.stages,
        "slot": model.bundle.slots,
        "position": model.bundle.positions,
    }
    for kind, entries in tables.items():
        count = getattr(library, f"nst_model_{kind}_count")
        count.restype, count.argtypes = ctypes.c_uint32, (ctypes.c_void_p,)
        assert count(model.handle) == len(entries) > 0
        assert count(None) == 0
        if kind == "position":
            continue
        find = getattr(library, f"nst_model_find_{kind}")
        find.restype, find.argtypes = ctypes.c_uint32, (ctypes.c_void_p, ctypes.c_char_p)
        found = [find(model.handle, entry.name.encode()) for entry in entries]
        assert found == list(range(len(entries)))
        for handle, name in ((model.handle, b"nothing"), (model.handle, None), (None, b"x")):
            assert find(handle, name) == abi.NONE


def test_tables_are_what_was_written(made: Artifacts, tiny_path: Path, model: Model) -> None:
    manifest, encoded = tiny_builder(made).build()
    with Bundle.open(tiny_path) as bundle, Bundle.open(tiny_path.read_bytes()) as in_memory:
        for tables in (bundle, in_memory, model.bundle):
            for field in ("name", "target", "scheme", "family", "producer", "meta"):
                assert getattr(tables, field) == getattr(manifest, field)
            assert tables.size_bytes == tiny_path.stat().st_size
            assert tables.manifest_bytes == len(encoded)
            assert not tables.is_signed
            for ours, theirs in (
                (tables.sections, manifest.sections),
                (tables.slots, manifest.slots),
                (tables.positions, manifest.positions),
                (tables.stages, manifest.stages),
                (tables.paths, manifest.paths),
                (tables.programs, manifest.programs),
                (tables.constants, manifest.constants),
            ):
                assert len(ours) == len(theirs)
            for stage, written in zip(tables.stages, manifest.stages, strict=True):
                assert sorted(stage.bindings) == sorted(written.bindings)
                assert (stage.name, stage.program) == (written.name, written.program)
                assert (stage.inputs, stage.outputs) == (written.inputs, written.outputs)
                assert (stage.first, stage.last) == (written.first, written.last)
                assert (stage.level, stage.bits) == (written.level, written.bits)
            assert [(path.name, path.chain, path.fused) for path in tables.paths] == [
                (path.name, path.chain, path.fused) for path in manifest.paths
            ]
            assert tables.paths[0].quality == pytest.approx(dict(manifest.paths[0].quality))
            assert [(slot.shape, slot.role) for slot in tables.slots] == [
                (slot.shape, slot.role) for slot in manifest.slots
            ]
            assert [section.sha256 for section in tables.sections] == [
                section.sha256 for section in manifest.sections
            ]
            assert [position.required for position in tables.positions] == [
                True,
                *[False] * BLOCKS,
                True,
            ]
            tables.check_sections()
            names = chain_of(PATHS["base"])
            assert tables.check_path(names) == tables.paths[1].chain
            with pytest.raises(SignatureError, match="not signed"):
                tables.check_signature(bytes(32))
            with pytest.raises(ValueError, match="32 bytes"):
                tables.check_signature(b"short")


def test_tables_outlive_a_closed_bundle(tiny_path: Path) -> None:
    bundle = Bundle.open(tiny_path)
    paths, stages = bundle.paths, bundle.stages
    bundle.close()
    bundle.close()
    assert bundle.paths is paths
    assert stages[0].name == "stem"


def test_budget_policy_steps_down_at_once_and_up_with_patience() -> None:
    policy = BudgetPolicy(3, minimum_stay_runs=4)
    for path, cost in ((0, 100.0), (1, 300.0), (2, 900.0)):
        assert policy.cost_us(path) is None
        policy.seed(path, cost)
        assert policy.cost_us(path) == pytest.approx(cost)
    chosen = []
    for _ in range(12):
        path = policy.choose(1200.0)
        chosen.append(path)
        policy.record(path, (100.0, 300.0, 900.0)[path])
    assert chosen[0] == 0
    assert chosen[-1] == 2
    assert policy.choose(400.0) == 1
    assert policy.choose(50.0) == 0
    assert policy.current == 0
    with pytest.raises(ValueError, match="no cost"):
        policy.record(7, 1.0)
    with pytest.raises(ValueError, match="out of its range"):
        BudgetPolicy(3, smoothing=0.0)
    with pytest.raises(ValueError, match="out of its range"):
        BudgetPolicy(0)


def test_a_policy_drives_a_session(session: Session, image: Image) -> None:
    asked: list[float] = []

    def largest_on_even_calls(deadline_us: float, costs: dict[int, float]) -> int:
        asked.append(deadline_us)
        return 2 if len(asked) % 2 == 0 else 0

    policy = CallbackPolicy(largest_on_even_calls)
    paths = []
    for _ in range(4):
        path, outputs = run_with(policy, session, 1000.0, image=image)
        paths.append(path)
        assert session.selection()[0] == list(PATHS)[path]
        assert outputs["logits"].shape == (1, CLASSES)
    assert paths == [0, 2, 0, 2]
    assert asked == [1000.0] * 4
    budget = BudgetPolicy(len(PATHS))
    path, _ = run_with(budget, session, 1e9, image=image)
    assert budget.cost_us(path) is not None


def test_signatures_are_checked(tiny_path: Path, tmp_path: Path) -> None:
    signed = tmp_path / "signed.nest"
    signed.write_bytes(tiny_path.read_bytes())
    signing.generate_keys(tmp_path / "private", tmp_path / "public")
    signing.sign(signed, tmp_path / "private")
    public_key = signing.load_public_key(tmp_path / "public").public_bytes_raw()
    with nestling_runtime.open(signed, threads=1) as model, Bundle.open(signed) as bundle:
        for tables in (model.bundle, bundle):
            assert tables.is_signed
            tables.check_signature(public_key)
            with pytest.raises(SignatureError):
                tables.check_signature(bytes(32))
        with model.session() as session:
            session.select("full")
            session.run_bound()


def test_errors_cross_processes() -> None:
    error = PathError("no such path", stage="stem", hint="look")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (PathError, str(error))


def in_process(program: str, library: Path | str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, native.LIBRARY_VARIABLE: str(library)},
    )
    return done.stdout


def test_a_library_that_is_missing_or_wrong_is_a_clear_error(tmp_path: Path) -> None:
    program = """
import nestling_runtime
try:
    nestling_runtime.version()
except nestling_runtime.EngineError as error:
    print(error)
"""
    assert "libnestling is not there" in in_process(program, tmp_path / "none.so")
    wrong = tmp_path / "wrong.so"
    wrong.write_bytes(b"not a library")
    assert "cannot load libnestling" in in_process(program, wrong)
    folder = native.executorch_library_folder()
    assert folder is not None
    assert "is of another version" in in_process(program, folder / "libexecutorch.so")


def test_versions_agree() -> None:
    from nestling import __version__

    assert native.version() == __version__


def test_arrays_of_other_layouts_are_made_contiguous(session: Session, image: Image) -> None:
    session.select("tiny")
    expected = session.run(image=image)["logits"]
    wide = np.zeros((1, 2 * image.shape[1]), np.float32)
    wide[:, ::2] = image
    np.testing.assert_array_equal(session.run(image=wide[:, ::2])["logits"], expected)
    np.testing.assert_array_equal(session.run(image=image[:, ::-1])["logits"].shape, (1, CLASSES))
