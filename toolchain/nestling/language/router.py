"""Small feed-forward, big feed-forward or no layer at all, for every layer and token (Duo-LLM).

Source: Alizadeh et al., "Duo-LLM: a framework for studying adaptive computation", arXiv 2410.10846.
There, routes are drawn at random in training, an oracle then searches the best ones, and routers
are trained to come near it. Here the core has run before anybody decides, so one router sees its
stream and names the route through all layers above: 3 to the power of their number, few enough
that the oracle looks at every one.

The router does not imitate the oracle's choices. It predicts what each route would lose against the
full one; the route is then the one with the least `predicted loss + price * cost`, and the price
sets the compute that is spent, at run time.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nestling.elastic import Subnet, Supernet
from nestling.elastic.supernet import split_stem
from nestling.language.bits import Windows, token_bits
from nestling.language.decoder import Signals
from nestling.language.policies import AskOnce, Controller
from nestling.language.scoring import decoder_layers


def list_routes(supernet: Supernet) -> list[Subnet]:
    """Return all routes: the core, then nothing, the first or the last level at each layer.

    The first is the core alone, the last the full path.
    """
    layers = decoder_layers(supernet)
    core = sum(not attention.skippable for attention, _ in layers)
    whole = supernet.space.full().levels
    routes = []
    for picks in itertools.product(*((0, 1, ffn.spec.levels) for _, ffn in layers[core:])):
        tail = itertools.chain.from_iterable((int(level > 0), level) for level in picks)
        routes.append(Subnet((*whole[: 2 * core], *tail)))
    return routes


@dataclass(frozen=True)
class RouteScores:
    """What every route loses on every token.

    Attributes:
        streams: The stream behind the core, (tokens, dim).
        bits: -log2 of the probability of the target, (tokens, routes).
        expected_bits: The same, averaged over what the full path holds likely instead of the one
            target that came: what is known without looking at the answer.
    """

    streams: Tensor
    bits: Tensor
    expected_bits: Tensor


@torch.inference_mode()
def score_routes(supernet: Supernet, windows: Windows, batch: int = 4) -> RouteScores:
    """Run every route on every token of some windows.

    Routes share what they have in common, as a tree. A route's keys and values are those of windows
    that take it throughout.
    """
    supernet.eval().select(supernet.space.full())
    layers = decoder_layers(supernet)
    core = sum(not attention.skippable for attention, _ in layers)
    streams, bits, expected = [], [], []
    for tokens, targets in zip(
        torch.split(windows.tokens, batch), torch.split(windows.targets, batch), strict=True
    ):
        x, context = split_stem(supernet.stem(tokens))
        for attention, ffn in layers[:core]:
            x = ffn(attention(x, *context), *context)

        def climb(x: Tensor, layer: int, context: Sequence[Tensor] = context) -> Iterator[Tensor]:
            if layer == len(layers):
                yield x
                return
            attention, ffn = layers[layer]
            yield from climb(x, layer + 1)
            attended = attention(x, *context)
            h = ffn.norm(attended)
            for level in (1, ffn.spec.levels):
                yield from climb(attended + ffn.transform(h, level), layer + 1)

        logits = [supernet.head(end) for end in climb(x, core)]
        full = F.softmax(logits[-1], dim=-1)
        streams.append(x.flatten(0, 1))
        bits.append(torch.stack([token_bits(one, targets).flatten() for one in logits], 1))
        expected.append(
            torch.stack(
                [
                    -(full * F.log_softmax(one, dim=-1)).sum(dim=-1).flatten() / math.log(2.0)
                    for one in logits
                ],
                1,
            )
        )
    return RouteScores(torch.cat(streams), torch.cat(bits), torch.cat(expected))


class Router(nn.Module):
    """Predicts from the stream behind the core what each route loses against the full path.

    Args:
        dim: Width of the stream.
        routes: How many.
        hidden: Neurons.
    """

    def __init__(self, dim: int, routes: int, hidden: int = 64) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(dim, elementwise_affine=False)
        self.hidden = nn.Linear(dim, hidden)
        self.output = nn.Linear(hidden, routes)

    def forward(self, stream: Tensor) -> Tensor:
        """Return bits, (..., routes), of (..., dim); the full path's are 0."""
        predicted = self.output(F.silu(self.hidden(self.norm(stream))))
        regrets: Tensor = predicted - predicted[..., -1:]
        return regrets

    @property
    def macs(self) -> int:
        """Multiply-accumulates for a token."""
        return self.hidden.weight.numel() + self.output.weight.numel()


