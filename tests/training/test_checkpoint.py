"""Checkpoint files and random states."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from nestling.errors import TrainError
from nestling.training.checkpoint import (
    read_checkpoint,
    rng_state,
    seed_everything,
    set_rng_state,
    write_checkpoint,
)


def draw() -> tuple[float, ...]:
    return (
        float(torch.rand(1)),
        random.random(),
        random.gauss(0, 1),
        float(np.random.rand()),  # noqa: NPY002
        float(np.random.randn()),  # noqa: NPY002
    )


def test_random_states_survive_a_file(tmp_path: Path) -> None:
    seed_everything(3)
    # The Gaussians leave half a pair behind, which is state too.
    draw()
    write_checkpoint(tmp_path / "c.pt", {"rng": rng_state()})
    drawn = [draw() for _ in range(3)]
    seed_everything(4)
    set_rng_state(read_checkpoint(tmp_path / "c.pt")["rng"])
    assert [draw() for _ in range(3)] == drawn


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    write_checkpoint(path, {"step": 1})
    with pytest.raises(Exception, match="pickle"):
        write_checkpoint(path, {"step": 2, "bad": lambda: None})
    assert read_checkpoint(path)["step"] == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["c.pt"]


def test_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainError, match="cannot write"):
        write_checkpoint(tmp_path / "file" / "c.pt", {})


def test_other_versions_are_refused(tmp_path: Path) -> None:
    torch.save({"format": 2}, tmp_path / "new.pt")
    torch.save([1], tmp_path / "list.pt")
    for name in ("new.pt", "list.pt"):
        with pytest.raises(TrainError, match="no checkpoint of this version"):
            read_checkpoint(tmp_path / name)
