"""Expert layers in torch: against a loop over tokens, one expert after the other."""

from __future__ import annotations

import copy

import pytest
import torch
from experts.bundles import DIM, make_chain, make_net
from torch import Tensor

from nestling.errors import ModelError
from nestling.experts.bank import ExpertBank, run_expert
from nestling.experts.layer import ExpertFeedForward, make_expert_layer, select_task
from nestling.experts.operator import experts, resident_experts
from nestling.experts.routing import (
    load_balance_loss,
    record_routing,
    route,
    router_z_loss,
    routing_loss,
)
from nestling.partition.chain import Chain


def by_hand(bank: ExpertBank, hidden: Tensor, scores: Tensor) -> Tensor:
    """Token by token, by the definition."""
    rows = []
    matrices = bank.matrices()
    for h, s in zip(hidden, scores, strict=True):
        p = torch.exp(s - s.max())
        p = p / p.sum()
        best = sorted(range(len(s)), key=lambda e: (-float(s[e]), e))[: bank.top_k]
        total = sum(float(p[e]) for e in best) if bank.renormalise else 1.0
        y = torch.zeros_like(h)
        for e in best:
            y = y + p[e] / total * run_expert(matrices.expert(e), h[None], bank.activation)[0]
        rows.append(y)
    return torch.stack(rows)


@pytest.mark.parametrize("which", [0, 1])
def test_grouped_experts_are_those_of_the_definition(which: int) -> None:
    layer = make_net().layers[which]
    hidden = torch.randn(23, DIM)
    scores = torch.randn(23, layer.bank.experts)
    scores[3] = 0.0  # all equal: the lower numbers
    scores[5, 2:5] = 4.0
    found = layer.bank(hidden, scores)
    torch.testing.assert_close(found, by_hand(layer.bank, hidden, scores), rtol=1e-5, atol=1e-5)
    _, chosen = route(scores, 2, True)
    assert chosen[3].tolist() == [0, 1] and chosen[5].tolist() == [2, 3]


def test_gradients_are_those_of_the_definition() -> None:
    layer = make_expert_layer(DIM, 24, 6, 2, name="a")
    other = copy.deepcopy(layer)
    hidden = torch.randn(9, DIM)
    layer.bank(hidden, layer.routers["router"](hidden)).square().sum().backward()
    by_hand(other.bank, hidden, other.routers["router"](hidden)).square().sum().backward()
    pairs = zip(layer.named_parameters(), other.parameters(), strict=True)
    assert layer.bank.up.grad is not None
    for (name, parameter), same in pairs:
        if same.grad is not None and "router" not in name:  # by hand, probabilities are numbers
            torch.testing.assert_close(parameter.grad, same.grad, rtol=1e-4, atol=1e-5)


def test_the_block_the_plain_module_and_the_stages_are_one_thing() -> None:
    net = make_net()
    x = torch.randn(1, 4, DIM)
    chain = make_chain(net, 4)
    results = {}
    for task in ("even", "odd"):
        select_task(net, task)
        results[task] = net(x)
        y = net.stem(x)
        for layer in net.layers:
            y = layer.dense(1)(y)
        torch.testing.assert_close(net.head(y), results[task], rtol=0, atol=0)
        found = run_chain(chain, task, x, chain.banks())
        torch.testing.assert_close(found, results[task], rtol=0, atol=1e-6)
    assert float((results["even"] - results["odd"]).abs().max()) > 0.01
    with pytest.raises(ModelError, match="task"):
        select_task(net, "prime")


def run_chain(chain: Chain, path: str, x: Tensor, layers: list[ExpertBank]) -> Tensor:
    slots = {"hidden": x}
    with resident_experts(layers):
        for name in chain.paths[path].stages:
            stage = chain.stages[name]
            slots[stage.outputs[0]] = stage.module(*(slots[slot] for slot in stage.inputs))
    return slots["logits"]


def test_the_operator_names_layers_that_nobody_made_known() -> None:
    with pytest.raises(ModelError, match="resident_experts"):
        experts(torch.zeros(1, 2), torch.zeros(1, 2), 0)


def test_losses_are_smallest_when_experts_share_the_work() -> None:
    even = torch.eye(4).repeat(5, 1) * 9
    chosen = route(even, 1, False)[1]
    assert float(load_balance_loss(even, chosen)) == pytest.approx(1.0)
    crowd = torch.eye(4)[:1].repeat(20, 1) * 9
    assert float(load_balance_loss(crowd, route(crowd, 1, False)[1])) > 3.9
    expected = (torch.log(torch.exp(even).sum(1)) ** 2).mean()
    torch.testing.assert_close(router_z_loss(even), expected)


def test_training_uses_all_experts() -> None:
    """A loss on the output alone lets experts die; with the balance loss none does."""
    torch.manual_seed(0)
    layer = make_expert_layer(16, 16, 8, 1, name="a", renormalise=True)
    with torch.no_grad():
        layer.routers["router"].weight[0] += 1.0  # type: ignore[index]
    inputs = torch.rand(256, 16) + 0.5
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.02)
    for _ in range(60):
        with record_routing(layer) as calls:
            loss = (layer(inputs) - inputs.roll(1, dims=1)).square().mean()
            optimizer.zero_grad()
            (loss + routing_loss(calls, balance=0.5)).backward()
        optimizer.step()
    with torch.no_grad(), record_routing(layer) as calls:
        layer(inputs)
    assert len(calls[0].chosen.unique()) == 8
    assert layer.listener is None
    copy.deepcopy(layer)


def test_a_chain_refuses_what_it_cannot_mean() -> None:
    net = make_net()
    chain = make_chain(net)
    for wrong, match in (
        (lambda: chain.add_slot("x", torch.zeros(1)), "one name"),
        (lambda: chain.add_slot("rows", torch.zeros(1), append="x"), "state"),
        (lambda: chain.add_stage("a", net.head, ["y"], ["x"], "head"), "slot"),
        (lambda: chain.add_stage("a", net.head, ["x"], ["x"], "tail"), "position"),
        (lambda: chain.add_path("b", ["stem", "tail"]), "stage"),
        (lambda: chain.add_expert_stage("c", net.first, "x", "first", task="prime"), "task"),
    ):
        with pytest.raises(ModelError, match=match):
            wrong()
    other = ExpertFeedForward(net.first.bank, name="first")
    with pytest.raises(ModelError, match="names of their own"):
        chain.number_experts(other)


def test_macs_and_parameters_count_the_chosen_and_all_experts() -> None:
    net = make_net()
    chain = make_chain(net)
    gated, plain = (layer.bank for layer in net.layers)
    shared = 3 * DIM * 16
    assert (
        chain.stages["first.even"].macs
        == DIM * 8 + shared + 2 * 3 * DIM * 48
        == (DIM * gated.experts + shared + gated.macs)
    )
    assert chain.stages["second.even"].macs == DIM * plain.experts + plain.macs
    stages = [net.stem, net.head, net.first.norm, net.second.norm]
    own = sum(p.numel() for module in stages for p in module.parameters())
    routers = 2 * DIM * 8
    banks = sum(p.numel() for bank in (gated, plain) for p in bank.parameters())
    assert chain.paths["even"].parameters == own + routers + shared + banks
