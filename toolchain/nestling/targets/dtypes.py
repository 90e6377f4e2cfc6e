"""Element types under their three names: torch's, ExecuTorch's and the bundle's."""

from __future__ import annotations

import torch
from executorch.exir.scalar_type import ScalarType

from nestling.bundle.manifest import DType

EXECUTORCH_DTYPES: dict[ScalarType, DType] = {
    ScalarType.FLOAT: "f32",
    ScalarType.HALF: "f16",
    ScalarType.LONG: "i64",
    ScalarType.INT: "i32",
    ScalarType.BYTE: "u8",
    ScalarType.CHAR: "i8",
    ScalarType.BOOL: "bool",
}

TORCH_DTYPES: dict[torch.dtype, DType] = {
    torch.float32: "f32",
    torch.float16: "f16",
    torch.int64: "i64",
    torch.int32: "i32",
    torch.uint8: "u8",
    torch.int8: "i8",
    torch.bool: "bool",
}
