"""The placement search in C against trying every placement."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from nestling_runtime.errors import EngineError
from nestling_runtime.placement import search

# What cannot be: negative, infinite, not a number.
COSTS = st.floats(0, 1000, width=32) | st.sampled_from([-1.0, math.inf, math.nan])


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray | None]:  # type: ignore[type-arg]
    steps, targets = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    stages = draw(arrays.arrays(np.float64, (steps, targets), elements=COSTS))
    moves = draw(
        st.none() | arrays.arrays(np.float64, (steps - 1, targets, targets), elements=COSTS)
    )
    return stages, moves


def cost(
    stages: np.ndarray,  # type: ignore[type-arg]
    moves: np.ndarray | None,  # type: ignore[type-arg]
    choice: tuple[int, ...],
) -> float:
    """What a placement costs; infinite where a part of it is not possible."""
    parts = [stages[step, target] for step, target in enumerate(choice)]
    if moves is not None:
        parts += [moves[step, a, b] for step, (a, b) in enumerate(itertools.pairwise(choice))]
    return math.inf if any(not 0 <= part < math.inf for part in parts) else float(sum(parts))


@settings(max_examples=300, deadline=None)
@given(problem=problems())
def test_it_finds_what_trying_everything_finds(problem) -> None:  # type: ignore[no-untyped-def]
    stages, moves = problem
    steps, targets = stages.shape
    everything = [
        cost(stages, moves, choice) for choice in itertools.product(range(targets), repeat=steps)
    ]
    best = min(everything)
    if best == math.inf:
        with pytest.raises(EngineError, match="no target"):
            search(stages, moves)
        return
    choice, found = search(stages, moves)
    assert found == pytest.approx(best, rel=1e-12)
    assert cost(stages, moves, choice) == pytest.approx(best, rel=1e-12)


def test_a_long_path_over_all_targets() -> None:
    """4096 steps, 16 targets: it moves where moving pays, there and back."""
    steps, targets = 4096, 16
    stages = np.ones((steps, targets))
    stages[:, 0] = 0.5
    stages[1000:2000, 7] = 0.1
    moves = np.where(np.eye(targets, dtype=bool), 0.0, 10.0)[None].repeat(steps - 1, axis=0)
    choice, found = search(stages, moves)
    assert choice == (0,) * 1000 + (7,) * 1000 + (0,) * 2096
    assert found == pytest.approx(0.5 * 3096 + 0.1 * 1000 + 2 * 10)


@pytest.mark.parametrize("shape", [(1, 17), (4097, 1)])
def test_what_is_too_large_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="too many"):
        search(np.ones(shape))


@pytest.mark.parametrize(
    ("stages", "moves"), [((0, 2), None), ((3,), None), ((3, 2), (3, 2, 2)), ((3, 2), (2, 2))]
)
def test_arrays_that_do_not_fit_are_refused(
    stages: tuple[int, ...], moves: tuple[int, ...] | None
) -> None:
    with pytest.raises(ValueError, match="is \\["):
        search(np.ones(stages), None if moves is None else np.ones(moves))
