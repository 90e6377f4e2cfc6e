"""The backend's reference operators, with the sign of their products set right.

Executed as they are, quantised linears, matrix products and ReLUs are far off, and the quantiser
looks guilty: a linear with outputs up to 2.0 has an error of 3.6. It is not; before operators are
fused, the quantised module is right within a step. The reference operators compute::

    out_scale = 1 / (-out_multiplier * (1 / (1 << 31)) * 2**out_shift)

which is the kernels' formula in C++, spelled in Python. There ``1 << 31`` overflows to ``-2**31``
and the minus in front cancels it; in Python it is ``+2**31``, so every output is mirrored at its
zero point. The compiler's multipliers are right, and so is what a DSP computes.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from torch import Tensor

from nestling.targets.cadence.compiler import import_cadence

_SETTLED = "_nestling_scales_are_positive"


def load_reference() -> None:
    """Register the reference operators with torch.

    They look up, in their module, what rounds their results: there scales are made positive.
    """
    module: ModuleType = import_cadence("ref_implementations")
    if hasattr(module, _SETTLED):
        return
    quantize = module.quantize_per_tensor

    def quantize_with_positive_scale(values: Tensor, scale: float, *others: Any) -> Tensor:
        result: Tensor = quantize(values, abs(scale), *others)
        return result

    vars(module).update({"quantize_per_tensor": quantize_with_positive_scale, _SETTLED: True})
