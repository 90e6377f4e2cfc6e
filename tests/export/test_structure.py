"""A template filled with weights is the program that direct lowering gives."""

from __future__ import annotations

import pytest
import torch
from export.oracle import Bottleneck, Mlp, seeded
from torch import nn

from nestling.quantize.dynamic import quantize_linears
from nestling.quantize.schemes import get_scheme
from nestling.quantize.static import quantize_static, trace_float
from nestling.targets.cache import LoweringCache, cache_key
from nestling.targets.lowered import LoweredProgram
from nestling.targets.pool import Job, StaticJob, lower_all, quantize_all
from nestling.targets.structure import (
    Template,
    has_static_ranges,
    make_template,
    structure_digest,
)
from nestling.targets.xnnpack.lower import lower_program, trace

SEQUENCE = (seeded(1, 5, 32),)
IMAGE = (seeded(1, 8, 6, 6),)


def quantized(name: str, bits: int = 8) -> nn.Module:
    return quantize_linears(Mlp().eval(), get_scheme(name), bits)


def models():
    torch.manual_seed(1)
    return {
        "fp32": (Mlp().eval(), SEQUENCE),
        "without_bias": (Mlp(bias=False).eval(), SEQUENCE),
        "convolutions": (Bottleneck().eval(), IMAGE),
        "int8-dynamic": (quantized("int8-dynamic"), SEQUENCE),
        "int4-group32": (quantized("int4-group32", 4), SEQUENCE),
        "int8-nibble": (quantized("int8-nibble"), SEQUENCE),
    }


@pytest.mark.parametrize("name", models())
def test_template_equals_direct_lowering(name):
    module, inputs = models()[name]
    program = trace(module, inputs)
    weights = {key: value.clone() for key, value in program.state_dict.items()}
    template = make_template(program, lower_program)
    assert template is not None
    for key, value in program.state_dict.items():
        assert torch.equal(value, weights[key]), "lowering a template changed the weights"
    assert Template.from_bytes(template.to_bytes()).fill(program) == lower_program(program)


def test_structure_ignores_weights_and_sees_shapes():
    first = structure_digest(trace(Mlp().eval(), SEQUENCE))
    assert structure_digest(trace(Mlp().eval(), SEQUENCE)) == first
    assert structure_digest(trace(Mlp(hidden=96).eval(), SEQUENCE)) != first
    assert structure_digest(trace(Mlp().eval(), (seeded(1, 6, 32),))) != first


def test_static_ranges_are_recognised():
    assert has_static_ranges(
        trace(quantize_static(trace_float(Bottleneck().eval(), [IMAGE]), [IMAGE]), IMAGE)
    )
    assert not has_static_ranges(trace(quantized("int8-dynamic"), SEQUENCE))


def test_cache_is_used_and_a_damaged_entry_is_made_again(tmp_path):
    job = Job("mlp", Mlp().eval(), SEQUENCE)
    first = lower_all([job], processes=1, cache_dir=tmp_path)
    (entry,) = tmp_path.rglob("*.cbor")
    stored = entry.read_bytes()
    # A retrained module: the entry is read and not written again.
    entry.chmod(0o444)
    stamp = entry.stat().st_mtime_ns
    lower_all([Job("other", Mlp().eval(), SEQUENCE)], processes=1, cache_dir=tmp_path)
    assert entry.stat().st_mtime_ns == stamp
    entry.chmod(0o644)
    entry.write_bytes(stored[: len(stored) // 2])
    assert lower_all([job], processes=1, cache_dir=tmp_path) == first
    assert entry.read_bytes() == stored


def test_a_stage_is_calibrated_again_only_for_other_samples_or_weights(tmp_path):
    module = Bottleneck().eval()
    jobs = [StaticJob("stage", module, (IMAGE,))]

    def entries():
        return len(list(tmp_path.rglob("*.cbor")))

    (first,) = quantize_all(jobs, processes=1, cache_dir=tmp_path)
    (again,) = quantize_all(jobs, processes=1, cache_dir=tmp_path)
    assert entries() == 1
    assert torch.equal(first(*IMAGE), again(*IMAGE))
    louder = (IMAGE[0] * 3.0,)
    (other,) = quantize_all(
        [StaticJob("stage", module, (louder,))], processes=1, cache_dir=tmp_path
    )
    assert entries() == 2
    assert not torch.equal(first(*louder), other(*louder))  # its ranges end where IMAGE's do
    with torch.no_grad():
        next(module.parameters()).mul_(1.5)
    quantize_all(jobs, processes=1, cache_dir=tmp_path)
    assert entries() == 3


def test_cache_key_depends_on_everything(tmp_path):
    keys = {cache_key("program", "xnnpack", b"a"), cache_key("template", "xnnpack", b"a")}
    keys |= {cache_key("program", "other", b"a"), cache_key("program", "xnnpack", b"b")}
    assert len(keys) == 4
    assert LoweringCache(tmp_path).load("0" * 64, LoweredProgram.from_bytes) is None
