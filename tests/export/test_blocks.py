"""Block grain: the stages of every kind of supernet, in eager torch and on the native runtime."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
import torch
from elastic.samples import supernets
from export.supernets import CACHE, make_small_cnn, make_vit
from torch import Tensor

import nestling_runtime
from nestling.elastic import Subnet, Supernet
from nestling.errors import PathError
from nestling.export import export_bundle
from nestling.partition.blocks import BlockCut, cut_blocks
from nestling.partition.calibrate import record_stage_inputs
from nestling.quantize.schemes import get_scheme
from nestling_runtime.bundle import Bundle

KINDS = tuple(supernets())
EXAMPLES = 4


def run_eagerly(pieces: BlockCut, subnet: Subnet, inputs: tuple[Tensor, ...], bits: int) -> Tensor:
    wires = pieces.wires()
    held = dict(zip(pieces.ends.inputs, inputs, strict=True))
    for key in pieces.chain(subnet, bits):
        outputs = pieces.stages[key].module(*(held[name] for name in wires.reads[key]))
        outputs = (outputs,) if isinstance(outputs, Tensor) else outputs
        held.update(zip(wires.writes[key], outputs, strict=True))
    return held[pieces.ends.output_name]


def some_subnets(supernet: Supernet) -> list[Subnet]:
    rng = random.Random(3)
    named = list(supernet.space.named.values())
    return named + [supernet.space.sample(rng) for _ in range(8)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_chain_of_blocks_computes_the_subnet(kind: str) -> None:
    supernet, _ = supernets()[kind]
    pieces = cut_blocks(supernet, get_scheme("fp32"))
    inputs = supernet.example_inputs()
    with torch.no_grad():
        for subnet in some_subnets(supernet):
            expected = supernet(*inputs, subnet=subnet)
            torch.testing.assert_close(run_eagerly(pieces, subnet, inputs, 32), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_is_in_one_stage(kind: str) -> None:
    supernet, _ = supernets()[kind]
    pieces = cut_blocks(supernet, get_scheme("fp32"))
    weights = [
        parameter
        for stage in pieces.stages.values()
        for parameter in stage.module.parameters()
        if parameter.dim() > 1 and ".close" not in stage.name
    ]
    for one, other in itertools.combinations(weights, 2):
        assert one.shape != other.shape or not torch.equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_positions_of_a_chain_rise_and_cover_what_is_required(kind: str) -> None:
    supernet, _ = supernets()[kind]
    pieces = cut_blocks(supernet, get_scheme("fp32"))
    required = {at for at, p in enumerate(pieces.positions) if p.required and not p.part}
    for subnet in some_subnets(supernet):
        places = [key.position for key in pieces.chain(subnet, 32)]
        assert places == sorted(set(places))
        assert required <= set(places)


def test_every_position_sees_inputs_however_few_examples_there_are() -> None:
    supernet, _ = supernets()["mobilenet_v2"]
    pieces = cut_blocks(supernet, get_scheme("int8-static"))
    recorded = record_stage_inputs(supernet, pieces, [supernet.example_inputs()])
    assert len(recorded) == len(pieces.positions)
    assert all(recorded)


def make_tiny_vit() -> Supernet:
    return make_vit(dim=16, depth=1)


# Of the largest output; the stream is rounded to int8 once for each level that is added to it.
CASES = [(make_tiny_vit, "fp32", 1e-5), (make_small_cnn, "int8-static", 0.25)]


@pytest.mark.parametrize(("make", "scheme", "tolerance"), CASES)
def test_the_runtime_runs_any_mix_of_blocks(make, scheme: str, tolerance: float, tmp_path) -> None:
    supernet = make()
    torch.manual_seed(7)
    examples = [(torch.randn_like(*supernet.example_inputs()),) for _ in range(EXAMPLES)]
    path = tmp_path / "blocks.nest"
    export_bundle(
        supernet, path, scheme=scheme, grain="block", calibration=examples, jobs=1, cache_dir=CACHE
    )
    pieces = cut_blocks(supernet, get_scheme(scheme))
    bits = get_scheme(scheme).full_bits
    with Bundle.open(path) as bundle:
        assert not any(stage.first != stage.last for stage in bundle.stages)
    with nestling_runtime.open(path) as model, model.session() as session:
        for subnet in some_subnets(supernet):
            names = [pieces.stages[key].name for key in pieces.chain(subnet, bits)]
            session.select_stages(names)
            for (example,) in examples:
                output = session.run(pixels=example.numpy())["logits"]
                expected = supernet(example, subnet=subnet).detach().numpy()
                assert np.abs(output - expected).max() <= tolerance * max(1, np.abs(expected).max())
        full = supernet.space.full()
        names = [pieces.stages[key].name for key in pieces.chain(full, bits)]
        with pytest.raises(PathError):
            session.select_stages(names[::-1])
        with pytest.raises(PathError, match="part of a block that the path leaves out"):
            session.select_stages([name for name in names if not name.endswith(".b1")])
