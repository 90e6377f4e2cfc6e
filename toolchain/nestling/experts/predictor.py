"""Guess which experts a later layer will want: its router applied ahead, corrected linearly.

The early alignment of M2R2 (arXiv:2502.02040) for experts: the stream changes slowly from layer to
layer, so a later router's scores are nearly known from the input of an earlier layer's experts, and
what is left of the difference is fitted by ridge regression on recorded inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from nestling.errors import ModelError
from nestling.experts.index import Predictor
from nestling.experts.layer import ExpertFeedForward
from nestling.experts.routing import Router, Routing

RIDGE = 1e-2
"""Penalty on the correction, in units of the mean square of the inputs."""


def fit_predictors(
    layers: Mapping[str, ExpertFeedForward], calls: Sequence[Routing], *, ridge: float = RIDGE
) -> list[Predictor | None]:
    """Fit a predictor from each layer to the one behind it.

    Args:
        layers: by name, in the order of their numbers.
        calls: what :func:`nestling.experts.routing.record_routing` gave for real inputs.
        ridge: see `RIDGE`; large: the later router as it is, without a correction.

    Returns:
        One entry a layer, None for the last.

    Raises:
        ModelError: the calls of two neighbours do not belong together.
    """
    found: list[Predictor | None] = []
    for number, (first, second) in enumerate(pairwise(layers), 1):
        inputs = [call.hidden.detach() for call in calls if call.layer == first]
        wanted = [call.scores.detach() for call in calls if call.layer == second]
        counts = [sum(map(len, tensors)) for tensors in (inputs, wanted)]
        if counts[0] != counts[1] or not counts[0]:
            raise ModelError(
                "two expert layers were not recorded on the same tokens",
                module=second,
                expected=f"{counts[0]} tokens" if counts[0] else "tokens",
                actual=counts[1],
            )
        hidden, scores = torch.cat(inputs), torch.cat(wanted)
        router = _router_ahead(layers[second], hidden.shape[1])
        found.append(_fit(number, hidden.double(), scores.double(), router.double(), ridge))
    return [*found, None] if layers else []


def agreement(predictor: Predictor, hidden: Tensor, chosen: Tensor) -> float:
    """Return the share of chosen experts that are among as many guessed ones.

    Args:
        predictor: of a layer.
        hidden: (tokens, dim), input of the layer's experts.
        chosen: int64 (tokens, top_k), what the predicted layer then chose.
    """
    guess = hidden @ predictor.weight.t() + predictor.bias
    best = guess.topk(chosen.shape[1], dim=1).indices
    return float((chosen[:, :, None] == best[:, None]).any(dim=2).float().mean())


def _router_ahead(layer: ExpertFeedForward, dim: int) -> Tensor:
    """Return (experts, dim): the layer's router where it is one product, else zeros."""
    routers = list(layer.routers.values())
    if len(routers) == 1 and isinstance(routers[0], Router):
        return routers[0].weight.detach()
    return torch.zeros(layer.bank.experts, dim)


def _fit(number: int, hidden: Tensor, scores: Tensor, router: Tensor, ridge: float) -> Predictor:
    missing = scores - hidden @ router.t()
    mean, offset = hidden.mean(dim=0), missing.mean(dim=0)
    x, y = hidden - mean, missing - offset
    gram = x.t() @ x
    penalty = max(ridge * float(gram.diagonal().mean()), 1e-12)
    correction = torch.linalg.solve(gram + penalty * torch.eye(len(gram)).double(), x.t() @ y).t()
    bias = offset - correction @ mean
    return Predictor(number, (router + correction).float(), bias.float())
