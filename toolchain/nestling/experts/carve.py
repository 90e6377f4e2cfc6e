"""Carve a dense feed-forward block into a shared expert and routed ones, without training.

CMoE (Pei et al., arXiv:2502.04416): a neuron is active for a token if its activation is among the
token's largest. Neurons that are active most often make the shared expert; the others are grouped,
by when they are active, into experts of equal size. An expert is as wanted as one of its neurons,
the one nearest to the group's centre, is strong: the router computes that neuron alone. Chosen
experts add up with weight one, so that all of them together are the dense block.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]
from torch import Tensor, nn

from nestling.elastic.block import own_parameter
from nestling.elastic.families.llama import ElasticLlama
from nestling.elastic.feed_forward import ElasticFeedForward, FeedForward
from nestling.elastic.subnet import Subnet
from nestling.errors import ModelError
from nestling.experts.bank import ExpertShape, StackedExperts
from nestling.experts.decoder import ExpertLlama
from nestling.experts.layer import ONLY_TASK, ExpertFeedForward
from nestling.experts.routing import RepresentativeRouter

_ITERATIONS = 8


@dataclass(frozen=True)
class Carving:
    """How to carve.

    Attributes:
        experts: Routed experts of a block.
        top_k: Experts that each token takes.
        shared_hidden: Neurons of the shared expert; the rest divides among the experts.
        active_share: Share of a token's neurons that count as active.
        seed: Of the first centres.
    """

    experts: int
    top_k: int
    shared_hidden: int
    active_share: float = 0.1
    seed: int = 0


@dataclass(frozen=True)
class NeuronGroups:
    """Which neurons go where.

    Attributes:
        shared: int64 (shared neurons,).
        routed: int64 (experts, neurons of one).
        representatives: int64 (experts,), the neuron that speaks for each expert.
    """

    shared: Tensor
    routed: Tensor
    representatives: Tensor


def carve(block: ElasticFeedForward, inputs: Tensor, how: Carving) -> ExpertFeedForward:
    """Make an expert layer of a feed-forward block.

    Args:
        block: at full width; left unchanged.
        inputs: float32 (tokens, dim), what its norm gave for real data.
        how: see `Carving`.

    Raises:
        ModelError: neurons do not divide, or an output bias has no shared expert to be in.
    """
    routed = block.units - how.shared_hidden
    if routed <= 0 or routed % how.experts:
        raise ModelError(
            "the neurons that are not shared do not divide into experts",
            module=block.name,
            expected=f"{block.units} less the shared ones divisible by {how.experts}",
            actual=how.shared_hidden,
        )
    if block.down.bias is not None and not how.shared_hidden:
        raise ModelError("the output bias needs a shared expert", module=block.name)
    with torch.no_grad():
        groups = group_neurons(neuron_activations(block, inputs), how)
        return _build(block, groups, how)


def neuron_activations(block: ElasticFeedForward, inputs: Tensor) -> Tensor:
    """Return what the neurons of a block give for (tokens, dim): (tokens, neurons)."""
    hidden: Tensor = block.up(inputs)
    if block.gate is None:
        return block.activation(hidden)  # type: ignore[no-any-return]
    return block.activation(block.gate(inputs)) * hidden  # type: ignore[no-any-return]


def group_neurons(activations: Tensor, how: Carving) -> NeuronGroups:
    """Group neurons by when they are active.

    Args:
        activations: (tokens, neurons).
        how: see `Carving`.
    """
    tokens, neurons = activations.shape
    count = max(1, round(how.active_share * neurons))
    active = torch.zeros(tokens, neurons)
    active.scatter_(1, activations.abs().topk(count, dim=1).indices, 1.0)
    order = torch.argsort(active.mean(dim=0), descending=True, stable=True)
    shared, rest = order[: how.shared_hidden], order[how.shared_hidden :]
    patterns = active[:, rest].t().contiguous().numpy()
    labels, centres = _balanced_clusters(patterns, how.experts, how.seed)
    routed = torch.stack(
        [rest[torch.from_numpy(np.flatnonzero(labels == e))] for e in range(how.experts)]
    )
    nearest = []
    for expert in range(how.experts):
        members = np.flatnonzero(labels == expert)
        distance = ((patterns[members] - centres[expert]) ** 2).sum(axis=1)
        nearest.append(int(rest[int(members[distance.argmin()])]))
    return NeuronGroups(shared.sort().values, routed, torch.tensor(nearest))


def _balanced_clusters(
    points: NDArray[np.float32], clusters: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """k-means whose clusters are equally large: each step is an assignment problem.

    Args:
        points: (points, features); the points divide by the clusters.
        clusters: how many.
        seed: of the first centres.

    Returns:
        A cluster for each point, and the centres (clusters, features).
    """
    size = len(points) // clusters
    start = np.random.default_rng(seed).choice(len(points), clusters, replace=False)
    centres = points[start]
    labels = np.zeros(len(points), np.int64)
    for step in range(_ITERATIONS):
        squares = (points**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1)[None]
        distance = squares - 2.0 * points @ centres.T
        places = linear_sum_assignment(np.repeat(distance, size, axis=1))[1]
        found = np.asarray(places, np.int64) // size
        if step and bool((found == labels).all()):
            break
        labels = found
        centres = np.stack([points[labels == c].mean(axis=0) for c in range(clusters)])
    return labels, centres


def _build(block: ElasticFeedForward, groups: NeuronGroups, how: Carving) -> ExpertFeedForward:
    dim = block.up.in_features
    gated, biased = block.gate is not None, block.up.bias is not None
    shape = ExpertShape(
        dim,
        groups.routed.shape[1],
        how.experts,
        how.top_k,
        activation=block.activation_name,
        gated=gated,
        bias=biased,
    )
    bank = StackedExperts(shape, block.name)
    # Routing weights are a softmax of scores that hardly differ, 1 / experts each.
    bank.down.copy_(block.down.weight[:, groups.routed].permute(1, 0, 2) * how.experts)
    for name, linear in (("up", block.up), ("gate", block.gate)):
        if linear is not None:
            getattr(bank, name).copy_(linear.weight[groups.routed])
            if biased:
                getattr(bank, f"{name}_bias").copy_(linear.bias[groups.routed])
    shared = None
    if how.shared_hidden:
        shared = FeedForward(
            up=_rows(block.up, groups.shared),
            down=_linear(block.down.weight[:, groups.shared], block.down.bias),
            activation=copy.deepcopy(block.activation),
            gate=None if block.gate is None else _rows(block.gate, groups.shared),
        )
    carved = ExpertFeedForward(
        bank,
        shared=shared,
        router=partial(
            RepresentativeRouter, activation=block.activation_name, gated=gated, bias=biased
        ),
        norm=copy.deepcopy(block.norm),
        name=block.name,
        layer=block.layer,
        skippable=block.skippable,
        dropout=block.dropout,
    )
    router = carved.routers[ONLY_TASK]
    assert isinstance(router, RepresentativeRouter)
    router.load(block.up, block.gate, groups.representatives)
    return carved.eval()


def _rows(linear: nn.Linear, neurons: Tensor) -> nn.Linear:
    bias = None if linear.bias is None else linear.bias[neurons]
    return _linear(linear.weight[neurons], bias)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = own_parameter(weight)
    if bias is not None:
        layer.bias = own_parameter(bias)
    return layer


def carve_decoder(supernet: ElasticLlama, text: Tensor, how: Carving) -> ExpertLlama:
    """Carve every elastic feed-forward block of a decoder, but for those of its core.

    Args:
        supernet: a dense decoder; left unchanged.
        text: int64 (windows, tokens), real text, in windows of the decoder's positions at most.
        how: see `Carving`; the same for all layers.

    Returns:
        A decoder of the same depths, at full width, that can be saved and loaded as any.

    Raises:
        ModelError: the decoder has experts, or its neurons do not divide.
    """
    if supernet.config is None or supernet.family != "llama":
        raise ModelError("only dense decoders are carved", actual=supernet.family)
    llama = {key: value for key, value in supernet.config.items() if key != "family"}
    dense = {
        index: block
        for index, block in enumerate(supernet.chain)
        if isinstance(block, ElasticFeedForward) and block.layer >= llama["core_layers"]
    }
    inputs = _record(supernet, dense, text)
    carved = {index: carve(block, inputs[index], how) for index, block in dense.items()}
    made = ExpertLlama(
        experts=how.experts,
        top_k=how.top_k,
        expert_hidden=next(iter(carved.values())).bank.hidden,
        shared_hidden=how.shared_hidden,
        representatives=True,
        **llama,
    )
    kept = made.state_dict()
    made.load_state_dict(
        {k: v for k, v in supernet.state_dict().items() if k in kept}, strict=False
    )
    for index, block in carved.items():
        made.chain[index].load_state_dict(block.state_dict())
    return made.eval()


def carved_paths(dense: ElasticLlama, carved: ExpertLlama) -> dict[str, Subnet]:
    """Return the named subnets of a dense decoder as those of the carved one.

    Layers of experts have one level, so of subnets that differed in their width the larger stays.
    """
    named: dict[Subnet, str] = {}
    for name, subnet in dense.space.named.items():
        pairs = zip(subnet.levels, carved.space.blocks, strict=True)
        named[Subnet(tuple(min(level, block.levels) for level, block in pairs))] = name
    return {name: subnet for subnet, name in named.items()}


def _record(
    supernet: ElasticLlama, blocks: dict[int, ElasticFeedForward], text: Tensor
) -> dict[int, Tensor]:
    """Return what the blocks' norms give on text, (tokens, dim) each."""
    found: dict[int, list[Tensor]] = {index: [] for index in blocks}
    hooks = [
        block.norm.register_forward_hook(
            lambda module, given, h, kept=found[index]: kept.append(h.detach().flatten(0, 1))
        )
        for index, block in blocks.items()
    ]
    before, training = supernet.active, supernet.training
    supernet.eval()
    try:
        with torch.no_grad():
            for window in text:
                supernet(window[None], subnet=supernet.space.full())
    finally:
        for hook in hooks:
            hook.remove()
        supernet.select(before)
        supernet.train(training)
    return {index: torch.cat(parts) for index, parts in found.items()}
