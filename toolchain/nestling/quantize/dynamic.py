"""Replace the linears of a module by integer ones."""

from __future__ import annotations

import copy

from torch import nn

from nestling.errors import ModelError
from nestling.quantize.linear import GroupQuantizedLinear, NibbleLinear, RowQuantizedLinear
from nestling.quantize.schemes import Scheme


def quantize_linears(module: nn.Module, scheme: Scheme, bits: int) -> nn.Module:
    """Return a copy of ``module`` whose ``nn.Linear`` layers are quantised; the rest stays float32.

    Args:
        module: in evaluation mode.
        scheme: one with dynamic activations.
        bits: precision to cut at, one of ``scheme.levels``.

    A group-wise scheme falls back to one scale a row where a layer's inputs do not divide by the
    group size, as they may not in the small blocks of a toy model.
    """
    if isinstance(module, nn.Linear):
        return _quantize(module, scheme, bits)
    result = copy.deepcopy(module)
    for name, child in list(result.named_modules()):
        if isinstance(child, nn.Linear):
            parent = result.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], _quantize(child, scheme, bits))
    return result


def require_linears(module: nn.Module, scheme: Scheme) -> None:
    """Refuse a model for which ``scheme`` would change nothing.

    Raises:
        ModelError: no linear layer in ``module``.
    """
    if not any(isinstance(child, nn.Linear) for child in module.modules()):
        convolutions = [n for n, c in module.named_modules() if isinstance(c, nn.Conv2d)]
        raise ModelError(
            f"scheme {scheme.name} quantises linear layers and the elastic blocks have none",
            module=convolutions[0] if convolutions else None,
            hint="use int8-static for convolutions",
        )


def _quantize(linear: nn.Linear, scheme: Scheme, bits: int) -> nn.Module:
    if scheme.bit_levels:
        return NibbleLinear(linear, bits)
    if scheme.group_size is not None and linear.in_features % scheme.group_size == 0:
        return GroupQuantizedLinear(linear, scheme.group_size)
    return RowQuantizedLinear.from_linear(linear, bits)
