"""Checkpoints: all that decides what the next step does, in one file that is whole or not there."""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nestling.errors import TrainError

FORMAT = 1


def rng_state() -> dict[str, Any]:
    """Return the state of every global random generator, as plain values and tensors."""
    generator = np.random.get_state(legacy=False)  # noqa: NPY002  the global one is what users call
    assert isinstance(generator, dict)
    state = generator["state"]
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
        "numpy": {
            "key": torch.from_numpy(state["key"].astype(np.int64)),
            "pos": int(state["pos"]),
            "has_gauss": int(generator["has_gauss"]),
            "gauss": float(generator["gauss"]),
        },
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Restore what `rng_state` returned."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    numbers = state["numpy"]
    np.random.set_state(  # noqa: NPY002
        (
            "MT19937",
            numbers["key"].numpy().astype(np.uint32),
            numbers["pos"],
            numbers["has_gauss"],
            numbers["gauss"],
        )
    )


def seed_everything(seed: int) -> None:
    """Seed the global generators of torch, Python and numpy."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write through a temporary file and a rename: a crash leaves the old checkpoint whole.

    Raises:
        TrainError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise TrainError(f"cannot write {path}: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except OSError as error:
        raise TrainError(f"cannot write {path}: {error.strerror}") from error
    finally:
        Path(name).unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # Else the rename itself may be lost with the power.
    finally:
        os.close(folder)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the state in a checkpoint; runs no code that the file may contain.

    Raises:
        TrainError: The file is not a whole checkpoint, or of another format version.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises some ten kinds for damaged files.
        raise TrainError(
            f"{path} is not a whole checkpoint", hint="remove it to start anew"
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        found = state.get("format") if isinstance(state, dict) else type(state).__name__
        raise TrainError(f"{path} is no checkpoint of this version", expected=FORMAT, actual=found)
    return state
