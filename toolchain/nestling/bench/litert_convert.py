"""Converts an exported torch program to LiteRT, in the environment of scripts/setup_peers.sh.

    python litert_convert.py MODEL.pt2 OUT.tflite SCHEME [CALIBRATION.npz]

The converter brings packages that nestling does not want to depend on, so this file imports nothing
of nestling; `nestling.bench.peers` starts it with the other environment's Python.
"""

from __future__ import annotations

import sys
from typing import Any


def convert(source: str, target: str, scheme: str, calibration: str | None) -> None:
    """Write `target`; raises whatever the converter raises."""
    import litert_torch  # type: ignore[import-not-found,unused-ignore]
    import torch

    program = torch.export.load(source)
    inputs = program.example_inputs[0]
    litert_torch.convert(program.module(), inputs).export(target)
    if scheme != "fp32":
        _quantize(target, scheme, calibration)


def _quantize(target: str, scheme: str, calibration: str | None) -> None:
    """Quantise the float model in place, to the bits that the bundle has."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import quantizer, recipe  # type: ignore[import-not-found,unused-ignore]

    work = quantizer.Quantizer(target)
    if scheme == "int8-static":
        if calibration is None:
            raise ValueError("static quantisation needs calibration data")
        work.load_quantization_recipe(recipe.static_wi8_ai8())
        signature, names = _signature(Interpreter(target))
        with np.load(calibration) as arrays:
            columns = [arrays[f"input{index}"] for index in range(len(names))]
        samples: list[dict[str, Any]] = [
            dict(zip(names, sample, strict=True)) for sample in zip(*columns, strict=True)
        ]
        result = work.quantize(work.calibrate({signature: samples}))
    else:
        work.load_quantization_recipe(recipe.dynamic_wi8_afp32())
        result = work.quantize()
    result.export_model(target, overwrite=True)


def _signature(interpreter: Any) -> tuple[str, list[str]]:
    """Return the name of the one signature, and those of its inputs in torch's order."""
    ((name, sides),) = interpreter.get_signature_list().items()
    return name, sorted(sides["inputs"], key=lambda text: int(text.rsplit("_", 1)[-1]))


if __name__ == "__main__":
    convert(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4] if len(sys.argv) > 4 else None)
