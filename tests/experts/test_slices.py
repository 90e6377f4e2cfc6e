"""The bytes of experts against a second reader; nibbles against their definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from experts.bundles import DIM, NIBBLES, make_chain, make_net
from experts.reference import Sections
from hypothesis import given, settings
from hypothesis import strategies as st

from nestling.errors import ModelError
from nestling.experts.bank import ExpertShape, StackedExperts
from nestling.experts.index import IndexedLayer, Predictor, encode_experts
from nestling.experts.slices import F32, ExpertFormat, NibbleMatrix


@pytest.mark.parametrize("form", [F32, NIBBLES])
def test_a_second_reader_finds_every_expert(form: ExpertFormat) -> None:
    chain = make_chain(make_net())
    predictor = Predictor(1, torch.randn(8, DIM), torch.randn(8))
    layers = [
        IndexedLayer("first", chain.banks()[0], predictor),
        IndexedLayer("second", chain.banks()[1]),
    ]
    sections = Sections(encode_experts(layers, form))
    assert sections.slices == form.slices
    first, second = sections.layers
    assert (first.flags, first.activation, first.predicted) == (1 | 2, 0, 1)
    assert (second.flags, second.activation, second.predicted) == (4, 1, 0xFFFFFFFF)
    assert (first.first, second.first, first.top_k) == (0, 8, 2)
    weight, bias = sections.predictor(first)
    np.testing.assert_array_equal(weight, predictor.weight.numpy())
    np.testing.assert_array_equal(bias, predictor.bias.numpy())
    for layer, bank in zip(sections.layers, chain.banks(), strict=True):
        for number, expert in enumerate(bank.matrices().each()):
            weights, biases = sections.matrices(layer, number, 8)
            given_weights = [m for m in (expert.gate, expert.up, expert.down) if m is not None]
            given_biases = [b for b in (expert.up_bias, expert.down_bias) if b is not None]
            for found, exact in zip(weights, given_weights, strict=True):
                groups = exact.reshape(len(exact), -1, form.group or 1)
                step = 0.0 if not form.group else groups.abs().amax(2, keepdim=True) / 119 * 0.51
                error = torch.tensor(found).reshape(groups.shape) - groups
                assert bool((error.abs() <= step).all())
            for found, exact in zip(biases, given_biases, strict=True):
                np.testing.assert_array_equal(found, exact.numpy())


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 5),
    groups=st.integers(1, 3),
    half=st.integers(1, 8),
    exponent=st.integers(-30, 15),
    seed=st.integers(0, 1000),
)
def test_nibbles_nest_and_round_to_the_nearest(
    rows: int, groups: int, half: int, exponent: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    group = 2 * half
    weight = torch.randn(rows, groups * group, generator=generator) * 2.0**exponent
    made = NibbleMatrix.quantize(weight, group)
    q = 16 * made.high.int() + made.low.int()
    assert int(made.high.min()) >= -8 and int(made.high.max()) <= 7
    assert int(made.low.min()) >= -8 and int(made.low.max()) <= 7
    assert int(q.abs().max()) <= 119
    step = made.scale.float().repeat_interleave(group, dim=1)
    assert bool(((made.weight(8) - weight).abs() <= step * 0.5001).all())
    assert bool(((made.weight(4) - weight).abs() <= step * 8.5001).all())


def test_products_of_nibbles_are_those_of_their_weights() -> None:
    """With activations that are whole already, nothing is rounded."""
    generator = torch.Generator().manual_seed(4)
    made = NibbleMatrix.quantize(torch.randn(6, 32, generator=generator), 8)
    x = torch.randint(-126, 127, (5, 32), generator=generator).float()
    x[:, ::8] = 127.0
    x[2, 8:16] = 0.0
    for bits in (4, 8):
        expected = x.double() @ made.weight(bits).double().t()
        found = made.product(x, bits, None)
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-3)


def test_what_cannot_be_stored_is_refused_by_name() -> None:
    bank = StackedExperts(ExpertShape(32, 24, 2, 1))
    for group in (7, 32):
        with pytest.raises(ModelError, match="group"):
            encode_experts([IndexedLayer("deep", bank)], ExpertFormat(group))
    wrong = Predictor(0, torch.zeros(3, 32), torch.zeros(3))
    with pytest.raises(ModelError, match="deep"):
        encode_experts([IndexedLayer("deep", bank, wrong)], F32)
    odd = StackedExperts(ExpertShape(32, 24, 2, 1, activation="tanh"))
    with pytest.raises(ModelError, match="activation"):
        encode_experts([IndexedLayer("deep", odd)], F32)
    with torch.no_grad():
        bank.up[1, 2, 3] = torch.inf
    with pytest.raises(ModelError, match="finite"):
        encode_experts([IndexedLayer("deep", bank)], ExpertFormat(8))
