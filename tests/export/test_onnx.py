"""ONNX models of all paths: what they compute, and that every weight is stored once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from cli.calls import call_json, sentence
from cli.mini import build_supernet
from onnx import TensorProto, numpy_helper
from onnx_in.networks import BUILDERS, write_onnx
from torch import Tensor, nn

from nestling.elastic import ElasticFeedForward, Supernet, save
from nestling.errors import EngineError, ExportError, TargetError
from nestling.onnx_in.nest import nest
from nestling.partition.cut import cut
from nestling.quantize.schemes import get_scheme
from nestling.targets.onnx.folder import INDEX_NAME, WEIGHTS_NAME, OnnxReport, export_onnx
from nestling.targets.onnx.stages import OnnxRunner
from nestling.targets.registry import get_target
from nestling.targets.target import Work
from nestling.targets.xnnpack.stages import quantize_stages

Sample = tuple[Tensor, ...]


@pytest.fixture(scope="module")
def supernet() -> Supernet:
    """One feed-forward block of two levels: few stages, so that a session can export all."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Supernet(
            nn.Linear(12, 16),
            [ElasticFeedForward(16, 32, widths=(0.5, 1.0))],
            Head(),
            inputs={"pixels": torch.zeros(1, 3, 12)},
            depths=(1,),
        ).eval()


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(16, 5)

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        return self.last(x.mean(1))


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(1, 3, 12, generator=generator),) for _ in range(8)]


@pytest.fixture(scope="module")
def exported(supernet: Supernet, tmp_path_factory: pytest.TempPathFactory) -> OnnxReport:
    return export_onnx(supernet, tmp_path_factory.mktemp("onnx"), stages=True, jobs=1)


def run(folder: Path, name: str, inputs: Sample, *, exact: bool = False) -> np.ndarray:
    arrays = tuple(value.numpy() for value in inputs)
    (outputs,) = OnnxRunner(folder, exact=exact).run(name, [arrays]).outputs
    return outputs[0]


@torch.no_grad()
def eager(supernet: Supernet, path: str, inputs: Sample) -> np.ndarray:
    return supernet(*inputs, subnet=supernet.space.named[path]).numpy()


def check_stored_once(folder: Path) -> None:
    """Every tensor refers to its bytes; no two places hold the same ones."""
    blob = (folder / WEIGHTS_NAME).read_bytes()
    places: dict[int, bytes] = {}
    for file in folder.glob("*.onnx"):
        for tensor in onnx.load(file, load_external_data=False).graph.initializer:
            if tensor.data_location == TensorProto.EXTERNAL:
                entries = {entry.key: entry.value for entry in tensor.external_data}
                offset, length = int(entries["offset"]), int(entries["length"])
                assert (
                    places.setdefault(offset, blob[offset : offset + length])
                    == (blob[offset : offset + length])
                )
            else:
                assert numpy_helper.to_array(tensor).nbytes < 128
    assert len(set(places.values())) == len(places)
    ends = [*sorted(places), len(blob)]
    assert all(0 <= b - a - len(places[a]) < 64 for a, b in pairwise(ends))


def test_every_path_computes_what_torch_does(
    supernet: Supernet, exported: OnnxReport, samples: list[Sample]
) -> None:
    for path in exported.paths:
        onnx.checker.check_model(exported.path / f"{path}.onnx", full_check=True)
        y = run(exported.path, path, samples[0])
        np.testing.assert_allclose(y, eager(supernet, path, samples[0]), rtol=1e-4, atol=1e-4)


def test_weights_are_stored_once(exported: OnnxReport) -> None:
    check_stored_once(exported.path)
    size = exported.size
    assert size.weights < 1.1 * size.unshared["full.onnx"] < sum(size.unshared.values()) / 2
    assert size.total == sum(
        file.stat().st_size for file in exported.path.iterdir() if file.name != INDEX_NAME
    )


