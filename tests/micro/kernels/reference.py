"""ExecuTorch's reference operators for Cortex-M, on numpy arrays: what the kernels must equal."""

from __future__ import annotations

from typing import Any

import executorch.backends.cortex_m.passes  # noqa: F401  (registers torch.ops.cortex_m)
import numpy as np
import numpy.typing as npt
import torch
from executorch.backends.cortex_m.passes.passes_utils import quantize_multiplier_aot
from hypothesis import strategies as st

Int8 = npt.NDArray[np.int8]
Float = npt.NDArray[np.float32]

ops: Any = torch.ops.cortex_m


def tensor(array: npt.NDArray[Any]) -> torch.Tensor:
    """An array as a tensor."""
    return torch.from_numpy(np.ascontiguousarray(array))


def image(nhwc: Int8) -> torch.Tensor:
    """An NHWC array as the reference wants images: NCHW in shape, channels last in memory."""
    return tensor(nhwc).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def nhwc(nchw: torch.Tensor) -> Int8:
    """The opposite of `image`."""
    array: Int8 = nchw.permute(0, 2, 3, 1).contiguous().numpy()
    return array


def require_vectors_of_8() -> None:
    """Fail where torch sums in another order: its softmax and layer_norm are then not ours."""
    capability = torch.backends.cpu.get_cpu_capability()
    assert capability == "AVX2", (
        f"set ATEN_CPU_CAPABILITY=avx2: torch runs kernels for {capability}"
    )


def scale_pair(scale: float) -> tuple[int, int]:
    """A real scale as multiplier and shift."""
    multiplier, shift = quantize_multiplier_aot(scale)
    return int(multiplier), int(shift)


zero_points = st.integers(-128, 127)
seeds = st.integers(0, 2**32 - 1)


def scales(low: float, high: float) -> st.SearchStrategy[float]:
    """Scales as quantisers find them, powers of two among them: those make ties."""
    powers = [2.0**e for e in range(-40, 10) if low <= 2.0**e <= high]
    return st.one_of(st.floats(low, high), st.sampled_from(powers or [low]))


def int8s(seed: int, *shape: int) -> Int8:
    """Random int8 values; a seed that is a multiple of 4 gives extreme ones only."""
    generator = np.random.default_rng(seed)
    if seed % 4 == 0:
        return generator.choice(np.array([-128, -127, -1, 0, 1, 126, 127], np.int8), shape)
    return generator.integers(-128, 128, shape).astype(np.int8)
