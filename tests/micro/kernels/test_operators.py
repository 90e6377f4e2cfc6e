"""The table of operators: numbers that plans rely on, and kernels that may be left out."""

from __future__ import annotations

import ctypes

from micro.kernels.library import BUILD, MICRO, compile_sources, library, operator_numbers

# Plans on devices hold these numbers: lines may be added, never changed.
NUMBERS = {
    "conv2d": (1, "quantized_conv2d"),
    "depthwise": (2, "quantized_depthwise_conv2d"),
    "linear": (3, "quantized_linear"),
    "batch_matmul": (4, "quantized_batch_matmul"),
    "add": (5, "quantized_add"),
    "mul": (6, "quantized_mul"),
    "div": (7, "quantized_div"),
    "minimum": (8, "minimum"),
    "maximum": (9, "maximum"),
    "activation": (10, "quantized_activation"),
    "softmax": (11, "softmax"),
    "layer_norm": (12, "layer_norm"),
    "avg_pool": (13, "quantized_avg_pool2d"),
    "max_pool": (14, "quantized_max_pool2d"),
    "pad": (15, "pad"),
    "transpose": (16, "transpose"),
    "quantize": (17, "quantize_per_tensor"),
    "dequantize": (18, "dequantize_per_tensor"),
}


def test_numbers_stay() -> None:
    assert operator_numbers() == {kernel: number for kernel, (number, _) in NUMBERS.items()}
    for kernel, (_, name) in NUMBERS.items():
        operator = library().operator(kernel)
        assert operator.name.decode() == name
        assert operator.params_bytes % 4 == 0
        assert 2 <= operator.tensors <= 8


def test_a_firmware_without_kernels_is_complete() -> None:
    built = compile_sources(BUILD / "table.so", [MICRO / "operators.c"], ("-shared", "-fPIC"))
    find = ctypes.CDLL(str(built)).nst_find_operator
    find.restype = ctypes.c_void_p
    find.argtypes = (ctypes.c_uint32,)
    assert [find(number) for number in (0, 1, 5, 18, 19, 2**32 - 1)] == [None] * 6
