"""The distillation loss against its formula, written out in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nestling.errors import TrainError
from nestling.training import blend, distillation_loss


def by_formula(student: np.ndarray, teacher: np.ndarray, temperature: float) -> float:
    def softmax(logits: np.ndarray) -> np.ndarray:
        powers = np.exp((logits - logits.max(-1, keepdims=True)) / temperature)
        return powers / powers.sum(-1, keepdims=True)

    p, q = softmax(teacher), softmax(student)
    return float(temperature**2 * (p * (np.log(p) - np.log(q))).sum(-1).mean())


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    shape=st.sampled_from([(1, 2), (5, 10), (2, 3, 7)]),
    temperature=st.floats(0.5, 8.0),
)
def test_equals_the_formula(seed: int, shape: tuple[int, ...], temperature: float) -> None:
    rng = np.random.default_rng(seed)
    student, teacher = rng.normal(0, 3, shape), rng.normal(0, 3, shape)
    loss = distillation_loss(torch.from_numpy(student), torch.from_numpy(teacher), temperature)
    assert loss.item() == pytest.approx(
        by_formula(student, teacher, temperature), rel=1e-4, abs=1e-5
    )


def test_is_zero_where_they_agree_and_teaches_nothing_back() -> None:
    student = torch.randn(4, 10, requires_grad=True)
    teacher = student.detach().clone().requires_grad_()
    loss = distillation_loss(student, teacher, 2.0)
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    assert teacher.grad is None and student.grad is not None


def test_gradient_is_that_of_soft_cross_entropy() -> None:
    student, teacher = torch.randn(6, 5), torch.randn(6, 5)
    ours, theirs = student.clone().requires_grad_(), student.clone().requires_grad_()
    distillation_loss(ours, teacher).backward()
    torch.nn.functional.cross_entropy(theirs, teacher.softmax(-1)).backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_blend() -> None:
    hard, soft = torch.tensor(1.0), torch.tensor(3.0)
    assert [float(blend(hard, soft, share)) for share in (0.0, 0.25, 1.0)] == [1.0, 1.5, 3.0]


def test_misuse_is_refused() -> None:
    with pytest.raises(TrainError, match="shapes"):
        distillation_loss(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(TrainError, match="temperature"):
        distillation_loss(torch.zeros(2, 3), torch.zeros(2, 3), 0.0)
