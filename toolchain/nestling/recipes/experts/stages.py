"""The recipes' networks as chains of stages: a path for each task, paths for steps to choose."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nestling.experts.layer import ExpertFeedForward
from nestling.experts.operator import experts as experts_operator
from nestling.partition.chain import Chain
from nestling.partition.tasks import cut_task_batch, cut_tasks
from nestling.recipes.experts import diffusion
from nestling.recipes.experts.diffusion import DiffusionBlock, DigitDiffusion, StepExperts
from nestling.recipes.experts.patches import DIM, PATCHES, SIDE
from nestling.recipes.experts.vision import TaskViT

WHOLE = "whole"
"""Path of the diffusion model that computes everything and keeps what the inner blocks add."""

SHALLOW = "shallow"
"""Path that leaves some inner blocks out."""

REUSE = "reuse"
"""Path that adds what the last `whole` kept in the inner blocks' place."""


def task_chain(model: TaskViT) -> Chain:
    """Cut a network of tasks: a path of each task's name, which has an output of that name."""
    pixels = torch.zeros(1, 1, SIDE, SIDE)
    heads: dict[str, nn.Module] = {task: model.heads[task] for task in model.tasks}
    return cut_tasks(model.stem, model.chain, heads, {"pixels": pixels})


def task_batch_chain(model: TaskViT, rows: int) -> Chain:
    """Cut a network of tasks for batches of so many rows, each with a task of its own."""
    pixels = torch.zeros(rows, 1, SIDE, SIDE)
    heads: dict[str, nn.Module] = {task: model.heads[task] for task in model.tasks}
    return cut_task_batch(model.stem, model.chain, heads, {"pixels": pixels})


def diffusion_chain(model: DigitDiffusion) -> Chain:
    """Cut a diffusion model into the paths `whole`, `shallow` and `reuse`."""
    model = copy.deepcopy(model).eval().requires_grad_(False)
    chain = Chain()
    chain.add_slot("pixels", torch.zeros(1, 1, SIDE, SIDE), "input")
    for name in ("step", "digit"):
        chain.add_slot(name, torch.zeros(1, dtype=torch.int64), "input")
    stream = torch.randn(1, PATCHES, DIM)
    chain.add_slot("x", stream)
    chain.add_slot("condition", torch.randn(1, DIM))
    chain.add_slot("before", stream.clone())
    chain.add_slot("kept", torch.zeros_like(stream), "state")
    chain.add_slot("velocity", torch.zeros(1, 1, SIDE, SIDE), "output")
    chain.add_position("stem")
    chain.add_stage("stem", model.stem, ["pixels", "step", "digit"], ["x", "condition"], "stem")
    last = diffusion.DEPTH - 1
    for index, block in enumerate(model.blocks):
        assert isinstance(block, DiffusionBlock)
        if index == last:
            chain.add_position("keep", index, required=False)
        chain.add_position(f"block{index}", index, required=index in (0, last))
        _add_block(chain, f"block{index}", block)
        if index == 0:
            chain.add_position("mark", index, required=False)
    chain.add_stage("mark", _Mark(), ["x"], ["before"], "mark")
    chain.add_stage("keep", _Keep(), ["x", "before"], ["kept"], "keep")
    chain.add_stage("reuse", _Reuse(), ["x", "kept"], ["x"], "mark", "keep")
    chain.add_position("head", last)
    chain.add_stage("head", model.head, ["x", "condition"], ["velocity"], "head")
    inner = [f"block{index}" for index in diffusion.INNER]
    shallow = [f"block{index}" for index in diffusion.SHALLOW]
    ends = ["stem", "block0"], [f"block{last}", "head"]
    paths: dict[str, Sequence[str]] = {
        REUSE: ["reuse"],
        SHALLOW: shallow,
        WHOLE: ["mark", *inner, "keep"],
    }
    for name, middle in paths.items():
        chain.add_path(name, [*ends[0], *middle, *ends[1]])
    return chain


def _add_block(chain: Chain, name: str, block: DiffusionBlock) -> None:
    if block.experts is None:
        chain.add_stage(name, block, ["x", "condition", "step"], ["x"], name)
        return
    # The step's table takes the place of a router, so only the layer's experts are of use.
    layer = ExpertFeedForward(block.experts.bank, name=f"{name}.experts")
    stage = _ExpertBlock(block, block.experts, chain.number_experts(layer))
    chain.add_stage(name, stage, ["x", "condition", "step"], ["x"], name)


class _ExpertBlock(nn.Module):
    """A block whose experts the step chooses, with the operator in the experts' place."""

    def __init__(self, block: DiffusionBlock, experts: StepExperts, number: int) -> None:
        super().__init__()
        self.block = copy.deepcopy(block)
        self.block.experts = None
        self.scores = copy.deepcopy(experts.scores)
        self.number = number

    def forward(self, x: Tensor, condition: Tensor, step: Tensor) -> Tensor:
        """As `DiffusionBlock`, for a batch of one."""
        x, h, gate = self.block.attend(x, condition)
        scores = F.embedding(step, self.scores).expand(x.shape[1], -1)
        y = experts_operator(h.reshape(h.shape[1:]), scores, self.number)
        return x + gate * y.reshape(h.shape)


class _Mark(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        """Return a copy of the stream before the inner blocks."""
        return x.clone()


class _Keep(nn.Module):
    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        """Return what the inner blocks have added."""
        return x - before


class _Reuse(nn.Module):
    def forward(self, x: Tensor, kept: Tensor) -> Tensor:
        """Add what the inner blocks added at another step."""
        return x + kept
