"""Exported networks with experts on the engine, against eager torch: each path and precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Literal

import numpy as np
import pytest
import torch
from experts.bundles import (
    DECODER_SHAPE,
    DIM,
    NIBBLES,
    TOKENS,
    VOCABULARY,
    export_decoder_net,
    export_net,
    make_chain,
    make_decoder,
    make_net,
)
from language_native.test_quantised import run_stages
from torch import Tensor

import nestling_runtime
from nestling.experts.operator import resident_experts
from nestling.experts.slices import F32, ExpertFormat, QuantizedExperts
from nestling.partition.chain import Chain
from nestling.partition.decoder import cut_decoder
from nestling.quantize.schemes import get_scheme
from nestling_runtime import Model

FORMATS = {"f32": F32, "nibbles": NIBBLES}


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Model]]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("engine")
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(
                nestling_runtime.open(
                    export_net(make_net(), folder / f"{name}.nest", tokens=TOKENS, experts=form),
                    threads=1,
                )
            )
            for name, form in FORMATS.items()
        }


@pytest.fixture(scope="session")
def decoder_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("engine") / "decoder.nest"
    with nestling_runtime.open(
        export_decoder_net(make_decoder(), path, experts=NIBBLES), threads=1
    ) as model:
        yield model


def reference(chain: Chain, path: str, x: Tensor, form: ExpertFormat, bits: int) -> np.ndarray:
    """What a path gives in torch, its experts in the arithmetic of the device."""
    banks = chain.banks()
    layers = [QuantizedExperts(b, form, bits) for b in banks] if form.group else banks
    slots = {"hidden": x}
    with torch.no_grad(), resident_experts(layers):
        for name in chain.paths[path].stages:
            stage = chain.stages[name]
            slots[stage.outputs[0]] = stage.module(*(slots[slot] for slot in stage.inputs))
    return slots["logits"].numpy()


@pytest.mark.parametrize(("name", "bits"), [("f32", 8), ("nibbles", 8), ("nibbles", 4)])
def test_every_path_computes_its_network(
    models: dict[str, Model], name: str, bits: Literal[4, 8]
) -> None:
    """Whatever the order of the tokens, and with memory for all experts or for few."""
    model, form = models[name], FORMATS[name]
    chain = make_chain(make_net(), TOKENS)
    x = torch.randn(1, TOKENS, DIM, generator=torch.Generator().manual_seed(3))
    expected = {path: reference(chain, path, x, form, bits) for path in chain.paths}
    assert float(np.abs(expected["even"] - expected["odd"]).max()) > 0.01
    assert model.experts is not None
    slot = model.experts.slot_bytes
    for order, budget in (("cache", 0), ("queue", 2 * form.slices * slot), ("auto", 4 * slot)):
        model.experts.configure(order=order, bits=bits, budget_bytes=budget)
        with model.session() as session:
            for path in chain.paths:
                session.select(path)
                found = session.run(hidden=x.numpy())["logits"]
                np.testing.assert_allclose(found, expected[path], rtol=1e-4, atol=1e-4)


def test_a_decoder_computes_its_network_token_by_token(decoder_model: Model) -> None:
    """With room for a quarter of the experts and a prompt that is read in chunks."""
    net = make_decoder()
    pieces = cut_decoder(net, get_scheme("fp32"), DECODER_SHAPE)
    tokens = torch.randint(VOCABULARY, (20,)).tolist()
    layers = [QuantizedExperts(bank, NIBBLES) for bank in pieces.banks()]
    with torch.no_grad(), resident_experts(layers):
        expected = run_stages(pieces, "full", tokens).numpy()
    experts = decoder_model.experts
    assert experts is not None
    experts.configure(budget_bytes=experts.slot_bytes * 2 * 2 * 8 // 4)
    with decoder_model.decoder() as decoder:
        decoder.append(tokens[:9])
        for position, token in enumerate(tokens[9:], 8):
            found = decoder.logits("full")
            np.testing.assert_allclose(found, expected[position], rtol=1e-3, atol=1e-3)
            decoder.append([token])
    statistics = experts.statistics()
    assert statistics.misses and statistics.evictions
