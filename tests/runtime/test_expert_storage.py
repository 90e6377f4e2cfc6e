"""Experts on storage that is damaged, cut, removed or slow: one run ends, others go on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from runtime.expert_bundle import expert_builder
from runtime.expert_cases import Case, close, experts_of
from runtime.expert_samples import ExpertLayer, Floats, sections

import nestling_runtime
from nestling_runtime import Bundle, BundleError, Model


@pytest.fixture(scope="module")
def model(nibbles: Case) -> Iterator[Model]:
    with nestling_runtime.open(nibbles.path, threads=1) as opened:
        yield opened


def place_of(path: Path, section: str) -> tuple[int, int]:
    """Where a section lies in its file."""
    with Bundle.open(path) as bundle:
        found = next(part for part in bundle.sections if part.name == section)
        return found.offset_bytes, found.size_bytes


@pytest.fixture
def copy(nibbles: Case, tmp_path: Path) -> Path:
    path = tmp_path / "copy.nest"
    path.write_bytes(nibbles.path.read_bytes())
    return path


def scores_for(experts: Sequence[int]) -> Floats:
    """Scores by which layer 0 chooses these two."""
    scores = np.full((1, 6), -5.0, np.float32)
    scores[0, list(experts)] = 1.0, 0.5
    return scores


def test_a_wrong_checksum_stops_the_run_that_needs_it(nibbles: Case, copy: Path) -> None:
    start, _ = place_of(copy, "experts.0")
    with nestling_runtime.open(copy, threads=1) as model, model.session() as one:
        with copy.open("r+b") as file:  # expert 0 of layer 0
            file.seek(start + 100)
            byte = file.read(1)[0]
            file.seek(start + 100)
            file.write(bytes([byte ^ 1]))
        one.select("t1")
        bad = {**nibbles.inputs(1), "scores0.t1": scores_for((0, 1))}
        good = {**nibbles.inputs(1), "scores0.t1": scores_for((2, 3))}
        with pytest.raises(BundleError, match="expert 0 of layer 0: its bytes are not") as error:
            one.run(**bad)
        assert error.value.section == "experts.0"
        assert error.value.stage == "layer0.t1"
        with model.session() as other:
            other.select("t1")
            close(
                other.run(**good)["y0.t1"],
                nibbles.layers[0].forward(good["x.t1"], good["scores0.t1"]),
            )
        assert experts_of(model).statistics().failed_loads == 1
        with pytest.raises(BundleError, match="expert 0 of layer 0"):
            one.run(**bad)
        with copy.open("r+b") as file:  # mended: the next run finds it
            file.seek(start + 100)
            file.write(bytes([byte]))
        close(one.run(**bad)["y0.t1"], nibbles.layers[0].forward(bad["x.t1"], bad["scores0.t1"]))


def test_a_file_that_is_cut_stops_the_runs_that_need_it(nibbles: Case, copy: Path) -> None:
    start, _ = place_of(copy, "experts.1")
    with nestling_runtime.open(copy, threads=1) as model, model.session() as session:
        session.select("t1")
        good = {**nibbles.inputs(1), "scores0.t1": scores_for((0, 1))}
        resident = session.run(**good)
        os.truncate(copy, start + 100)
        again = session.run(**good)  # all of it is in memory
        np.testing.assert_array_equal(again["y1.t1"], resident["y1.t1"])
        with pytest.raises(BundleError, match=r"expert 2 of layer 0: .* was cut") as error:
            session.run(**{**good, "scores0.t1": scores_for((2, 3))})
        assert error.value.section == "experts.1"
        np.testing.assert_array_equal(session.run(**good)["y1.t1"], resident["y1.t1"])
        # Half of each is still there.
        experts_of(model).configure(on_miss="low_bits", predictor="none")
        four = session.run(**{**good, "scores0.t1": scores_for((2, 3))})["y0.t1"]
        close(four, nibbles.layers[0].forward(good["x.t1"], scores_for((2, 3)), bits=4))


def test_a_removed_file_goes_on(nibbles: Case, copy: Path) -> None:
    with nestling_runtime.open(copy, threads=1) as model, model.session() as session:
        copy.unlink()
        close(nibbles.run(session, 6), nibbles.expected(6))


def test_a_slow_disk_stops_the_run_in_time_and_says_what_to_do(
    nibbles: Case, model: Model, wanted: dict[tuple[int, int], Floats]
) -> None:
    experts = experts_of(model)
    experts.configure(storage_latency_us=5_000_000, timeout_us=1000, predictor="none")
    with model.session() as session:
        with pytest.raises(BundleError, match="not read in time; allow a longer") as error:
            nibbles.run(session, 1)
        assert error.value.stage == "layer0.t1"
        assert experts.statistics().timeouts == 1
        experts.configure()
        np.testing.assert_array_equal(nibbles.run(session, 1), wanted[1, 0])


def test_bytes_in_memory_are_experts_too(
    nibbles: Case, wanted: dict[tuple[int, int], Floats]
) -> None:
    data = nibbles.path.read_bytes()
    with nestling_runtime.open(data, threads=1) as model, model.session() as session:
        np.testing.assert_array_equal(nibbles.run(session, 6), wanted[6, 0])


def test_a_damaged_index_is_refused_when_the_bundle_is_opened(
    nibbles: Case, copy: Path, tmp_path: Path
) -> None:
    start, _ = place_of(copy, "experts")
    with copy.open("r+b") as file:
        file.seek(start + 70)
        file.write(b"\xff")
    with pytest.raises(BundleError, match="not those that were written") as error:
        nestling_runtime.open(copy)
    assert error.value.section == "experts"
    # A writer who lies: hashes are right, the index is not.
    parts = sections(nibbles.layers)
    parts["experts"] = parts["experts"][:64] + b"\0\0\0\0" + parts["experts"][68:]
    path = tmp_path / "lies.nest"
    expert_builder(nibbles.layers, (1,), parts).write(path)
    with pytest.raises(BundleError, match="layer 0: its sizes are 0"):
        nestling_runtime.open(path)


def test_a_stage_that_fits_no_layer_is_refused(nibbles: Case, tmp_path: Path) -> None:
    path = tmp_path / "other.nest"
    expert_builder(nibbles.layers, (1,), sections([ExpertLayer(dim=16), ExpertLayer()])).write(path)
    with nestling_runtime.open(path, threads=1) as model, model.session() as session:
        session.select("t1")
        with pytest.raises(BundleError, match="differ in their sizes") as error:
            session.run(**nibbles.inputs(1))
        assert error.value.stage == "layer0.t1"
