"""Losses in which one subnet teaches another, or a teacher of the user's own does."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nestling.errors import TrainError


def distillation_loss(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0
) -> Tensor:
    """Return the divergence of the student's classes from the teacher's (Hinton, arXiv 1503.02531).

    ``T^2 * mean over rows of KL(softmax(teacher / T) || softmax(student / T))``. The factor keeps
    the size of the gradients when T changes. Its gradient is that of the soft-label cross entropy,
    less the constant entropy of the teacher, so the loss is 0 where the two agree.

    Args:
        student_logits: Float, shape (..., classes).
        teacher_logits: Same shape; no gradient flows into it.
        temperature: T, above 0; larger values also show the teacher's small probabilities.

    Returns:
        Scalar float32 tensor.

    Raises:
        TrainError: The shapes differ, or the temperature is not positive.
    """
    if student_logits.shape != teacher_logits.shape:
        raise TrainError(
            "teacher and student give different shapes",
            expected=tuple(teacher_logits.shape),
            actual=tuple(student_logits.shape),
        )
    if not temperature > 0.0:
        raise TrainError("the temperature must be positive", actual=temperature)
    # In float32 even under autocast: the tails of a half-precision softmax are what there is to
    # learn.
    student = F.log_softmax(student_logits.float() / temperature, dim=-1).flatten(0, -2)
    teacher = F.log_softmax(teacher_logits.detach().float() / temperature, dim=-1).flatten(0, -2)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


def blend(hard: Tensor, soft: Tensor, share: float) -> Tensor:
    """Return ``(1 - share) * hard + share * soft``, leaving out a term whose factor is 0."""
    if share <= 0.0:
        return hard
    if share >= 1.0:
        return soft
    return torch.lerp(hard.float(), soft, share)
