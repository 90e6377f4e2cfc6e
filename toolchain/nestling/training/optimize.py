"""The optimiser and its learning rate."""

from __future__ import annotations

import math

import torch
from torch import nn

from nestling.errors import TrainError
from nestling.training.config import TrainConfig


def make_optimizer(
    model: nn.Module, config: TrainConfig, device: torch.device
) -> torch.optim.Optimizer:
    """Return AdamW whose weight decay leaves norms, biases and other vectors alone."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise TrainError("the model has no parameter to train")
    groups = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    fused = device.type in ("cpu", "cuda")
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.lr,
        betas=(config.betas[0], config.betas[1]),
        fused=fused,
    )


def learning_rate(config: TrainConfig, step: int) -> float:
    """Return the rate of `step` (0-based): a linear rise over `warmup` steps, then half a cosine.

    A function of the step alone, so a resumed run needs no scheduler state.
    """
    if step < config.warmup:
        return config.lr * (step + 1) / (config.warmup + 1)
    left = max(1, config.steps - config.warmup)
    cosine = 0.5 * (1.0 + math.cos(math.pi * (step - config.warmup) / left))
    return config.lr * (config.final_lr_share + (1.0 - config.final_lr_share) * cosine)
