"""Quantise one stage to int8 with ExecuTorch's Cortex-M quantiser, its borders on fixed grids."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from executorch.backends.cortex_m.quantizer.quantizer import CortexMQuantizer
from torch import Tensor, nn
from torch.export import ExportedProgram, export
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e import (
    FixedQParamsObserver,
    HistogramObserver,
    PerChannelMinMaxObserver,
)
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

from nestling.errors import ExportError
from nestling.targets.cortex_m.grids import Grid

logging.getLogger("executorch.exir.pass_manager").setLevel(logging.ERROR)
logging.getLogger("executorch.backends.cortex_m").setLevel(logging.ERROR)


def channels_last(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Images as the kernels want them in memory; other tensors as they are.

    Copied even where sizes of 1 make both orders the same bytes: torch goes by the strides.
    """
    return tuple(
        torch.empty(t.shape, dtype=t.dtype, memory_format=torch.channels_last).copy_(t)
        if t.dim() == 4
        else t.contiguous()
        for t in tensors
    )


def quantize_stage(
    module: nn.Module,
    samples: Sequence[tuple[Tensor, ...]],
    input_grid: Grid | None,
    output_grid: Grid | None,
) -> ExportedProgram:
    """Quantise a stage to int8 per output channel.

    The parts of a block see the same samples at every width, so their integer weights, biases and
    multipliers are the same bytes there.

    Args:
        module: in evaluation mode, one output.
        samples: real inputs of the stage, each a tuple with batch size 1.
        input_grid: of the first input; ``None`` leaves it to calibration.
        output_grid: of the output; ``None`` leaves it to calibration.

    Returns:
        A program that quantises what it is given and gives back float32.

    Raises:
        ExportError: there are no samples.
    """
    if not samples:
        raise ExportError("int8 stages need calibration data", hint="pass real inputs")
    example = channels_last(samples[0])
    # With one input channel torch goes by the weights' strides.
    laid_out: Any = copy.deepcopy(module)
    module = laid_out.to(memory_format=torch.channels_last)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        prepared: Any = prepare_pt2e(
            export(module, example).module(check_guards=False), CortexMQuantizer()
        )
        _keep_symmetric(prepared)
        _calibrate(prepared, samples)
        _merge_observers(prepared)
        if input_grid is not None:
            _fix_input(prepared, input_grid)
        if output_grid is not None:
            _fix_output(prepared, output_grid)
        prepared.recompile()
        return export(convert_pt2e(prepared), example)


def _keep_symmetric(prepared: GraphModule) -> None:
    """Keep weights off -128: the sum of two products of it does not fit the kernels' 16 bits."""
    for module in prepared.modules():
        if isinstance(module, PerChannelMinMaxObserver) and module.dtype == torch.int8:
            module.quant_min = -127


def _calibrate(prepared: GraphModule, samples: Sequence[tuple[Tensor, ...]]) -> None:
    """Show the samples to all observers, to each at once: a histogram is slow to extend."""
    seen: dict[nn.Module, list[Tensor]] = {}

    def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen[module].append(inputs[0].detach().clone())

    hooks = []
    for module in prepared.modules():
        if isinstance(module, HistogramObserver):
            seen[module] = []
            hooks.append(module.register_forward_pre_hook(keep))
            module.forward = _pass_on
    for sample in samples:
        prepared(*channels_last(sample))
    for hook in hooks:
        hook.remove()
    for module, tensors in seen.items():
        del module.forward
        if tensors:
            module(torch.cat([tensor.reshape(-1) for tensor in tensors]))


def _pass_on(tensor: Tensor) -> Tensor:
    return tensor


def _merge_observers(prepared: GraphModule) -> None:
    """Quantise once where a softmax, whose grid is fixed, meets an operator that chose another."""
    for node in list(prepared.graph.nodes):
        if not _observed(prepared, node) or not _observed(prepared, node.all_input_nodes[0]):
            continue
        source = node.all_input_nodes[0]
        observer: Any = getattr(prepared, str(node.target))
        observer.calculate_qparams = getattr(prepared, str(source.target)).calculate_qparams
        node.replace_all_uses_with(source)
        prepared.graph.erase_node(node)


def _observer(grid: Grid) -> FixedQParamsObserver:
    return FixedQParamsObserver(
        grid.scale, grid.zero_point, dtype=torch.int8, quant_min=-128, quant_max=127
    )


def _observed(prepared: GraphModule, node: Node) -> bool:
    return (
        node.op == "call_module"
        and isinstance(getattr(prepared, str(node.target)), nn.Module)
        and "activation_post_process" in str(node.target)
    )


def _pin(prepared: GraphModule, node: Node, grid: Grid) -> None:
    """Have an observer give a fixed grid.

    The observer itself must stay: scales of biases are derived from it, and others may share it.
    """
    observer: Any = getattr(prepared, str(node.target))
    scale, zero_point = torch.tensor([grid.scale]), torch.tensor([grid.zero_point])
    observer.calculate_qparams = lambda: (scale, zero_point)
    observer.pinned = grid


def _fix_input(prepared: GraphModule, grid: Grid) -> None:
    """Let every reader of the first input see it through one grid."""
    first = next(node for node in prepared.graph.nodes if node.op == "placeholder")
    watching = [user for user in first.users if _observed(prepared, user)]
    for node in watching:
        _pin(prepared, node, grid)
    if not watching:
        prepared.add_module("activation_post_process_input", _observer(grid))
        with prepared.graph.inserting_after(first):
            watching = [prepared.graph.call_module("activation_post_process_input", (first,))]
    for user in list(first.users):
        if user not in watching:
            user.replace_input_with(first, watching[0])


def _fix_output(prepared: GraphModule, grid: Grid) -> None:
    """Give the result the grid, converting it once more where it already has another fixed one."""
    output = next(node for node in prepared.graph.nodes if node.op == "output")
    (result,) = output.all_input_nodes
    if _observed(prepared, result):
        pinned = getattr(getattr(prepared, str(result.target)), "pinned", None)
        if pinned is None:
            _pin(prepared, result, grid)
        if pinned in (None, grid):
            return
    prepared.add_module("activation_post_process_output", _observer(grid))
    with prepared.graph.inserting_before(output):
        fixed = prepared.graph.call_module("activation_post_process_output", (result,))
    output.replace_input_with(result, fixed)
