from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from cli.calls import call, call_json
from cli.mini import Mini


@pytest.fixture
def image(tmp_path: Path) -> tuple[Path, torch.Tensor]:
    pixels = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    file = tmp_path / "image.npy"
    np.save(file, pixels.numpy())
    return file, pixels


@pytest.mark.parametrize("mode", [[], ["--chain"]])
def test_named_paths_give_what_eager_torch_gives(
    mini: Mini, image: tuple[Path, torch.Tensor], mode: list[str]
) -> None:
    file, pixels = image
    for name, subnet in mini.supernet.space.named.items():
        result = call_json(
            "run", mini.bundle, "--path", name, "--input", file, "--threads", 1, "--json", *mode
        )
        with torch.inference_mode():
            expected = mini.supernet(pixels, subnet=subnet).numpy()
        np.testing.assert_allclose(result["outputs"]["logits"], expected, atol=1e-5)
        assert result["mode"] == ("chain" if mode else "fused")


def test_a_list_of_stages_runs(mini: Mini, image: tuple[Path, torch.Tensor]) -> None:
    file, pixels = image
    facts = call_json("inspect", mini.bundle, "--json")
    by_name = {path["name"]: path["stages"] for path in facts["paths"]}
    small, full = list(by_name.values())
    mixed = [*small[:2], *full[2:]]
    result = call_json("run", mini.bundle, "--stages", ",".join(mixed), "--input", file, "--json")
    from nestling.elastic import Subnet

    with torch.inference_mode():
        expected = mini.supernet(pixels, subnet=Subnet((1, 2))).numpy()
    np.testing.assert_allclose(result["outputs"]["logits"], expected, atol=1e-5)
    assert result["path"] is None


def test_an_image_without_its_batch_axis_is_taken(mini: Mini, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.zeros((1, 8, 8), np.float32))
    call_json("run", mini.bundle, "--input", tmp_path / "one.npy", "--json")


def test_repeat_counts_runs(mini: Mini) -> None:
    result = call_json("run", mini.bundle, "--repeat", 5, "--json")
    assert result["runs"] == 5
    assert 0 < result["min_us"] <= result["median_us"]
    assert result["resident_bytes"] > 0


def test_digits(mini: Mini) -> None:
    result = call_json("run", mini.bundle, "--digits", 3, "--json")
    assert len(result["guesses"]) == len(result["truths"]) == 3
    assert 0 <= result["accuracy"] <= 1


def test_text_names_the_path(mini: Mini) -> None:
    text = call("run", mini.bundle).stdout
    assert text.startswith("full (fused, fp32)")
    assert "logits: shape (1, 10)" in text


@pytest.mark.parametrize(
    "words", [["--path", "full", "--stages", "a"], ["--input", __file__, "--digits", "2"]]
)
def test_options_that_exclude_each_other(mini: Mini, words: list[str]) -> None:
    result = call("run", mini.bundle, *words)
    assert result.exit_code == 2
    assert "exclude" in result.stderr
