"""Integer linears against float arithmetic on the weights that they stand for."""

from __future__ import annotations

import pickle

import pytest
import torch
from export.oracle import Bottleneck, Mlp, run_plain, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nestling.errors import ExportError, ModelError
from nestling.quantize.dynamic import quantize_linears, require_linears
from nestling.quantize.linear import NIBBLE_LIMIT, NibbleLinear, RowQuantizedLinear, row_scales
from nestling.quantize.schemes import SCHEMES, get_scheme
from nestling.quantize.static import quantize_static, trace_float

DYNAMIC = [s for s in SCHEMES.values() if s.activations == "dynamic"]
CASES = [(scheme, bits) for scheme in DYNAMIC for bits in scheme.levels]


@pytest.mark.parametrize(("scheme", "bits"), CASES, ids=lambda v: getattr(v, "name", v))
def test_eager_module_is_what_executorch_computes(scheme, bits):
    torch.manual_seed(0)
    module = quantize_linears(Mlp().eval(), scheme, bits)
    x = seeded(1, 9, 32)
    # Rounding of activations may fall on the other side in one token: a step of one int8 level.
    torch.testing.assert_close(run_plain(module, x), module(x), atol=5e-3, rtol=1e-3)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(1, 24), st.integers(0, 2**31))
def test_nibbles_add_up_to_the_int8_weight(rows, columns, seed):
    linear = nn.Linear(columns, rows)
    with torch.no_grad():
        linear.weight.copy_(seeded(rows, columns, seed=seed))
    layer = NibbleLinear(linear, bits=8)
    assert layer.low is not None
    whole = 16 * layer.high.weight.int() + layer.low.weight.int()
    expected = torch.round(linear.weight / row_scales(linear.weight, NIBBLE_LIMIT)[:, None])
    assert torch.equal(whole, expected.int())
    for half in (layer.high, layer.low):
        assert half.weight.min() >= -8
        assert half.weight.max() <= 7
    torch.testing.assert_close(layer.high.scale, 16 * layer.low.scale)


def test_high_nibbles_are_the_same_bytes_at_both_precisions():
    linear = nn.Linear(32, 16)
    four, eight = NibbleLinear(linear, bits=4), NibbleLinear(linear, bits=8)
    assert four.low is None
    assert torch.equal(four.high.weight, eight.high.weight)
    assert torch.equal(four.high.scale, eight.high.scale)


@pytest.mark.parametrize("bits", [4, 8])
def test_row_quantisation_errs_by_half_a_step_at_most(bits):
    linear = nn.Linear(32, 16)
    layer = RowQuantizedLinear.from_linear(linear, bits)
    restored = layer.weight * layer.scale[:, None]
    assert ((restored - linear.weight).abs() <= layer.scale[:, None] / 2 + 1e-6).all()


def test_group_scheme_falls_back_to_rows_where_inputs_do_not_divide():
    scheme = get_scheme("int4-group32")
    quantized = quantize_linears(nn.Linear(20, 8), scheme, 4)
    assert isinstance(quantized, RowQuantizedLinear)


def test_static_quantisation_stays_close_and_survives_pickling():
    torch.manual_seed(0)
    module = Bottleneck().eval()
    samples = [(seeded(1, 8, 6, 6, seed=i),) for i in range(8)]
    quantized = quantize_static(trace_float(module, samples), samples)
    x = samples[0][0]
    with torch.no_grad():
        span = float(module(x).max() - module(x).min())
    assert float((quantized(x) - module(x)).abs().max()) < 0.03 * span
    again = pickle.loads(pickle.dumps(quantized))
    assert torch.equal(again(x), quantized(x))
    # One step of the output grid: XNNPACK rounds its requantisation differently from the reference.
    torch.testing.assert_close(run_plain(quantized, x), quantized(x), atol=span / 100, rtol=0)


def test_static_quantisation_wants_samples():
    with pytest.raises(ExportError, match="calibration"):
        trace_float(Bottleneck().eval(), [])


def test_a_model_without_linears_is_refused_by_name():
    with pytest.raises(ModelError, match="int8-static") as caught:
        require_linears(nn.Sequential(Bottleneck()), get_scheme("int8-dynamic"))
    assert caught.value.module == "0.expand"


def test_unknown_scheme_lists_the_known_ones():
    with pytest.raises(ExportError, match="int8-nibble"):
        get_scheme("int3")