def train_router(
    scores: RouteScores, *, steps: int = 600, batch: int = 1024, lr: float = 3e-3, seed: int = 0
) -> Router:
    """Train a router on scores of text that is not used to judge it.

    Args:
        scores: See `score_routes`.
        steps: Updates of AdamW, the rate falling to zero.
        batch: Tokens in each.
        lr: Its rate.
        seed: Of weights and batches.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        router = Router(scores.streams.shape[1], scores.bits.shape[1])
    # Copies, because tensors that were made in inference mode take no part in training.
    streams = scores.streams.clone()
    regrets = scores.expected_bits.clone() - scores.expected_bits[:, -1:].clone()
    optimizer = torch.optim.AdamW(router.parameters(), lr=lr, weight_decay=0.05)
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1.0 - step / steps)
        rows = torch.randint(len(streams), (batch,), generator=generator)
        loss = F.huber_loss(router(streams[rows]), regrets[rows])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return router.eval()


def export_router(
    router: Router, routes: Sequence[Subnet], costs: Tensor, price: float, file: Path
) -> None:
    """Write a router for `nestling_runtime.routing.RouteChoice`, which runs it natively.

    Args:
        router: Trained.
        routes: What it chooses from, see `list_routes`.
        costs: Of each, (routes,).
        price: Loss that a unit of cost is worth, see `pick_routes`.
        file: An .npz file.
    """
    widths = np.array([route.levels[1::2] for route in routes], dtype=np.uint8)
    chosen = (widths != widths[:1]).any(axis=0)
    levels = widths[:, int(chosen.argmax()) :]
    arrays = {
        "hidden_weight": router.hidden.weight,
        "hidden_bias": router.hidden.bias,
        "output_weight": router.output.weight,
        "output_bias": router.output.bias,
        "costs": costs.float(),
    }
    with file.open("wb") as out:
        np.savez(
            out,
            **{name: tensor.detach().numpy() for name, tensor in arrays.items()},
            levels=levels,
            price=np.float32(price),
        )


def pick_routes(losses: Tensor, costs: Tensor, mean_cost: float) -> tuple[Tensor, float]:
    """Return each token's best route at the price at which the mean cost is as given, or less.

    Args:
        losses: (tokens, routes): the true ones for the oracle, predicted ones for a router.
        costs: Of each route, (routes,).
        mean_cost: What tokens may cost on average.

    Returns:
        Routes, int64, (tokens,), and the price, in loss per unit of cost.
    """
    low, high = 0.0, 1.0
    scale = costs.double() / costs.max()

    def pick(price: float) -> Tensor:
        return (losses.double() + price * scale).argmin(dim=-1)

    while float(costs[pick(high)].double().mean()) > mean_cost and high < 2.0**20:
        low, high = high, 2.0 * high
    for _ in range(40):
        price = 0.5 * (low + high)
        if float(costs[pick(price)].double().mean()) > mean_cost:
            low = price
        else:
            high = price
    return pick(high), high / float(costs.max())


def random_routes(costs: Tensor, mean_cost: float, tokens: int, seed: int = 0) -> Tensor:
    """Draw routes without looking, with the mean cost given: int64, (tokens,).

    Of all distributions with this mean the one with the largest entropy.
    """
    scale = costs.double() / costs.max()
    low, high = -200.0, 200.0
    for _ in range(60):
        tilt = 0.5 * (low + high)
        weights = torch.softmax(tilt * scale, dim=0)
        low, high = (tilt, high) if float((weights * costs).sum()) < mean_cost else (low, tilt)
    generator = torch.Generator().manual_seed(seed)
    return torch.multinomial(weights, tokens, replacement=True, generator=generator)


@dataclass(frozen=True)
class Routed:
    """Every token starts on the core; the router names the route on which it goes on.

    Attributes:
        router: Trained; the paths of the decoder are `list_routes`.
        costs: Of each route, (routes,).
        price: Bits that one multiply-accumulate is worth, see `pick_routes`.
    """

    router: Router
    costs: Tensor
    price: float
    exit_logits: ClassVar[bool] = False

    def start(self, rows: int) -> Controller:
        """Return it; there is nothing to remember."""
        return _Routed(self, rows)


class _Routed(AskOnce):
    def __init__(self, policy: Routed, rows: int) -> None:
        super().__init__(rows)
        self._policy = policy

    def pick(self, now: Signals) -> Tensor:
        losses = self._policy.router(now.stream) + self._policy.price * self._policy.costs
        route: Tensor = losses.argmin(dim=-1)
        return route
