"""What a target computes, as a torch module: the oracle where its processor cannot be had here.

:func:`flatten` puts the delegates' own graphs, or whatever stands in for a processor, in the place
of the calls of delegates. The result can be pickled, and run by :class:`EagerRunner` in another
process.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from executorch.exir import EdgeProgramManager
from executorch.exir.delegate import executorch_call_delegate
from executorch.exir.dialects.edge._ops import EdgeOpOverload
from executorch.exir.lowered_backend_module import LoweredBackendModule
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import GraphModule
from torch.fx.graph import CodeGen
from torch.utils._pytree import tree_map

from nestling.errors import EngineError
from nestling.targets.target import StageRun

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUFFIX = ".pt"
"""Of a stage's file in a reference folder."""

Executor = Callable[[LoweredBackendModule], nn.Module]
"""Gives the module that computes what one delegate would; it returns a tuple of tensors."""


def flatten(edge: EdgeProgramManager, executor: Executor) -> GraphModule:
    """Return the program as a torch module that calls ``executor``'s modules for delegates.

    Args:
        edge: partitioned, its delegates lowered.
        executor: called with each delegate, in the order of their names.
    """
    module = unlift(edge.exported_program())
    calls = [node for node in module.graph.nodes if node.target is executorch_call_delegate]
    calls.sort(key=lambda node: int(str(node.args[0].target).rpartition("_")[2]))
    for node in calls:
        holder, *arguments = node.args
        name = f"delegate_{str(holder.target).rpartition('_')[2]}"
        module.add_module(name, executor(getattr(module, holder.target)))
        with module.graph.inserting_before(node):
            call = module.graph.call_module(name, tuple(arguments))
        node.replace_all_uses_with(call)
        module.graph.erase_node(node)
        module.graph.erase_node(holder)
    return GraphModule(module, module.graph)


def unlift(program: ExportedProgram) -> GraphModule:
    """Return an edge program as a module of torch's own operators, weights included."""
    module: Any = program.module(check_guards=False)
    for node in module.graph.nodes:
        if isinstance(node.target, EdgeOpOverload):
            node.target = node.target._op
    module.graph.set_codegen(CodeGen())  # inputs and outputs as they come, not as trees
    return GraphModule(module, module.graph)  # without the attributes that cannot be pickled


def original_graph(delegate: LoweredBackendModule) -> nn.Module:
    """The graph that a delegate was made from, as its executor."""
    return TupleOf(unlift(delegate.original_module))


class TupleOf(nn.Module):
    """Gives the outputs of a graph as a tuple, also where it has only one."""

    def __init__(self, graph: nn.Module) -> None:
        super().__init__()
        self.graph = graph

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run the graph."""
        outputs = self.graph(*inputs)
        return tuple(outputs) if isinstance(outputs, list | tuple) else (outputs,)


class InHalf(nn.Module):
    """Computes in 16 bits what is given and wanted in 32, as delegates do that are asked to.

    Args:
        module: gives a tuple; left unchanged, since a program still to be written has its weights.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(module).half()
        for part in self.module.modules():
            if isinstance(part, GraphModule):
                _limit_numbers(part)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run the module."""
        return _as(torch.float32, self.module(*_as(torch.float16, inputs)))


def _limit_numbers(graph: GraphModule) -> None:
    """Bring numbers that stand in a graph, as bounds of clamps do, into the range of 16 bits."""
    largest = torch.finfo(torch.float16).max

    def limit(value: Any) -> Any:
        return max(-largest, min(largest, value)) if isinstance(value, float) else value

    for node in graph.graph.nodes:
        node.args = tree_map(limit, node.args)
    graph.recompile()


def _as(dtype: torch.dtype, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple(t.to(dtype) if t.is_floating_point() else t for t in tensors)


def to_bytes(module: nn.Module) -> bytes:
    """Pickle a module that :func:`flatten` gave."""
    buffer = io.BytesIO()
    torch.save(module, buffer)
    return buffer.getvalue()


class EagerRunner:
    """Runs the modules of a reference folder in torch, see `targets.target.StageRunner`.

    Args:
        folder: with one pickled module a stage.
        where: what stands in for the processor, in words.
    """

    def __init__(self, folder: Path, where: str) -> None:
        self.where = where
        self._folder = folder
        self._loaded: dict[str, nn.Module] = {}

    def run(self, stage: str, samples: Sequence[tuple[NDArray, ...]]) -> StageRun:  # type: ignore[type-arg]
        """Run a stage on each sample; there is no time to tell.

        Raises:
            EngineError: there is no such stage, or it cannot be run.
        """
        module = self._load(stage)
        outputs = []
        with torch.no_grad():
            for sample in samples:
                given = [torch.from_numpy(array) for array in sample]
                try:
                    result = module(*given)
                except Exception as error:
                    raise EngineError(f"the stage cannot be run: {error}", stage=stage) from error
                tensors = result if isinstance(result, tuple | list) else (result,)
                outputs.append(tuple(tensor.numpy() for tensor in tensors))
        return StageRun(outputs, None)

    def _load(self, stage: str) -> nn.Module:
        if stage not in self._loaded:
            path = self._folder / f"{stage}{SUFFIX}"
            if not path.is_file():
                raise EngineError("no reference was kept of this stage", stage=stage, actual=path)
            self._loaded[stage] = torch.load(path, weights_only=False)
        return self._loaded[stage]


@contextmanager
def open_eager(folder: Path, where: str) -> Iterator[EagerRunner]:
    """Open a reference folder, as :meth:`nestling.targets.target.Target.open` does."""
    yield EagerRunner(folder, where)
