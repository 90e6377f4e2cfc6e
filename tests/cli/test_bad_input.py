"""Every bad input is one sentence on the error stream and a non-zero exit code."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cli.calls import sentence
from cli.mini import Mini

Damage = Callable[[bytes], bytes]


def with_manifest(data: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Change the manifest, same length, and make its hash right again."""
    (size,) = struct.unpack_from("<Q", data, 16)
    manifest = change(data[64 : 64 + size])
    assert len(manifest) == size
    return data[:32] + hashlib.sha256(manifest).digest() + manifest + data[64 + size :]


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x01]) + data[at + 1 :]


FILES: dict[str, tuple[Damage, str]] = {
    "empty": (lambda data: b"", ""),
    "foreign": (lambda data: b"GIF89a" + data[6:], "not"),
    "one byte short": (lambda data: data[:-1], ""),
    "prefix alone": (lambda data: data[:64], ""),
    "manifest flipped": (lambda data: flip(data, 100), ""),
    "newer": (lambda data: data[:8] + b"\x03\0\0\0" + data[12:], "version"),
    "longer": (lambda data: data + b"\0", ""),
}


@pytest.mark.parametrize("command", ["inspect", "run", "verify", "bench"])
@pytest.mark.parametrize("case", FILES)
def test_damaged_bundles(mini: Mini, tmp_path: Path, command: str, case: str) -> None:
    damage, word = FILES[case]
    file = tmp_path / "damaged.nest"
    file.write_bytes(damage(mini.bundle.read_bytes()))
    assert word in sentence(command, file)


@pytest.mark.parametrize("command", ["inspect", "run", "verify", "bench"])
def test_missing_bundle(tmp_path: Path, command: str) -> None:
    assert "nothing.nest" in sentence(command, tmp_path / "nothing.nest")


@pytest.mark.parametrize("command", ["run", "verify"])
def test_flipped_weight(mini: Mini, tmp_path: Path, command: str) -> None:
    data = mini.bundle.read_bytes()
    file = tmp_path / "flipped.nest"
    file.write_bytes(flip(data, 16384))  # the first byte of the first section
    assert "core" in sentence(command, file)


def test_other_target(mini: Mini, tmp_path: Path) -> None:
    def rename(manifest: bytes) -> bytes:
        assert b"\x67xnnpack" in manifest
        return manifest.replace(b"\x67xnnpack", b"\x67unknown")

    file = tmp_path / "target.nest"
    file.write_bytes(with_manifest(mini.bundle.read_bytes(), rename))
    assert "unknown" in sentence("run", file)


def test_larger_than_the_budget(mini: Mini) -> None:
    assert "missing_bytes" in sentence("run", mini.bundle, "--budget", 1000)


def test_paths_that_do_not_exist(mini: Mini) -> None:
    assert "huge" in sentence("run", mini.bundle, "--path", "huge")
    assert "nowhere" in sentence("run", mini.bundle, "--stages", "stem,nowhere")


def test_path_that_skips_what_it_needs(mini: Mini) -> None:
    sentence("run", mini.bundle, "--stages", "head")
    sentence("run", mini.bundle, "--stages", "head,stem")


def test_inputs_that_do_not_fit(mini: Mini, tmp_path: Path) -> None:
    np.save(tmp_path / "shape.npy", np.zeros((1, 1, 9, 9), np.float32))
    np.save(tmp_path / "type.npy", np.zeros((1, 1, 8, 8), np.int64))
    (tmp_path / "text.npy").write_text("these are no numbers")
    for name in ("shape", "type", "text"):
        sentence("run", mini.bundle, "--input", tmp_path / f"{name}.npy")


def test_sources_that_cannot_be_exported(tmp_path: Path) -> None:
    assert "no such" in sentence("export", tmp_path / "nothing.pt")
    assert "config.json" in sentence("export", tmp_path)
    (tmp_path / "text.pt").write_text("this is no checkpoint")
    sentence("export", tmp_path / "text.pt")


def test_model_with_no_elastic_place(tmp_path: Path) -> None:
    builder = tmp_path / "rigid.py"
    builder.write_text(
        "import torch\n"
        "from nestling import elastic\n"
        "def build():\n"
        "    x = torch.zeros(1, 4)\n"
        "    return elastic.convert(torch.nn.Sequential(torch.nn.Linear(4, 4)), inputs={'x': x})\n"
    )
    (tmp_path / "any.pt").write_bytes(b"")
    assert "elastic" in sentence("export", tmp_path / "any.pt", "--builder", f"{builder}:build")


def test_widths_that_do_not_divide(tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        image_size=8,
        patch_size=4,
        hidden_size=12,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=10,
    )
    ViTModel(config).save_pretrained(tmp_path / "model")
    message = sentence("export", tmp_path / "model", "--widths", "0.33,1")
    assert "module" in message


def test_export_options_that_do_not_fit(mini: Mini, tmp_path: Path) -> None:
    out = tmp_path / "out.nest"
    assert "huge" in sentence("export", mini.checkpoint, "--paths", "huge", "-o", out)
    scheme = ["--scheme", "int8-static", "-o", out]
    assert "--calibration" in sentence("export", mini.checkpoint, *scheme)
    np.savez(tmp_path / "wrong.npz", pixels=np.zeros((4, 3, 8, 8), np.float32))
    sentence("export", mini.checkpoint, *scheme, "--calibration", tmp_path / "wrong.npz")
    np.savez(tmp_path / "other.npz", audio=np.zeros(4), video=np.zeros(4))
    sentence("export", mini.checkpoint, *scheme, "--calibration", tmp_path / "other.npz")
    assert "supernet already" in sentence("export", mini.checkpoint, "--widths", "0.5,1")
    assert not out.exists()


def test_recipes_that_do_not_exist(tmp_path: Path) -> None:
    assert "digits-vit" in sentence("train", "nothing")
    assert "no file" in sentence("train", tmp_path / "nothing.py")


def test_benchmarks_that_do_not_exist() -> None:
    assert "digits-vit" in sentence("bench", "--all", "--only", "nothing")


def test_usage_errors_are_not_tracebacks() -> None:
    from cli.calls import call

    for words in (["bench"], ["train"], ["run"], ["export", "x", "--scheme", "int3"], ["fly"]):
        assert call(*words).exit_code == 2
