"""A class-conditional diffusion model of the digits, whose step number chooses what is computed.

A small DiT (Peebles and Xie, arXiv 2212.09748) on 16 patches. Its first and last block are dense;
in those between, the step number, and nothing else, chooses each block's experts (Switch-DiT, Park
et al., arXiv 2403.09176). It is trained with the inner blocks at two depths, so that a step may
also choose the depth (VARiant), and what the inner blocks add to the stream can be kept for the
next steps (A-SDM, and DeepCache, Ma et al., arXiv 2312.00858).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nestling.elastic.attention import attend
from nestling.experts.bank import ExpertShape, StackedExperts
from nestling.experts.routing import load_balance_loss, route
from nestling.recipes.digits import load_digits_split
from nestling.recipes.experts.noise import STEPS, levels
from nestling.recipes.experts.patches import DIM, HEADS, PATCH, PATCHES, join_patches
from nestling.training.data import mix_seed
from nestling.training.threads import torch_threads

DEPTH = 6
HIDDEN = 128
"""Neurons that a token passes in any block: dense, or `TOP_K` experts of `EXPERT_HIDDEN`."""
EXPERTS = 8
TOP_K = 2
EXPERT_HIDDEN = HIDDEN // TOP_K
INNER = tuple(range(1, DEPTH - 1))
"""Blocks that a step may leave out or reuse."""
SHALLOW = (1, 4)
"""Those of them that the small depth keeps."""


@dataclass(frozen=True)
class DiffusionTraining:
    """How the model is trained.

    Attributes:
        updates: Of the optimiser.
        batch: Pictures an update.
        lr: Peak rate of AdamW.
        shallow_share: Share of updates at the small depth.
        balance: Weight of the loss that spreads the steps over the experts.
        average: Of the running mean of the weights, which is what is kept.
        seed: Of weights, pictures and noise.
        threads: Of torch.
    """

    updates: int = 1000
    batch: int = 64
    lr: float = 3e-3
    shallow_share: float = 0.25
    balance: float = 0.05
    average: float = 0.99
    seed: int = 0
    threads: int = 1


class DiffusionStem(nn.Module):
    """`(pixels, step, digit) -> (stream, condition)`."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, DIM, PATCH, stride=PATCH)
        self.positions = nn.Parameter(0.1 * torch.randn(1, PATCHES, DIM))
        self.step = nn.Embedding(STEPS, DIM)
        self.digit = nn.Embedding(10, DIM)

    def forward(self, pixels: Tensor, step: Tensor, digit: Tensor) -> tuple[Tensor, Tensor]:
        """Take (batch, 1, 8, 8) and int64 (batch,) twice; return (batch, 16, dim), (batch, dim)."""
        x = self.patches(pixels).flatten(2).transpose(1, 2) + self.positions
        return x, F.silu(self.step(step) + self.digit(digit))


