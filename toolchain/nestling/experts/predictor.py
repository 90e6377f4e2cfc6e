"""Guess which experts a later layer will want: its router applied ahead, corrected linearly.

The early alignment of M2R2 (arXiv:2502.02040) for experts: the stream changes slowly from layer to
layer, so a later router's scores are nearly known from the input of an earlier layer's experts, and
what is left of the difference is fitted by ridge regression on recorded inputs. Scores of experts
that nobody would choose do not matter: from there on the choice itself is made likely.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from nestling.errors import ModelError
from nestling.experts.index import Predictor
from nestling.experts.layer import ExpertFeedForward
from nestling.experts.routing import Router, Routing

RIDGE = 1e-3
"""Penalty on the correction, in units of the mean square of the inputs."""

_ROUNDS, _STEPS = 5, 20
_HELD_OUT = 5  # one token in so many, the last ones, says what is best


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
        fitted = _fit(number, hidden.double(), scores.double(), router.double(), ridge)
        chosen = torch.cat([call.chosen for call in calls if call.layer == second])
        found.append(_sharpen(fitted, hidden, chosen))
    return [*found, None] if layers else []


def agreement(predictor: Predictor, hidden: Tensor, chosen: Tensor) -> float:
    """Return the share of chosen experts that are among as many guessed ones.

    Args:
        predictor: of a layer.
        hidden: (tokens, dim), input of the layer's experts.
        chosen: int64 (tokens, top_k), what the predicted layer then chose.
    """
    guess = F.linear(hidden, predictor.weight, predictor.bias)
    best = guess.topk(chosen.shape[1], dim=1).indices
    return float((chosen[:, :, None] == best[:, None]).any(dim=2).float().mean())


def _sharpen(predictor: Predictor, hidden: Tensor, chosen: Tensor) -> Predictor:
    """Go on from a regression towards the chosen experts, and keep what is best for unseen tokens.

    Args:
        predictor: fitted on all tokens.
        hidden: (tokens, dim).
        chosen: int64 (tokens, top_k).
    """
    held_out = len(hidden) // _HELD_OUT
    if not held_out:
        return predictor
    (x, unseen), (wanted, judge) = (
        torch.split(tensor, [len(hidden) - held_out, held_out]) for tensor in (hidden, chosen)
    )
    weight = predictor.weight.clone().requires_grad_()
    bias = predictor.bias.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=_STEPS, history_size=10, line_search_fn="strong_wolfe"
    )

    def loss() -> float:
        optimizer.zero_grad()
        likelihood = torch.log_softmax(F.linear(x, weight, bias), dim=1).gather(1, wanted).mean()
        (-likelihood).backward()  # type: ignore[no-untyped-call]
        return -float(likelihood.detach())

    best = agreement(predictor, unseen, judge)
    for _ in range(_ROUNDS):
        with torch.enable_grad():
            optimizer.step(loss)  # type: ignore[no-untyped-call]
        tried = replace(predictor, weight=weight.detach().clone(), bias=bias.detach().clone())
        found = agreement(tried, unseen, judge)
        if found > best:
            best, predictor = found, tried
    return predictor


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
