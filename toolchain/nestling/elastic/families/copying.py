"""Copying weights from modules of other libraries, hence untyped."""

from __future__ import annotations

from typing import Any

import torch


def copy_tensor(target: Any, source: Any) -> None:
    """Copy values; the shapes must be equal."""
    if target.shape != source.shape:
        raise ValueError(f"shapes differ: {tuple(target.shape)} and {tuple(source.shape)}")
    with torch.no_grad():
        target.copy_(source)


def copy_module(target: Any, source: Any) -> None:
    """Copy all parameters and buffers of a module with the same names."""
    target.load_state_dict(source.state_dict())


def copy_batch_norm(target: Any, source: Any) -> None:
    """Copy a batch norm; every level starts with the same statistics."""
    copy_tensor(target.weight, source.weight)
    copy_tensor(target.bias, source.bias)
    with torch.no_grad():
        if source.running_mean is not None and source.running_var is not None:
            target.running_mean.copy_(source.running_mean.expand_as(target.running_mean))
            target.running_var.copy_(source.running_var.expand_as(target.running_var))
