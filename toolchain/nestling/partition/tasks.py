"""Cut a network of several tasks: one stem, one chain of blocks, a router and a head for each task.

What no task has for itself is one stage that all paths share; switching a task is choosing another
path. As in M3ViT (arXiv:2210.14793), a task's own are the routers of expert layers and its head.
Where the rows of a batch belong to different tasks, one path takes the task of each row as input.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from nestling.elastic.block import ElasticBlock
from nestling.experts.layer import ExpertFeedForward
from nestling.partition.chain import Chain
from nestling.partition.cut import block_stage
from nestling.quantize.schemes import Scheme, get_scheme

_Module = TypeVar("_Module", bound=nn.Module)


def cut_tasks(
    stem: nn.Module,
    blocks: Sequence[ElasticBlock],
    heads: Mapping[str, nn.Module],
    inputs: Mapping[str, Tensor],
    scheme: Scheme | None = None,
) -> Chain:
    """Cut a network of tasks into a chain with a path of each task's name.

    Args:
        stem: `(*inputs) -> x`; left unchanged, as all modules.
        blocks: with names, each `x -> x` of one shape; they run at their full width. An expert
            layer has routers for all tasks, or one that they share.
        heads: by task, each `x -> output`; the output is a slot of the task's name.
        inputs: examples of batch 1 by name, in the stem's order.
        scheme: of the stages; default fp32.

    Returns:
        The chain, for `nestling.chain_export.export_chain`.

    Raises:
        ModelError: an expert layer lacks a router, or two blocks have one name.
    """
    chain = Chain(scheme or get_scheme("fp32"))
    x = _add_stem(chain, stem, inputs)
    paths: dict[str, list[str]] = {task: ["stem"] for task in heads}
    for block in map(_plain, blocks):
        chain.add_position(block.name, block.layer)
        stages = _add_block(chain, block, list(heads))
        for task, path in paths.items():
            path.append(stages[task])
    chain.add_position("head", max((block.layer for block in blocks), default=0))
    for task, module in heads.items():
        head = _plain(module)
        with torch.no_grad():
            chain.add_slot(task, head(x), "output")
        chain.add_stage(f"head.{task}", head, ["x"], [task], "head")
        chain.add_path(task, [*paths[task], f"head.{task}"])
    return chain


TASK_SLOT = "task"
"""Input of a chain of `cut_task_batch`: the number of each row's task."""

BATCH_PATH = "batch"
"""Its path."""


def cut_task_batch(
    stem: nn.Module,
    blocks: Sequence[ElasticBlock],
    heads: Mapping[str, nn.Module],
    inputs: Mapping[str, Tensor],
    scheme: Scheme | None = None,
) -> Chain:
    """Cut a network of tasks for batches whose rows belong to different tasks.

    The experts of a layer see the rows of all tasks at once, so an expert is read and unpacked once
    for all of them. Every row passes every head, which are small; a caller reads its task's output.

    Args:
        stem: as for `cut_tasks`, as are `blocks`.
        blocks: with names.
        heads: by task; the slot `task` counts in this order.
        inputs: examples of the batch's size by name, in the stem's order.
        scheme: of the stages; default fp32.

    Returns:
        The chain: one path, `BATCH_PATH`, with the inputs, `TASK_SLOT` (int64, (batch,)) and an
        output of each task's name.

    Raises:
        ModelError: as `cut_tasks`.
    """
    chain = Chain(scheme or get_scheme("fp32"))
    x = _add_stem(chain, stem, inputs)
    chain.add_slot(TASK_SLOT, torch.zeros(len(x), dtype=torch.int64), "input")
    for block in map(_plain, blocks):
        chain.add_position(block.name, block.layer)
        if isinstance(block, ExpertFeedForward):
            stage = block.batch_stage(chain.number_experts(block), list(heads))
            chain.add_stage(block.name, stage, ["x", TASK_SLOT], ["x"], block.name)
        else:
            _add_block(chain, block, list(heads))
    chain.add_position("head", max((block.layer for block in blocks), default=0))
    every = _Heads([_plain(module) for module in heads.values()])
    with torch.no_grad():
        for task, output in zip(heads, every(x), strict=True):
            chain.add_slot(task, output, "output")
    chain.add_stage("head", every, ["x"], heads, "head")
    chain.add_path(BATCH_PATH, list(chain.stages))
    return chain


class _Heads(nn.Module):
    def __init__(self, heads: Sequence[nn.Module]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return every head's output, of all rows."""
        return tuple(head(x) for head in self.heads)


def _add_stem(chain: Chain, stem: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """Add the inputs and the stage that reads them; return what it makes of the examples."""
    stem = _plain(stem)
    for name, example in inputs.items():
        chain.add_slot(name, example, "input")
    with torch.no_grad():
        x: Tensor = stem(*inputs.values())
    chain.add_slot("x", x)
    chain.add_position("stem")
    chain.add_stage("stem", stem, inputs, ["x"], "stem")
    return x


def _add_block(chain: Chain, block: ElasticBlock, tasks: Sequence[str]) -> dict[str, str]:
    """Add the stages of a block; return the one that each task runs."""
    if isinstance(block, ExpertFeedForward) and len(block.tasks) > 1:
        names = {task: f"{block.name}.{task}" for task in tasks}
        for task, name in names.items():
            chain.add_expert_stage(name, block, "x", block.name, task=task)
        return names
    if isinstance(block, ExpertFeedForward):
        chain.add_expert_stage(block.name, block, "x", block.name)
    else:
        stage = block_stage(block, len(block.widths))
        chain.add_stage(block.name, stage, ["x"], ["x"], block.name)
    return dict.fromkeys(tasks, block.name)


def _plain(module: _Module) -> _Module:
    return copy.deepcopy(module).eval().requires_grad_(False)
