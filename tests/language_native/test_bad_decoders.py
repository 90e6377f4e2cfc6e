"""A bundle whose decoder does not hang together is an error when the decoder is made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bundle.samples import Edit, edited
from language_native.tiny_decoder import SHAPE

import nestling_runtime
from nestling_runtime import PathError

ROWS, VERIFY = SHAPE.rows, SHAPE.verify


def slots_of(edit: Callable[[dict[str, dict[str, Any]]], None]) -> Edit:
    """An edit of the manifest that edits its slots, by name."""
    return lambda manifest: edit({slot["name"]: slot for slot in manifest["slots"]})


def swap_logits(slots: dict[str, dict[str, Any]]) -> None:
    """The logits of one token where those of a draft belong."""
    one, several = slots["logits"], slots[f"logits.t{VERIFY}"]
    one["name"], several["name"] = several["name"], one["name"]


def hide_logits(slots: dict[str, dict[str, Any]]) -> None:
    """No logits for the path that verifies."""
    slots[f"logits.t{VERIFY}"]["name"] = "others"


def long_run(slots: dict[str, dict[str, Any]]) -> None:
    """A run of more tokens than the caches have rows."""
    for kind in ("tokens", "row"):
        slots[f"{kind}.t{VERIFY}"]["name"] = f"{kind}.t{ROWS}"
    slots[f"tokens.t{VERIFY}"]["shape"] = [1, ROWS]


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (swap_logits, "holds no decoder"),
        (hide_logits, "lacks the slots of the path"),
        (long_run, "takes as many tokens as the caches hold"),
    ],
)
def test_decoders_that_do_not_hang_together(
    bundle: Path, edit: Callable[[dict[str, dict[str, Any]]], None], says: str
) -> None:
    data = edited(bundle.read_bytes(), slots_of(edit))
    with nestling_runtime.open(data, threads=1) as model, pytest.raises(PathError, match=says):
        model.decoder()
