"""Executes the TOSA graph of a delegate in the TOSA reference model.

TOSA is what Arm's compilers are fed with; its reference model defines what every operator computes,
bit by bit for integers.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import tosa_reference_model  # type: ignore[import-untyped]
from torch import Tensor, from_numpy, nn

from nestling.errors import EngineError


@contextmanager
def _without_remarks() -> Iterator[None]:
    """Drop what native code writes to standard output: the model remarks on versions each time."""
    sys.stdout.flush()
    kept = os.dup(1)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


class TosaGraph(nn.Module):
    """One delegate's graph.

    Args:
        flatbuffer: serialised TOSA.
        shapes: of its outputs.
    """

    def __init__(self, flatbuffer: bytes, shapes: list[tuple[int, ...]]) -> None:
        super().__init__()
        self.flatbuffer = flatbuffer
        self.shapes = shapes

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run the graph.

        Raises:
            EngineError: the reference model finds it invalid.
        """
        arrays = [tensor.contiguous().numpy() for tensor in inputs]
        with _without_remarks():
            outputs, status = tosa_reference_model.run(
                self.flatbuffer, arrays, initialize_variable_tensor_from_numpy=True
            )
        if status != tosa_reference_model.GraphStatus.TOSA_VALID:
            raise EngineError("the TOSA reference model refuses a graph", actual=status)
        return tuple(
            from_numpy(array).reshape(shape)
            for array, shape in zip(outputs, self.shapes, strict=True)
        )
