"""What the families that read tokens have in common."""

from __future__ import annotations

from torch import nn

from nestling.errors import ModelError

DEFAULT_WINDOW = 128
"""Positions of an exported program when nobody asks for a number."""


def initialise(module: nn.Module) -> None:
    """Draw the weights of a linear or embedding as GPT-2 and BERT do; for `Module.apply`."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


def choose_window(positions: int | None, longest: int, limit: str) -> int:
    """Return the window at export: as asked for, else `DEFAULT_WINDOW` or less.

    Args:
        positions: What was asked for.
        longest: The most that the model knows.
        limit: What limits it, for the error.

    Raises:
        ModelError: More was asked for than the model knows.
    """
    if positions is None:
        return min(DEFAULT_WINDOW, longest)
    if positions > longest:
        raise ModelError(
            f"the window is longer than the model's {limit}",
            expected=f"at most {longest}",
            actual=positions,
        )
    return positions
