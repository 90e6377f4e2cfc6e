"""What is inside a Core ML package that a delegate holds."""

from __future__ import annotations

import contextlib
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import coremltools  # type: ignore[import-untyped]
from executorch.backends.apple.coreml import executorchcoreml

from nestling.errors import ExportError


@dataclass(frozen=True)
class Package:
    """A Core ML package.

    Attributes:
        operators: how often each MIL operator is called, constants left out.
        precisions: element types of weights, as MIL spells them.
        weights: content of the weight file; small constants stand in the program itself.
    """

    operators: Counter[str]
    precisions: frozenset[str]
    weights: bytes


def read_package(delegate: bytes) -> Package:
    """Read a delegate's package.

    Args:
        delegate: the delegate's data as the program holds it.

    Raises:
        ExportError: it is not a package.
    """
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.suppress(RuntimeError):
            executorchcoreml.unflatten_directory_contents(delegate, folder)
        package = next(Path(folder).rglob("*.mlpackage"), None)
        if package is None:
            raise ExportError("a delegate's data is not a Core ML package")
        program = coremltools.utils.load_spec(str(package)).mlProgram
        operators: Counter[str] = Counter()
        precisions = set()
        for function in program.functions.values():
            for block in function.block_specializations.values():
                for operation in block.operations:
                    if operation.type == "const":
                        for output in operation.outputs:
                            kind = output.type.tensorType
                            if kind.rank > 1:
                                precisions.add(
                                    coremltools.proto.MIL_pb2.DataType.Name(kind.dataType)
                                )
                    else:
                        operators[operation.type] += 1
        files = list(package.rglob("weight.bin"))
        weights = files[0].read_bytes() if files else b""
        return Package(operators, frozenset(precisions), weights)
