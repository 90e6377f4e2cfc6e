"""One vision transformer for four tasks on the digits: a router and a head a task (M3ViT).

As in M3ViT (Fan et al., arXiv 2210.14793) every other feed-forward block is a layer of small
experts, of which each patch takes a few, as much compute as the dense block has; a task is nothing
but its own routers and head. Beside it, for comparison, is the dense network of one task alone, of
the same active compute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nestling.elastic import ElasticAttention, ElasticFeedForward
from nestling.elastic.block import ElasticBlock
from nestling.experts.layer import ExpertFeedForward, make_expert_layer, select_task
from nestling.experts.routing import load_balance_loss, router_z_loss
from nestling.language.muon import Muon
from nestling.recipes.digits import load_digits_split
from nestling.recipes.experts.digit_tasks import (
    OUTPUTS,
    TASKS,
    Task,
    draw_batch,
    held_out,
    task_loss,
    task_quality,
)
from nestling.recipes.experts.patches import DIM, HEADS, PATCH, PATCHES, join_patches
from nestling.training.data import mix_seed
from nestling.training.threads import torch_threads

DEPTH = 4
EXPERTS = 16
TOP_K = 4
HIDDEN = 256
"""Neurons that a patch passes in any layer."""


@dataclass(frozen=True)
class TaskTraining:
    """How a network of one or several tasks is trained.

    Attributes:
        updates: Of the optimiser.
        batch: Images of each task in an update.
        matrix_lr: Peak rate of Muon, for the matrices of blocks.
        lr: Peak rate of AdamW, for everything else.
        weight_decay: Of AdamW.
        balance: Weight of the loss that spreads patches over experts.
        z: Weight of the loss on the size of scores.
        repair: Weight of the loss of the task `repair`, which is small; the others' is 1.
        seed: Of weights and images.
        threads: Of torch.
    """

    updates: int = 500
    batch: int = 48
    matrix_lr: float = 0.02
    lr: float = 2e-3
    weight_decay: float = 0.05
    balance: float = 0.01
    z: float = 1e-3
    repair: float = 30.0
    seed: int = 0
    threads: int = 1


class TaskStem(nn.Module):
    """Two convolutions to patches, class token, positions.

    No batch norm: its statistics would mix the tasks' images.
    """

    def __init__(self) -> None:
        super().__init__()
        self.early = nn.Conv2d(1, DIM, 3, padding=1)
        self.activation = nn.GELU()
        self.patches = nn.Conv2d(DIM, DIM, PATCH, stride=PATCH)
        self.class_token = nn.Parameter(0.02 * torch.randn(1, 1, DIM))
        self.positions = nn.Parameter(0.02 * torch.randn(1, PATCHES + 1, DIM))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return (batch, 17, dim) of (batch, 1, 8, 8)."""
        patches = self.patches(self.activation(self.early(pixels))).flatten(2).transpose(1, 2)
        token: Tensor = self.class_token
        if pixels.shape[0] != 1:
            token = token.expand(pixels.shape[0], -1, -1)
        return torch.cat((token, patches), dim=1) + self.positions


class ClassHead(nn.Module):
    """Logits of the class token."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(DIM)
        self.classifier = nn.Linear(DIM, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, classes) of (batch, 17, dim)."""
        return self.classifier(self.norm(x[:, 0]))  # type: ignore[no-any-return]


class PixelHead(nn.Module):
    """All pixels of the image, from the patches."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(DIM)
        self.pixels = nn.Linear(DIM, PATCH * PATCH)

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, 64) of (batch, 17, dim)."""
        y: Tensor = self.pixels(self.norm(x[:, 1:]))
        return join_patches(y).flatten(1)


