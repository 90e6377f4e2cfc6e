"""The noise of the diffusion recipe, and how a picture is drawn out of it: numpy, no torch.

Steps are numbered from the clearest, 0, to pure noise, `STEPS - 1`. The network says the velocity
`v = alpha * noise - sigma * picture` (Salimans and Ho, arXiv 2202.00512); steps follow DDIM (Song
et al., arXiv 2010.02502) without fresh noise, so that one start and one digit give one picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STEPS = 24

Picture = NDArray[np.float32]
Velocity = Callable[[Picture, int, int, str], Picture]
"""Called with noisy pixels (1, 1, 8, 8), the step, the digit and the path; returns velocities."""


@dataclass(frozen=True)
class StepPolicy:
    """Which path computes which step.

    Attributes:
        name: Of the policy.
        paths: A path for each step, by its number.
    """

    name: str
    paths: tuple[str, ...]


def levels(step: int) -> tuple[float, float]:
    """Return the shares (alpha, sigma) of picture and noise at a step; alpha^2 + sigma^2 = 1.

    A cosine (Nichol and Dhariwal, arXiv 2102.09672) that ends a little before nothing is left of
    the picture.
    """
    angle = 0.5 * math.pi * 0.98 * (step + 1) / STEPS
    return math.cos(angle), math.sin(angle)


def draw_picture(velocity: Velocity, policy: StepPolicy, digit: int, start: Picture) -> Picture:
    """Draw a digit from noise, (1, 1, 8, 8), step by step on the policy's paths.

    Returns:
        float32 (1, 1, 8, 8), from -1 to 1.
    """
    x = start
    for step in reversed(range(STEPS)):
        alpha, sigma = levels(step)
        v = velocity(x, step, digit, policy.paths[step])
        clean = np.clip(alpha * x - sigma * v, -1.0, 1.0)
        if step == 0:
            return clean.astype(np.float32)
        # The noise that agrees with the clipped picture.
        noise = (x - alpha * clean) / sigma
        next_alpha, next_sigma = levels(step - 1)
        x = (next_alpha * clean + next_sigma * noise).astype(np.float32)
    return x


def same_path(path: str) -> StepPolicy:
    """Return the policy of one path for all steps."""
    return StepPolicy(path, (path,) * STEPS)


def by_noise(name: str, noisy: str, clear: str, noisy_share: float) -> StepPolicy:
    """Return the policy that takes one path for the noisiest steps and another for the others."""
    first = round(STEPS * (1.0 - noisy_share))
    return StepPolicy(name, (clear,) * first + (noisy,) * (STEPS - first))


def every(name: str, whole: str, reuse: str, period: int) -> StepPolicy:
    """Return the policy that computes every `period`-th step whole and reuses between."""
    # The first step that is computed is the last one by number.
    chosen: Sequence[str] = [
        whole if (STEPS - 1 - step) % period == 0 else reuse for step in range(STEPS)
    ]
    return StepPolicy(name, tuple(chosen))