def test_a_chain_of_stages_computes_the_path(
    supernet: Supernet, exported: OnnxReport, samples: list[Sample]
) -> None:
    index = json.loads((exported.path / INDEX_NAME).read_text())
    runner = OnnxRunner(exported.path)
    for path in index["paths"]:
        values = [tuple(value.numpy() for value in samples[0])]
        for stage in path["stages"]:
            values = runner.run(stage, values).outputs
        want = eager(supernet, path["name"], samples[0])
        np.testing.assert_allclose(values[0][0], want, rtol=1e-4, atol=1e-4)
    assert index["inputs"] == [{"name": "pixels", "dtype": "f32", "shape": [1, 3, 12]}]


def test_int8_is_what_was_quantised(
    supernet: Supernet, tmp_path: Path, samples: list[Sample]
) -> None:
    scheme = get_scheme("int8-static")
    full = {"full": supernet.space.full()}
    report = export_onnx(
        supernet, tmp_path / "q", scheme=scheme.name, calibration=samples, paths=full, jobs=1
    )
    check_stored_once(report.path)
    graph = onnx.load(report.path / "full.onnx", load_external_data=False).graph
    operators = {node.op_type for node in graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators
    large = [t for t in graph.initializer if t.data_location == TensorProto.EXTERNAL]
    assert sum(t.data_type == TensorProto.INT8 for t in large) >= len(large) // 2
    pieces = cut(supernet, scheme)
    chain = pieces.chain(full["full"], 8)
    pieces = replace(pieces, stages={key: pieces.stages[key] for key in chain})
    modules = quantize_stages(Work(supernet, pieces, scheme, samples, {}, True, 1, None, None))
    x = samples[0][0]
    with torch.no_grad():
        for key in chain:
            x = modules[key](x)
    y = run(report.path, "full", samples[0], exact=True)
    np.testing.assert_allclose(y, x.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["bert", "cnn"])
def test_from_a_file_to_files(name: str, tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = BUILDERS[name]()
    write_onnx(network, tmp_path / "m.onnx", "torchscript")
    supernet = nest(tmp_path / "m.onnx", widths=(0.5, 1.0), depths=(1, 2)).supernet
    report = export_onnx(supernet, tmp_path / "out", jobs=1)
    check_stored_once(report.path)
    for path in report.paths:
        y = run(report.path, path, network.example)
        want = eager(supernet, path, network.example)
        np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-4)
    original = network.outputs()[:1].numpy()
    y = run(report.path, "full", network.example)
    np.testing.assert_allclose(y, original, rtol=1e-4, atol=1e-4)


def test_the_command_writes_a_folder(tmp_path: Path) -> None:
    save(build_supernet(), tmp_path / "mini.pt")
    out = tmp_path / "out"
    words = ("export", tmp_path / "mini.pt", "--target", "onnx", "--jobs", 1, "-o", out)
    report = call_json(*words, "--json")
    assert report["paths"] == ["tiny", "full"]
    assert {file.name for file in out.iterdir()} == {
        *("tiny.onnx", "full.onnx", WEIGHTS_NAME, INDEX_NAME)
    }
    assert call_json(*words, "--paths", "full", "--json")["paths"] == ["full"]
    assert not (out / "tiny.onnx").exists()
    assert "folder of their own" in sentence(*words, "--target", "xnnpack")
    assert "int8-dynamic" in sentence(*words, "--scheme", "int8-dynamic")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("important")
    assert "something else" in sentence(*words[:-1], tmp_path / "mine")


Damage = Callable[[Path], object]


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / WEIGHTS_NAME).unlink(),
        lambda folder: (folder / WEIGHTS_NAME).write_bytes(b"short"),
        lambda folder: (folder / "tiny.onnx").write_bytes(b"nonsense"),
        lambda folder: (folder / "tiny.onnx").unlink(),
    ],
)
def test_a_damaged_folder_is_an_ordinary_error(
    exported: OnnxReport, samples: list[Sample], tmp_path: Path, damage: Damage
) -> None:
    for file in exported.path.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    damage(tmp_path)
    with pytest.raises(EngineError, match="tiny"):
        run(tmp_path, "tiny", samples[0])


def test_what_the_target_refuses(supernet: Supernet, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="calibration"):
        export_onnx(supernet, tmp_path / "q", scheme="int8-static")
    with (
        pytest.raises(TargetError, match="no ONNX models"),
        get_target("onnx").open(tmp_path / "nothing"),
    ):
        pass