class TaskViT(nn.Module):
    """A stem, blocks and heads by task.

    Args:
        tasks: Whose routers and heads it has.
        experts: Whether every other layer has experts; else all are dense.
    """

    def __init__(self, tasks: Sequence[Task] = TASKS, *, experts: bool = True) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self.stem = TaskStem()
        blocks: list[ElasticBlock] = []
        for layer in range(DEPTH):
            blocks.append(
                ElasticAttention(
                    DIM, HEADS, heads_widths=(1.0,), name=f"layer{layer}.attention", layer=layer
                )
            )
            if experts and layer % 2 == 1:
                blocks.append(
                    make_expert_layer(
                        DIM,
                        HIDDEN // TOP_K,
                        EXPERTS,
                        TOP_K,
                        activation="gelu",
                        gated=False,
                        renormalise=True,
                        tasks=self.tasks,
                        name=f"layer{layer}.experts",
                        layer=layer,
                    )
                )
            else:
                blocks.append(
                    ElasticFeedForward(
                        DIM, HIDDEN, widths=(1.0,), name=f"layer{layer}.ffn", layer=layer
                    )
                )
        self.blocks = nn.ModuleList(blocks)
        self.heads = nn.ModuleDict(
            {t: PixelHead() if t == "repair" else ClassHead(OUTPUTS[t]) for t in self.tasks}
        )

    @property
    def chain(self) -> tuple[ElasticBlock, ...]:
        """The blocks, in order."""
        return tuple(self.blocks)  # type: ignore[arg-type]

    def forward(self, pixels: Tensor, task: Task) -> Tensor:
        """Run one task: (batch, 1, 8, 8) to (batch, numbers of the task)."""
        if any(isinstance(block, ExpertFeedForward) for block in self.chain):
            select_task(self, task)
        x = self.stem(pixels)
        for block in self.chain:
            x = block(x)
        return self.heads[task](x)  # type: ignore[no-any-return]

    def run_all(self, pixels: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Run every task on a batch of its own, all in one: only routers and heads part them.

        Returns:
            Outputs by task, in order, and the balance and size losses of the routers, (2,).
        """
        x = self.stem(torch.cat(tuple(pixels)))
        sizes = [len(part) for part in pixels]
        losses = []
        for block in self.chain:
            if not isinstance(block, ExpertFeedForward):
                x = block(x)
                continue
            h = block.norm(x)
            parts = zip(self.tasks, h.split(sizes), strict=True)
            scores = [block.routers[task](part).flatten(0, 1) for task, part in parts]
            for each in scores:
                chosen = each.topk(block.bank.top_k, dim=-1).indices
                losses.append(torch.stack((load_balance_loss(each, chosen), router_z_loss(each))))
            x = x + block.bank(h.flatten(0, 1), torch.cat(scores)).reshape(h.shape)
        heads = zip(self.tasks, x.split(sizes), strict=True)
        outputs = [self.heads[task](part) for task, part in heads]
        return outputs, torch.stack(losses).mean(0) if losses else torch.zeros(2)


def build(tasks: Sequence[Task] = TASKS, *, experts: bool = True, seed: int = 0) -> TaskViT:
    """Return an untrained network."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = TaskViT(tasks, experts=experts)
        for module in model.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.7 * module.in_features**-0.5)
    return model


def train_tasks(
    config: TaskTraining, tasks: Sequence[Task] = TASKS, *, experts: bool = True
) -> TaskViT:
    """Build a network and train it on all its tasks at once; each sees the same batches alone."""
    images, labels, _, _ = load_digits_split()
    model = build(tasks, experts=experts, seed=config.seed)
    optimizers = _optimizers(model, config)
    weights = {task: config.repair if task == "repair" else 1.0 for task in tasks}
    with torch_threads(config.threads):
        for update in range(config.updates):
            batches = []
            for task in tasks:
                seed = mix_seed(config.seed, update, TASKS.index(task))
                generator = torch.Generator().manual_seed(seed)
                batches.append(draw_batch(task, images, labels, config.batch, generator))
            outputs, routing = model.run_all([pixels for pixels, _ in batches])
            loss = config.balance * routing[0] + config.z * routing[1]
            for task, output, (_, target) in zip(tasks, outputs, batches, strict=True):
                loss = loss + weights[task] * task_loss(task, output, target)
            for optimizer, rate in optimizers:
                optimizer.zero_grad(set_to_none=True)
                for group in optimizer.param_groups:
                    group["lr"] = rate * _rate(update, config.updates)
            loss.backward()  # type: ignore[no-untyped-call]
            for optimizer, _ in optimizers:
                optimizer.step()
    return model.eval()


def _optimizers(model: TaskViT, config: TaskTraining) -> list[tuple[torch.optim.Optimizer, float]]:
    """Return Muon for the matrices of blocks but for routers, and AdamW, with their rates."""
    named = model.blocks.named_parameters()
    matrices = [p for name, p in named if p.dim() >= 2 and ".routers." not in name]
    known = {id(parameter) for parameter in matrices}
    others = [p for p in model.parameters() if id(p) not in known]
    adam = torch.optim.AdamW(others, lr=config.lr, weight_decay=config.weight_decay, fused=True)
    return [(Muon(matrices, lr=config.matrix_lr), config.matrix_lr), (adam, config.lr)]


@torch.inference_mode()
def score_task(model: TaskViT, task: Task) -> float:
    """Return the quality of a task on held-out digits; see `task_quality`."""
    pixels, target = held_out(task)
    output = torch.cat([model(part, task) for part in torch.split(pixels, 256)])
    return task_quality(task, output, target)


def _rate(update: int, updates: int) -> float:
    """Return the share of the peak rate: a rise, a plateau, a linear fall over the last half."""
    return min(1.0, (update + 1) / 50, (updates - update) / (0.5 * updates))
