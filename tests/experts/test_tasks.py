"""Networks of several tasks: what tasks share is shared, and each computes its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from experts.bundles import CACHE
from torch import Tensor, nn

import nestling_runtime
from nestling.chain_export import export_chain
from nestling.elastic import ElasticAttention, ElasticFeedForward, Supernet
from nestling.elastic.block import ElasticBlock
from nestling.elastic.families.vit import ClassTokenHead, PatchStem
from nestling.errors import ModelError
from nestling.experts.layer import make_expert_layer, select_task
from nestling.experts.operator import resident_experts
from nestling.experts.routing import Router
from nestling.export import export_bundle
from nestling.partition.chain import Chain
from nestling.partition.tasks import BATCH_PATH, cut_task_batch, cut_tasks
from nestling.quantize.linear import RowQuantizedLinear
from nestling.quantize.schemes import get_scheme

TASKS = {"digit": 5, "parity": 2}
DIM = 24


def make_parts() -> tuple[nn.Module, list[ElasticBlock], dict[str, nn.Module]]:
    torch.manual_seed(0)
    blocks: list[ElasticBlock] = []
    for layer in range(2):
        blocks.append(
            ElasticAttention(
                DIM, 2, heads_widths=(1.0,), name=f"layer{layer}.attention", layer=layer
            )
        )
        name = f"layer{layer}.ffn"
        if layer == 1:
            blocks.append(
                make_expert_layer(
                    DIM,
                    16,
                    6,
                    2,
                    activation="gelu",
                    gated=False,
                    tasks=tuple(TASKS),
                    name=name,
                    layer=1,
                )
            )
        else:
            blocks.append(ElasticFeedForward(DIM, 32, widths=(0.5, 1.0), name=name, layer=0))
    heads = {task: ClassTokenHead(DIM, classes, 1e-6) for task, classes in TASKS.items()}
    parts = nn.ModuleList([*blocks, *heads.values()])
    for parameter in parts.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.3)
    return PatchStem(1, DIM, (4, 4), 4).eval(), [b.eval() for b in blocks], heads


def run(chain: Chain, task: str, pixels: Tensor) -> Tensor:
    slots = {"pixels": pixels}
    with torch.no_grad(), resident_experts(chain.banks()):
        for name in chain.paths[task].stages:
            stage = chain.stages[name]
            slots[stage.outputs[0]] = stage.module(*(slots[slot] for slot in stage.inputs))
    return slots[task]


def test_each_task_computes_its_network_and_shares_the_rest() -> None:
    stem, blocks, heads = make_parts()
    pixels = torch.randn(1, 1, 8, 8)
    chain = cut_tasks(stem, blocks, heads, {"pixels": torch.zeros(1, 1, 8, 8)})
    for task, head in heads.items():
        select_task(blocks[-1], task)
        with torch.no_grad():
            x = stem(pixels)
            for block in blocks:
                x = block(x)
            torch.testing.assert_close(run(chain, task, pixels), head(x), rtol=1e-5, atol=1e-5)
    digit, parity = (set(path.stages) for path in chain.paths.values())
    assert digit - parity == {"layer1.ffn.digit", "head.digit"}
    assert len(chain.experts) == 1


def test_rows_of_one_batch_belong_to_different_tasks(tmp_path: Path) -> None:
    """On the engine, against eager torch row by row; any mixture of the same rows."""
    stem, blocks, heads = make_parts()
    pixels = torch.randn(5, 1, 8, 8)
    chain = cut_task_batch(stem, blocks, heads, {"pixels": torch.zeros(5, 1, 8, 8)})
    path = tmp_path / "batch.nest"
    export_chain(chain, path, jobs=1, cache_dir=CACHE)
    with nestling_runtime.open(path, threads=1) as model, model.session() as session:
        session.select(BATCH_PATH)
        for order in ([0, 1, 0, 1, 1], [1, 1, 1, 1, 0], [0, 0, 0, 0, 0]):
            found = session.run(pixels=pixels.numpy(), task=np.array(order))
            for row, number in enumerate(order):
                task = list(TASKS)[number]
                select_task(blocks[-1], task)
                with torch.no_grad():
                    x = stem(pixels[row : row + 1])
                    for block in blocks:
                        x = block(x)
                    wanted = heads[task](x)
                np.testing.assert_allclose(
                    found[task][row], wanted[0].numpy(), rtol=1e-4, atol=1e-4
                )


def test_routers_stay_exact_whatever_the_scheme() -> None:
    stem, blocks, heads = make_parts()
    scheme = get_scheme("int8-dynamic")
    chain = cut_tasks(stem, blocks, heads, {"pixels": torch.zeros(1, 1, 8, 8)}, scheme)
    kinds = [type(m) for m in chain.stages["layer1.ffn.digit"].module.modules()]
    assert Router in kinds and RowQuantizedLinear not in kinds
    attention = chain.stages["layer1.attention"].module
    assert any(isinstance(m, RowQuantizedLinear) for m in attention.modules())


def test_what_cannot_be_cut_says_so(tmp_path: Path) -> None:
    stem, blocks, heads = make_parts()
    extra = {**heads, "rotation": heads["digit"]}
    with pytest.raises(ModelError, match="router for the task"):
        cut_tasks(stem, blocks, extra, {"pixels": torch.zeros(1, 1, 8, 8)})
    supernet = Supernet(stem, blocks, heads["digit"], inputs={"pixels": torch.zeros(1, 1, 8, 8)})
    with pytest.raises(ModelError, match="export-decoder"):
        export_bundle(supernet, tmp_path / "a.nest", jobs=1)
