"""How the demo's networks see a scan: in patches, on streams of one width."""

from __future__ import annotations

from torch import Tensor

SIDE = 8
"""Pixels of a scan's side."""

PATCH = 2
"""Pixels of a patch's side."""

PATCHES = (SIDE // PATCH) ** 2

DIM = 64
"""Width of the stream."""

HEADS = 4


def join_patches(patches: Tensor) -> Tensor:
    """Put the pixels of patches in their places.

    Args:
        patches: (batch, patches, pixels of a patch), both by row.

    Returns:
        (batch, side, side).
    """
    rows = SIDE // PATCH
    pixels = patches.reshape(-1, rows, rows, PATCH, PATCH).permute(0, 1, 3, 2, 4)
    return pixels.reshape(-1, SIDE, SIDE)
