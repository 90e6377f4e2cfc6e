"""No parameter record, however wrong, makes an operator leave its memory."""

from __future__ import annotations

import pytest
from micro.kernels.hostile import GoodCase, attack
from micro.kernels.library import record

_WINDOW = record("12I", 2, 5, 7, 8, 4, 4, 3, 3, 2, 2, 1, 1)
_WINDOW_SIZES = (560, 160)

CASES: dict[str, list[GoodCase]] = {
    "add": [
        (
            record("3I11i", 60, 60, n, 3, 2**30, 0, -4, 2**30, -2, 7, 2**30, -19, -128, 127),
            (60, n, 60),
        )
        for n in (60, 12)
    ],
    "mul": [
        (record("3I5i", 60, n, 60, 3, -4, 7, 2**30, shift), (n, 60, 60))
        for n, shift in ((60, -7), (5, 3))
    ],
    "div": [(record("I3if", 50, 3, -4, 7, 12.5), (50, 50, 50))],
    "minimum": [(record("3I", 60, 60, 12), (60, 12, 60))],
    "maximum": [(record("3I", 60, 12, 60), (12, 60, 60))],
    "activation": [(record("I", 77), (77, 256, 77))],
    "softmax": [(record("IIif", 5, n, -3, 0.1), (5 * n, 5 * n)) for n in (3, 19)],
    "layer_norm": [
        (
            record("IIifff3i", 3, n, -3, 0.1, 1e-6, 30.0, 4, -128, 127),
            (3 * n, gamma * n, 4 * n, 3 * n),
        )
        for n, gamma in ((19, 4), (300, 0))
    ],
    "batch_matmul": [
        (record("4I5i", 2, 5, 7, 19, 3, -4, 5, 2**30, shift), (190, 266, 70)) for shift in (-9, 2)
    ],
    "avg_pool": [(_WINDOW + record("if", -3, 0.1), _WINDOW_SIZES)],
    "max_pool": [(_WINDOW + record("2i", -100, 100), _WINDOW_SIZES)],
    "pad": [(record("12Ii", 1, 3, 4, 5, 0, 1, 2, 0, 0, 2, 1, 0, -3), (60, 210))],
    "transpose": [
        (record("14I", 4, n, 2, 3, 4, 5, 0, 0, 0, 2, 1, 3, 0, 0), (120 * n, 120 * n))
        for n in (1, 4)
    ],
    "quantize": [(record("If3i", 50, 10.0, 3, -128, 127), (200, 50))],
    "dequantize": [(record("Iif", 50, 3, 0.1), (50, 200))],
}


@pytest.mark.parametrize("name", CASES)
def test_stays_within_its_memory(name: str) -> None:
    accepted = attack(name, CASES[name])
    assert accepted > 500, "nearly everything was refused: the attack tests nothing"
