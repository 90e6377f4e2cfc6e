"""What cannot be nested is said in one sentence that names the place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from cli.calls import call, sentence
from onnx import TensorProto, helper
from onnx_in.conftest import Files

Change = Callable[[onnx.ModelProto], None]


def model_of(*nodes: onnx.NodeProto, shape: tuple[int | str, ...] = (1, 4)) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ("rows", "columns"))
    weight = helper.make_tensor("w", TensorProto.FLOAT, (4, 4), [0.5] * 16)
    graph = helper.make_graph(nodes, "g", [x], [y], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_files_that_are_no_model(files: Files, tmp_path: Path) -> None:
    _, path = files("cnn", "torchscript")
    whole = path.read_bytes()
    for content in (b"", b"GIF89a", b"\x00" * 64, whole[: len(whole) // 2], whole[:-1]):
        (tmp_path / "m.onnx").write_bytes(content)
        assert "not an ONNX model" in sentence("nest", tmp_path / "m.onnx", "-o", tmp_path / "out")
    assert "no such file" in sentence("nest", tmp_path / "nothing.onnx")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (helper.make_node("Frobnicate", ["x"], ["y"], name="f7"), ("Frobnicate", "f7")),
        (helper.make_node("Fly", ["x"], ["y"], domain="com.acme"), ("com.acme.Fly", "(y)")),
        (helper.make_node("Conv", ["x", "w"], ["y"], name="c"), ("Conv (c)", "cannot be run")),
        (helper.make_node("Relu", ["nothing"], ["y"], name="r"), ("valid", "nothing")),
        (helper.make_node("MatMul", ["x", "w"], ["y"], name="m"), ("no elastic place",)),
    ],
)
def test_models_that_cannot_be_nested(
    tmp_path: Path, node: onnx.NodeProto, words: tuple[str, ...]
) -> None:
    model = model_of(node)
    if node.domain:
        model.opset_import.add(domain=node.domain, version=1)
    onnx.save(model, tmp_path / "m.onnx")
    line = sentence("nest", tmp_path / "m.onnx")
    for word in words:
        assert word in line


def test_weights_beside_the_model(files: Files, tmp_path: Path) -> None:
    _, path = files("cnn", "torchscript")
    model = onnx.load(path)
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.bin")
    call("nest", tmp_path / "m.onnx", "-o", tmp_path / "out")
    assert (tmp_path / "out" / "supernet.pt").exists()
    weights = (tmp_path / "m.bin").read_bytes()
    (tmp_path / "m.bin").write_bytes(weights[:-8])
    assert "weights beside m.onnx" in sentence("nest", tmp_path / "m.onnx")
    (tmp_path / "m.bin").unlink()
    assert "m.bin" in sentence("nest", tmp_path / "m.onnx")


def test_sizes_that_are_left_open(files: Files, tmp_path: Path) -> None:
    _, path = files("cnn", "torchscript")
    model = onnx.load(path)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    dims[0].dim_param, dims[2].dim_param, dims[3].dim_param = "batch", "height", "width"
    onnx.save(model, tmp_path / "m.onnx")
    line = sentence("nest", tmp_path / "m.onnx")
    for word in ("pixels", "height", "--shape"):
        assert word in line
    out = ("-o", tmp_path / "out")
    assert call("nest", tmp_path / "m.onnx", *out, "--shape", "pixels=1,1,8,8").exit_code == 0
    assert "ixel" in sentence("nest", tmp_path / "m.onnx", "--shape", "ixels=1,1,8,8")
    assert "dimensions" in sentence("nest", tmp_path / "m.onnx", "--shape", "pixels=1,8")
    assert "cannot be run" in sentence("nest", tmp_path / "m.onnx", "--shape", "pixels=1,2,8,8")
    assert call("nest", tmp_path / "m.onnx", "--shape", "pixels").exit_code == 2


def test_a_connection_around_a_block(files: Files, tmp_path: Path) -> None:
    _, path = files("unet", "torchscript")
    result = call("nest", path, "-o", tmp_path / "out")
    assert "1 inverted residual;" in result.stdout
    assert "passes around it" in result.stdout


def test_calibration_data_that_do_not_fit(files: Files, tmp_path: Path) -> None:
    network, path = files("cnn", "torchscript")
    (name,) = network.names
    images = np.zeros((4, 1, 8, 8))
    data = tmp_path / "data.npz"
    for arrays in (
        {name: images[..., :-1]},
        {"another": images},
        {name: images, "another": images},
        {name: np.float32(1)},
    ):
        np.savez(data, **arrays)
        assert "samples" in sentence("nest", path, "--calibration", data)
    np.savez(data, **{name: images})
    data.write_bytes(data.read_bytes()[:-40])
    assert "cannot be read" in sentence("nest", path, "--calibration", data)


def test_an_output_that_is_not_there(files: Files) -> None:
    _, path = files("cnn", "torchscript")
    assert "nowhere" in sentence("nest", path, "--output-name", "nowhere")


def test_widths_that_do_not_increase(files: Files) -> None:
    _, path = files("cnn", "torchscript")
    assert "widths" in sentence("nest", path, "--widths", "1,0.5")
