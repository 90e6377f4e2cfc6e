"""Converts a torch module to ONNX, with the bits that the bundle has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nestling.errors import ExportError, first_line

if TYPE_CHECKING:
    from torch import Tensor, nn

# onnxruntime.quantization has no counterpart of the others that a kernel would run.
SCHEMES = ("fp32", "int8-static", "int8-dynamic")


def convert(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    target: Path,
    scheme: str,
    calibration: Path | None,
) -> None:
    """Export the module and quantise it as onnxruntime's own tools do.

    Args:
        module: In eval mode.
        inputs: One example each; shapes become static.
        target: The `.onnx` file to write.
        scheme: One of `SCHEMES`.
        calibration: Arrays `input0`, ...; for `int8-static`.

    Raises:
        ExportError: onnxruntime has nothing of these bits, or the conversion failed.
    """
    import onnx

    from nestling.targets.onnx.convert import convert as to_onnx
    from nestling.targets.quiet import quiet

    if scheme not in SCHEMES:
        raise ExportError("onnxruntime has no such scheme", expected=SCHEMES, actual=scheme)
    part = target.with_suffix(".part.onnx")
    names = [f"input{index}" for index in range(len(inputs))]
    try:
        onnx.save(to_onnx(module, inputs, names), part)
        with quiet():
            _quantize(part, scheme, calibration)
    except ExportError:
        raise
    except Exception as error:  # whatever onnxruntime's tools raise
        raise ExportError("quantising for onnxruntime failed", actual=first_line(error)) from error
    part.replace(target)


def _quantize(target: Path, scheme: str, calibration: Path | None) -> None:
    if scheme == "fp32":
        return
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = target.with_suffix(".prepared.onnx")
    quant_pre_process(str(target), str(prepared), skip_symbolic_shape=True)
    if scheme == "int8-dynamic":
        quantize_dynamic(prepared, target, per_channel=True, weight_type=QuantType.QInt8)
    else:
        # Unsigned activations: the kernels that onnxruntime recommends on x86.
        quantize_static(
            prepared,
            target,
            _reader(calibration),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    prepared.unlink()


def _reader(calibration: Path | None) -> Any:
    import numpy as np
    from onnxruntime.quantization import CalibrationDataReader

    if calibration is None or not calibration.exists():
        raise ExportError("static quantisation needs calibration data")
    with np.load(calibration) as arrays:
        columns = {name: arrays[name] for name in arrays.files}
    count = len(next(iter(columns.values())))

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._samples = iter(
                [{name: column[at] for name, column in columns.items()} for at in range(count)]
            )

        def get_next(self) -> dict[str, Any] | None:
            return next(self._samples, None)

    return Reader()
