"""The operator `nestling::experts`: the routed experts of one layer, which are not in the program.

A stage holds the norm, the router, the shared expert and the residual sum; its routed experts are
data of the bundle, loaded as they are needed. The kernel on the device asks the model's store for
them. What is here defines the operator for torch: by shape for tracing, and for eager runs by
looking the layer up among the experts that :func:`resident_experts` has made known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from nestling.errors import ModelError

_SCHEMA = "(Tensor hidden, Tensor scores, int layer"
_Library: Any = torch.library.Library
_library = _Library("nestling", "FRAGMENT")
_library.define(f"experts{_SCHEMA}) -> Tensor")
_library.define(f"experts.out{_SCHEMA}, *, Tensor(a!) out) -> Tensor(a!)")


class RoutedExperts(Protocol):
    """The experts of one layer, by whatever arithmetic."""

    def __call__(self, hidden: Tensor, scores: Tensor) -> Tensor:
        """Compute what :func:`experts` does."""
        ...

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one token."""
        ...


_resident: ContextVar[Sequence[RoutedExperts]] = ContextVar("resident experts", default=())


@contextmanager
def resident_experts(layers: Sequence[RoutedExperts]) -> Iterator[None]:
    """Make experts known to eager runs of the operator, by their place in ``layers``."""
    token = _resident.set(layers)
    try:
        yield
    finally:
        _resident.reset(token)


def experts(hidden: Tensor, scores: Tensor, layer: int) -> Tensor:
    """Send each token to its experts and sum what they give.

    Args:
        hidden: float32 (tokens, dim), the input of the experts.
        scores: float32 (tokens, experts), the router's logits.
        layer: number of the layer in the bundle's expert index.

    Returns:
        float32 (tokens, dim): for each token, over its chosen experts, weight times expert(hidden).
    """
    result: Tensor = torch.ops.nestling.experts(hidden, scores, layer)
    return result


def _find(layer: int) -> RoutedExperts:
    layers = _resident.get()
    if not 0 <= layer < len(layers):
        raise ModelError(
            "the operator nestling::experts has no such layer here",
            expected=f"0..{len(layers) - 1}" if layers else "experts made known before",
            actual=layer,
            hint="run the stage inside resident_experts(...)",
        )
    return layers[layer]


def _eager(hidden: Tensor, scores: Tensor, layer: int) -> Tensor:
    return _find(layer)(hidden, scores)


def _shape(hidden: Tensor, scores: Tensor, layer: int) -> Tensor:
    return torch.empty_like(hidden)


def _out(hidden: Tensor, scores: Tensor, layer: int, *, out: Tensor) -> Tensor:
    return out.copy_(_eager(hidden, scores, layer))


_library.impl("experts", _eager, "CompositeExplicitAutograd")
_library.impl("experts.out", _out, "CompositeExplicitAutograd")
torch.library.register_fake("nestling::experts", _shape, lib=_library)


@register_flop_formula(torch.ops.nestling.experts)
def _flops(
    hidden: torch.Size, scores: torch.Size, layer: int, *rest: object, **named: object
) -> int:
    """Count those of the experts that are known; a program that is lowered alone has none."""
    known = _resident.get()
    return 2 * hidden[0] * known[layer].macs if layer < len(known) else 0
