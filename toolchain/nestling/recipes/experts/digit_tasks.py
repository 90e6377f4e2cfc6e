"""Four tasks on the same scanned digits: which digit, odd or even, how it is turned, and repair."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from nestling.recipes.digits import distort, load_digits_split
from nestling.recipes.experts.patches import PATCH

Task = Literal["digit", "parity", "rotation", "repair"]
TASKS: tuple[Task, ...] = get_args(Task)
OUTPUTS: dict[Task, int] = {"digit": 10, "parity": 2, "rotation": 4, "repair": 64}
"""Numbers that a task's head gives: logits of classes, or the pixels of the whole image."""

QUARTERS = 4
PAPER = -1.0
HIDDEN_SHARE = 0.5
NOISE = 0.3
_HELD_OUT_SEED = 7


def make_batch(
    task: Task, images: Tensor, labels: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return what a task shows of images, and what it asks.

    Args:
        task: Which of them.
        images: float32, (samples, 1, 8, 8), from -1 (paper) to 1 (ink).
        labels: int64, (samples,), the digits.
        generator: Of the turns, the noise and the hidden patches.

    Returns:
        Pixels like `images`, and classes, int64 (samples,), or for `repair` the clean pixels,
        float32 (samples, 64).
    """
    if task == "digit":
        return images, labels
    if task == "parity":
        return images, labels % 2
    if task == "rotation":
        quarters = torch.randint(QUARTERS, (len(images),), generator=generator)
        return turn(images, quarters), quarters
    return spoil(images, generator), images.flatten(1)


def turn(images: Tensor, quarters: Tensor) -> Tensor:
    """Turn each image by its number of quarters, int64 (samples,), against the clock."""
    turned = torch.stack([torch.rot90(images, count, (-2, -1)) for count in range(QUARTERS)])
    chosen: Tensor = turned[quarters, torch.arange(len(images))]
    return chosen


def spoil(images: Tensor, generator: torch.Generator) -> Tensor:
    """Hide half of the patches of 2 x 2 pixels behind paper, and add noise to all pixels."""
    side = images.shape[-1] // PATCH
    drawn = torch.rand(len(images), 1, side, side, generator=generator)
    hidden = drawn < HIDDEN_SHARE
    hidden = hidden.repeat_interleave(PATCH, -2).repeat_interleave(PATCH, -1)
    noise = NOISE * torch.randn(images.shape, generator=generator)
    return torch.where(hidden, PAPER, images) + noise


def draw_batch(
    task: Task, images: Tensor, labels: Tensor, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw `count` training images, distort them a little and make them a task."""
    rows = torch.randint(len(images), (count,), generator=generator)
    pixels, digits = distort((images[rows], labels[rows]), generator)
    return make_batch(task, pixels, digits, generator)


def held_out(task: Task) -> tuple[Tensor, Tensor]:
    """Return held-out pixels and targets of a task; for `rotation`, every scan in all four turns.

    Returns:
        float32 (samples, 1, 8, 8), and targets as `make_batch` gives them.
    """
    _, _, images, labels = load_digits_split()
    generator = torch.Generator().manual_seed(_HELD_OUT_SEED)
    if task == "rotation":
        quarters = torch.arange(QUARTERS).repeat_interleave(len(images))
        return turn(images.repeat(QUARTERS, 1, 1, 1), quarters), quarters
    return make_batch(task, images, labels, generator)


def task_loss(task: Task, output: Tensor, target: Tensor) -> Tensor:
    """Return the mean loss: cross-entropy of classes, squared error of pixels."""
    if task == "repair":
        return F.mse_loss(output, target)
    return F.cross_entropy(output, target)


def task_quality(task: Task, output: Tensor, target: Tensor) -> float:
    """Return the share of right classes; for `repair` the share of the variance explained."""
    if task == "repair":
        error = (output - target).square().sum()
        return float(1.0 - error / (target - target.mean(0)).square().sum())
    return float((output.argmax(-1) == target).double().mean())
