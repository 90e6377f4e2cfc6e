"""The tasks of the experts' demo on digits, and what judges drawn ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nestling.bench.digit_judge import frechet_distance
from nestling.recipes.digits import load_digits_split
from nestling.recipes.experts.digit_tasks import (
    OUTPUTS,
    TASKS,
    Task,
    draw_batch,
    held_out,
    spoil,
    task_quality,
    turn,
)


@given(count=st.integers(1, 6), seed=st.integers(0, 2**16))
@settings(max_examples=20, deadline=None)
def test_four_quarters_are_a_whole_turn(count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 1, 8, 8, generator=generator)
    quarters = torch.randint(4, (count,), generator=generator)
    there = turn(images, quarters)
    assert torch.equal(turn(there, (4 - quarters) % 4), images)
    for image, turned, quarter in zip(images, there, quarters, strict=True):
        assert torch.equal(turned, torch.rot90(image, int(quarter), (-2, -1)))


def test_half_of_the_patches_are_hidden() -> None:
    ink = torch.ones(400, 1, 8, 8)
    spoilt = spoil(ink, torch.Generator().manual_seed(0))
    patches = spoilt.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4).mean(-1)
    hidden = patches < 0.0
    assert 0.45 < hidden.float().mean() < 0.55
    # Noise everywhere, none of the ink below the hidden patches.
    assert abs(float(patches[hidden].mean()) + 1.0) < 0.02
    assert abs(float(patches[~hidden].mean()) - 1.0) < 0.02


@pytest.mark.parametrize("task", TASKS)
def test_answers_that_are_right_are_counted(task: Task) -> None:
    pixels, target = held_out(task)
    again = held_out(task)[0]
    assert torch.equal(pixels, again)
    right = target if task == "repair" else torch.eye(OUTPUTS[task])[target]
    assert task_quality(task, right, target) == 1.0
    wrong = target.mean(0).expand_as(target) if task == "repair" else right.roll(1, dims=-1)
    assert task_quality(task, wrong, target) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("task", TASKS)
def test_training_draws_the_same_batch_for_the_same_seed(task: Task) -> None:
    images, labels, _, _ = load_digits_split()
    first, second = (
        draw_batch(task, images, labels, 5, torch.Generator().manual_seed(3)) for _ in range(2)
    )
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    assert first[0].shape == (5, 1, 8, 8)


def test_frechet_distance_of_normal_distributions() -> None:
    # Of independent normal distributions it is known: squared means and squared deviations.
    draw = np.random.default_rng(0)
    base = draw.standard_normal((4000, 3))
    scale, shift = np.array([1.0, 2.0, 0.5]), np.array([0.0, 1.0, -2.0])
    measured = frechet_distance(base * scale + shift, base)
    spread = base.std(axis=0, ddof=1)
    wanted = np.square(base.mean(0) * (scale - 1.0) + shift).sum()
    wanted += np.square((scale - 1.0) * spread).sum()
    assert measured == pytest.approx(wanted, rel=0.02)
    assert frechet_distance(base, base) == pytest.approx(0.0, abs=1e-6)
