"""Activations by the names that model configurations use."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from nestling.errors import ModelError

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "gelu_new": lambda: nn.GELU(approximate="tanh"),
    "gelu_pytorch_tanh": lambda: nn.GELU(approximate="tanh"),
    "hardswish": nn.Hardswish,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "silu": nn.SiLU,
    "swish": nn.SiLU,
    "tanh": nn.Tanh,
}


def activation_module(name: str) -> nn.Module:
    """Return a new activation module.

    Raises:
        ModelError: The name is not known.
    """
    if name not in _ACTIVATIONS:
        raise ModelError(
            "unknown activation", expected=", ".join(sorted(_ACTIVATIONS)), actual=name
        )
    return _ACTIVATIONS[name]()
