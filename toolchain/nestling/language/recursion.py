"""How often a token visits shared layers: a router that says so, and its training.

Source: Bae et al., Mixture-of-Recursions, arXiv 2507.10524, token-choice routing; see
`nestling.elastic.families.recursive` for the network, and why not expert-choice.

The network learns all numbers of visits by `train_language`, as any decoder with exits does. The
losses here are added to its own, and reach network and router::

    losses = VisitLosses(supernet, VisitTraining())
    train_language(supernet, texts, config, more_losses=losses)
    policy = ChosenVisits(supernet.router)           # in torch, of supernet.visit_paths()
    policy = RouteChoice(**native_routes(supernet))  # in the runtime
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nestling.elastic.families.recursive import RecursiveLlama, VisitRouter
from nestling.elastic.supernet import split_stem
from nestling.language.decoder import Signals
from nestling.language.policies import AskOnce, Controller


@dataclass(frozen=True)
class VisitTraining:
    """How the router is trained.

    Attributes:
        price: Nats that a visit behind the first must save to be worth it.
        balance: Weight of the loss that evens out how often each number of visits is chosen.
        score_size: Weight of the squared log of the scores' sum, which keeps scores small.
        rows: Windows of a batch that it sees; the first ones.
    """

    price: float = 0.05
    balance: float = 0.1
    score_size: float = 1e-3
    rows: int = 4


def visit_streams(supernet: RecursiveLlama, tokens: Tensor) -> list[Tensor]:
    """Return the streams behind each visit, (windows, length, dim), of tokens on the full path."""
    supernet.select(supernet.space.full())
    x, context = split_stem(supernet.stem(tokens))
    first, count = supernet.shared
    streams = []
    for index, block in enumerate(supernet.chain, 1):
        x = block(x, *context)
        if index > first and (index - first) % count == 0:
            streams.append(x)
    return streams


def balance_loss(probabilities: Tensor) -> Tensor:
    """Return 1 where all numbers of visits are chosen evenly, more where they are not.

    Args:
        probabilities: (tokens, visits). The share of tokens for which a number is the likeliest,
            times its mean probability, summed over all numbers, times how many there are.
    """
    visits = probabilities.shape[-1]
    chosen = F.one_hot(probabilities.argmax(dim=-1), visits).to(probabilities).mean(dim=0)
    return visits * (chosen * probabilities.mean(dim=0)).sum()


class VisitLosses:
    """Losses of a router and of the network under it, for `train_language`.

    `visits` is what a token loses on average if its visits are drawn as the router says, the price
    of visits included: gradients move the router to numbers that pay, and every number of visits
    to the tokens that are given to it.

    Args:
        supernet: Whose router is trained.
        config: See there.
    """

    def __init__(self, supernet: RecursiveLlama, config: VisitTraining) -> None:
        self._supernet = supernet
        self._config = config

    def __call__(self, tokens: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return weighted losses of int64 (windows, length)."""
        config, supernet = self._config, self._supernet
        tokens, targets = tokens[: config.rows], targets[: config.rows]
        streams = visit_streams(supernet, tokens)
        scores = supernet.router(streams[0]).flatten(0, 1)
        likely = scores.softmax(dim=-1)
        losses = torch.stack(
            [
                F.cross_entropy(supernet.head(x).flatten(0, 1), targets.flatten(), reduction="none")
                for x in streams
            ],
            dim=-1,
        )
        costs = config.price * torch.arange(len(streams), device=tokens.device)
        return {
            "visits": (likely * (losses + costs)).sum(dim=-1).mean(),
            "balance": config.balance * balance_loss(likely),
            "score_size": config.score_size * scores.logsumexp(dim=-1).square().mean(),
        }


def native_routes(supernet: RecursiveLlama) -> dict[str, Any]:
    """Return the router as arguments of `nestling_runtime.RouteChoice`.

    It is asked where a token comes to its second visit, and its routes are numbers of visits. What
    the native policy calls loss is a score with its sign changed.
    """
    _, count = supernet.shared
    full = [block.spec.levels for block in supernet.chain[-count * (supernet.visits - 1) :]]
    levels = np.zeros((supernet.visits, len(full) // 2), dtype=np.uint8)
    for visits in range(supernet.visits):
        kept = count // 2 * visits
        levels[visits, :kept] = full[1 : 2 * kept : 2]
    router = supernet.router
    arrays = {
        "hidden_weight": router.hidden.weight,
        "hidden_bias": router.hidden.bias,
        "output_weight": -router.output.weight,
        "output_bias": -router.output.bias,
    }
    floats = {name: value.detach().float().numpy() for name, value in arrays.items()}
    return {**floats, "costs": np.zeros(supernet.visits, dtype=np.float32), "levels": levels}


@dataclass(frozen=True)
class ChosenVisits:
    """Every token visits once; then the router names its path, which goes on from there.

    Attributes:
        router: Trained; the paths of the decoder are `RecursiveLlama.visit_paths`.
    """

    router: VisitRouter
    exit_logits: ClassVar[bool] = False

    def start(self, rows: int) -> Controller:
        """Return it; there is nothing to remember."""
        return _ChosenVisits(self.router, rows)


class _ChosenVisits(AskOnce):
    def __init__(self, router: VisitRouter, rows: int) -> None:
        super().__init__(rows)
        self._router = router

    def pick(self, now: Signals) -> Tensor:
        path: Tensor = self._router(now.stream).argmax(dim=-1)
        return path
