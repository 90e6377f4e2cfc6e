"""Streams of images stay in the order of the kernels between two stages, and only there."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from executorch.exir._serialize._program import deserialize_pte_binary
from export.supernets import make_cnn, make_vit
from torch import nn

from nestling.partition.cut import cut
from nestling.quantize.schemes import get_scheme
from nestling.targets.memory_order import keep_channels_innermost
from nestling.targets.structure import structure_digest
from nestling.targets.xnnpack.lower import lower_whole, trace

CHANNELS_INNERMOST = [0, 2, 3, 1]
CHANNELS_OUTERMOST = [0, 1, 2, 3]


@pytest.fixture(scope="module")
def pieces():
    return cut(make_cnn(), get_scheme("fp32"))


def test_every_stage_computes_the_same_in_the_other_order(pieces):
    converted = keep_channels_innermost(pieces)
    last = len(pieces.streams)
    for key, stage in pieces.stages.items():
        new = converted.stages[key]
        torch.manual_seed(key.position)
        inputs = tuple(torch.randn_like(value) for value in stage.example_inputs)
        given = inputs
        if key.position > 0:
            given = tuple(value.to(memory_format=torch.channels_last) for value in inputs)
            assert new.example_inputs[0].is_contiguous(memory_format=torch.channels_last)
        expected, actual = stage.module(*inputs), new.module(*given)
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
        if key.position < last:
            assert actual.is_contiguous(memory_format=torch.channels_last)


def test_programs_take_and_give_the_stream_as_it_lies(pieces):
    def orders(position):
        stage = next(s for k, s in converted.stages.items() if k.position == position)
        whole = lower_whole(trace(stage.module, stage.example_inputs))
        plan = deserialize_pte_binary(whole).program.execution_plan[0]
        return [list(plan.values[index].val.dim_order) for index in (*plan.inputs, *plan.outputs)]

    converted = keep_channels_innermost(pieces)
    assert orders(0) == [CHANNELS_OUTERMOST, CHANNELS_INNERMOST]
    assert orders(1) == [CHANNELS_INNERMOST, CHANNELS_INNERMOST]
    assert orders(len(pieces.streams))[0] == CHANNELS_INNERMOST


def test_an_image_as_result_is_given_back_in_torchs_order(pieces):
    stream = pieces.streams[-1]
    head = next(key for key in pieces.stages if key.position == len(pieces.streams))
    image_head = replace(
        pieces.stages[head], module=nn.Conv2d(stream.shape[1], 3, 1), example_inputs=(stream,)
    )
    images = replace(
        pieces, stages={**pieces.stages, head: image_head}, output=image_head.module(stream)
    )
    stage = keep_channels_innermost(images).stages[head]
    given = stream.to(memory_format=torch.channels_last)
    result = stage.module(given)
    assert result.is_contiguous()
    torch.testing.assert_close(result, images.output)


def test_other_networks_are_left_alone():
    pieces = cut(make_vit(), get_scheme("fp32"))
    assert keep_channels_innermost(pieces) is pieces


def test_two_orders_of_one_module_are_two_structures():
    module = nn.Conv2d(4, 4, 1).eval()
    image = torch.randn(1, 4, 6, 6)
    other = image.to(memory_format=torch.channels_last)
    assert structure_digest(trace(module, (image,))) != structure_digest(trace(module, (other,)))
