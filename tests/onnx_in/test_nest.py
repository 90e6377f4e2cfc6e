"""A supernet of an ONNX file computes what the network does, and is one like any other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from cli.calls import call_json
from onnx_in.conftest import Files
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from nestling.elastic import FixedBlock, load, save, sort_units
from nestling.onnx_in.nest import nest
from nestling.training import TrainConfig, Trainer

ATTENTION, FFN, INVERTED = "attention", "feed_forward", "inverted_residual"
CASES = {
    ("cnn", "torchscript"): [INVERTED] * 4,
    ("resnet", "torchscript"): ["convolution"] * 2,
    ("vit", "torchscript"): [ATTENTION, FFN] * 2,
    ("vit", "dynamo"): [ATTENTION, FFN] * 2,
    ("bert", "torchscript"): [ATTENTION, FFN] * 2,
    ("encoder", "dynamo"): [ATTENTION, FFN] * 2,
}


@pytest.mark.parametrize(("name", "exporter"), CASES)
def test_the_full_subnet_is_the_network(files: Files, name: str, exporter: str) -> None:
    network, path = files(name, exporter)
    report = nest(path, widths=(0.5, 1.0), depths=(1, 2))
    supernet = report.supernet
    assert [kind for kind, _ in report.places] == CASES[name, exporter]
    assert all("(" in node for _, node in report.places)
    assert report.any_batch
    with torch.no_grad():
        torch.testing.assert_close(supernet(*network.inputs), network.outputs())
        sort_units(supernet)
        torch.testing.assert_close(
            supernet(*network.inputs), network.outputs(), rtol=1e-4, atol=1e-5
        )
        for subnet in supernet.space.enumerate_uniform():
            y = supernet(*network.inputs, subnet=subnet)
            assert torch.equal(supernet.dense(subnet)(*network.inputs), y)
    assert supernet.input_names == network.names
    assert supernet.space.smallest() != supernet.space.full()


def test_what_stands_between_blocks_runs_whole(files: Files) -> None:
    _, path = files("cnn", "torchscript")
    chain = nest(path).supernet.chain
    assert [isinstance(block, FixedBlock) for block in chain] == [False] * 3 + [True, False]
    assert [block.skippable for block in chain] == [True, False, True, False, True]


def test_examples_that_see_each_other_come_one_at_a_time(files: Files) -> None:
    assert not nest(files("mixing", "dynamo")[1]).any_batch


def test_a_checkpoint_holds_the_structure(files: Files, tmp_path: Path) -> None:
    network, path = files("bert", "torchscript")
    supernet = nest(path).supernet
    assert [len(layer) for layer in supernet.layers()] == [2, 2]
    save(supernet, tmp_path / "supernet.pt")
    again = load(tmp_path / "supernet.pt")
    with torch.no_grad():
        for subnet in supernet.space.named.values():
            y = supernet(*network.inputs, subnet=subnet)
            assert torch.equal(again(*network.inputs, subnet=subnet), y)


def test_it_trains(files: Files) -> None:
    _, path = files("cnn", "torchscript")
    supernet = nest(path, widths=(0.5, 1.0)).supernet
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(32, 1, 8, 8, generator=generator)
    data = TensorDataset(images, (images.mean((1, 2, 3)) > 0).long())

    def loss() -> float:
        with torch.no_grad():
            return float(F.cross_entropy(supernet.eval()(images), data.tensors[1]))

    supernet.select(supernet.space.full())
    before = loss()
    config = TrainConfig(strategy="sandwich", steps=12, batch_size=16, lr=1e-2, threads=1)
    Trainer(supernet, config, F.cross_entropy, data).fit()
    supernet.select(supernet.space.full())
    assert loss() < 0.8 * before


def test_statistics_of_batch_norm_come_back(files: Files) -> None:
    network, path = files("cnn", "torchscript")
    samples = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    supernet = nest(path, samples={network.names[0]: samples}).supernet
    with torch.no_grad():
        evaluated = supernet.eval()(samples)
        trained = supernet.train()(samples)
    # Only the last digits: the statistics are those of the very batch.
    torch.testing.assert_close(trained, evaluated, rtol=1e-3, atol=1e-3)
    with torch.no_grad():
        torch.testing.assert_close(supernet.eval()(*network.inputs), network.outputs())


def test_the_command_leaves_a_checkpoint(files: Files, tmp_path: Path) -> None:
    _, path = files("vit", "torchscript")
    report = call_json("nest", path, "-o", tmp_path / "out", "--widths", "0.5,1", "--json")
    assert [place["kind"] for place in report["places"]] == [ATTENTION, FFN] * 2
    assert load(tmp_path / "out" / "supernet.pt").family == "graph"
    assert list(report["paths"]) == ["tiny", "full"]