class StepExperts(nn.Module):
    """Experts that the step number chooses, by a table of scores, (steps, experts)."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Parameter(0.5 * torch.randn(STEPS, EXPERTS))
        shape = ExpertShape(
            DIM, EXPERT_HIDDEN, EXPERTS, TOP_K, renormalise=True, activation="gelu", gated=False
        )
        self.bank = StackedExperts(shape)

    def forward(self, h: Tensor, step: Tensor) -> Tensor:
        """Take (batch, 16, dim) and int64 (batch,); return what the chosen experts give."""
        scores = F.embedding(step, self.scores)[:, None].expand(-1, h.shape[1], -1)
        y: Tensor = self.bank(h.reshape(-1, DIM), scores.reshape(-1, EXPERTS))
        return y.reshape(h.shape)

    def imbalance(self) -> Tensor:
        """Return the balance loss over the steps; 1 is even."""
        return load_balance_loss(self.scores, route(self.scores, TOP_K, True)[1])


class DiffusionBlock(nn.Module):
    """Attention and feed-forward, scaled, shifted and gated by the condition (adaLN-Zero).

    Args:
        experts: Whether the step chooses experts; else the feed-forward part is dense.
    """

    def __init__(self, experts: bool) -> None:
        super().__init__()
        self.condition = nn.Linear(DIM, 6 * DIM)
        nn.init.zeros_(self.condition.weight)
        nn.init.zeros_(self.condition.bias)
        self.norm = nn.LayerNorm(DIM, elementwise_affine=False)
        self.q = nn.Linear(DIM, DIM)
        self.k = nn.Linear(DIM, DIM)
        self.v = nn.Linear(DIM, DIM)
        self.o = nn.Linear(DIM, DIM)
        self.experts = StepExperts() if experts else None
        self.dense = (
            None
            if experts
            else nn.Sequential(nn.Linear(DIM, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, DIM))
        )

    def forward(self, x: Tensor, condition: Tensor, step: Tensor) -> Tensor:
        """Take the stream, (batch, 16, dim), the condition and the step; return the stream."""
        x, h, gate = self.attend(x, condition)
        y: Tensor
        if self.experts is not None:
            y = self.experts(h, step)
        else:
            assert self.dense is not None
            y = self.dense(h)
        return x + gate * y

    def attend(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the stream behind attention, the feed-forward part's input, and its gate."""
        parts = self.condition(condition)[:, None].chunk(6, dim=-1)
        h = self.norm(x) * (1.0 + parts[0]) + parts[1]
        q = self.q(h) * (DIM // HEADS) ** -0.5
        heads = attend(q, self.k(h), self.v(h), HEADS, DIM // HEADS)
        x = x + parts[2] * self.o(heads)
        return x, self.norm(x) * (1.0 + parts[3]) + parts[4], parts[5]


class DiffusionHead(nn.Module):
    """`(stream, condition) -> velocity`."""

    def __init__(self) -> None:
        super().__init__()
        self.condition = nn.Linear(DIM, 2 * DIM)
        self.norm = nn.LayerNorm(DIM, elementwise_affine=False)
        self.pixels = nn.Linear(DIM, PATCH * PATCH)
        for layer in (self.condition, self.pixels):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return (batch, 1, 8, 8)."""
        scale, shift = self.condition(condition)[:, None].chunk(2, dim=-1)
        y: Tensor = self.pixels(self.norm(x) * (1.0 + scale) + shift)
        return join_patches(y)[:, None]


class DigitDiffusion(nn.Module):
    """The whole network.

    Args:
        experts: Whether the inner blocks have experts.
    """

    def __init__(self, experts: bool = True) -> None:
        super().__init__()
        self.stem = DiffusionStem()
        self.blocks = nn.ModuleList(
            DiffusionBlock(experts and index in INNER) for index in range(DEPTH)
        )
        self.head = DiffusionHead()

    def forward(self, pixels: Tensor, step: Tensor, digit: Tensor, shallow: bool = False) -> Tensor:
        """Return the velocity, (batch, 1, 8, 8); see `DiffusionStem` for the inputs."""
        x, condition = self.stem(pixels, step, digit)
        for index, block in enumerate(self.blocks):
            if not shallow or index not in INNER or index in SHALLOW:
                x = block(x, condition, step)
        return self.head(x, condition)  # type: ignore[no-any-return]

    def imbalance(self) -> Tensor:
        """Return the mean balancing loss of the blocks with experts, 0 without any."""
        losses = [b.experts.imbalance() for b in self.blocks if b.experts is not None]  # type: ignore[union-attr, operator]
        return torch.stack(losses).mean() if losses else torch.zeros(())


def train_diffusion(experts: bool, config: DiffusionTraining) -> DigitDiffusion:
    """Train on the training scans, and return the running mean of the weights.

    Scans are shown as they are: what distorts them also blurs them, and that would be drawn too.
    """
    images, labels, _, _ = load_digits_split()
    table = torch.tensor([levels(step) for step in range(STEPS)])
    with torch.random.fork_rng(devices=[]), torch_threads(config.threads):
        torch.manual_seed(config.seed)
        model = DigitDiffusion(experts)
        kept = copy.deepcopy(model).requires_grad_(False)
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=config.lr, betas=(0.9, 0.99), weight_decay=0.0, fused=True
        )
        for update in range(config.updates):
            generator = torch.Generator().manual_seed(mix_seed(config.seed, update))
            rows = torch.randint(len(images), (config.batch,), generator=generator)
            clean, digit = images[rows], labels[rows]
            step = torch.randint(STEPS, (config.batch,), generator=generator)
            noise = torch.randn(clean.shape, generator=generator)
            shallow = bool(torch.rand((), generator=generator) < config.shallow_share)
            alpha, sigma = (part[:, None, None, None] for part in table[step].unbind(1))
            velocity = model(alpha * clean + sigma * noise, step, digit, shallow)
            loss = F.mse_loss(velocity, alpha * noise - sigma * clean)
            loss = loss + config.balance * model.imbalance()
            optimizer.zero_grad(set_to_none=True)
            for group in optimizer.param_groups:
                group["lr"] = config.lr * _rate(update, config.updates)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            share = min(config.average, (update + 1) / (update + 10))
            with torch.no_grad():
                for mean, now in zip(kept.parameters(), model.parameters(), strict=True):
                    mean.lerp_(now, 1.0 - share)
    return kept.eval()


def _rate(update: int, updates: int) -> float:
    """Return the share of the peak rate: a short rise, a plateau, a linear fall over two fifths."""
    return min(1.0, (update + 1) / 50, (updates - update) / (0.4 * updates))
