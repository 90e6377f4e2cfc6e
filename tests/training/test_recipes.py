"""Recipes: the digits themselves, a user's own file, what a run leaves, how subnets are judged."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from training.small import CONFIG, build_cnn, build_vit, make_data

from nestling import elastic
from nestling.errors import TrainError
from nestling.recipes import RECIPES, digits, find_recipe
from nestling.training import (
    Recipe,
    RecipeData,
    accuracy,
    measure_retention,
    predict,
    run_recipe,
    sample_subnets,
    torch_threads,
)


def tiny_data() -> RecipeData:
    held_out = make_data(40).tensors
    return RecipeData(make_data(30), held_out[:1], held_out[1])


TINY = Recipe(
    name="tiny",
    summary="for tests",
    build=build_cnn,
    data=tiny_data,
    loss=F.cross_entropy,
    config=CONFIG.replace(strategy="sandwich", freeze_norms_at=0.5),
    pretrain=CONFIG.replace(strategy="full", steps=5),
)


# -- digits --------------------------------------------------------------------------------------


def test_split_is_fixed_stratified_and_disjoint() -> None:
    images, labels, held_out, held_out_labels = digits.load_digits_split()
    assert (len(labels), len(held_out_labels)) == (1347, 450)
    assert images.shape[1:] == (1, 8, 8) and images.dtype == torch.float32
    assert images.min() == -1.0 and images.max() == 1.0
    counts = [Counter(part.tolist()) for part in (labels, held_out_labels)]
    for digit in range(10):
        assert counts[0][digit] == pytest.approx(3 * counts[1][digit], abs=3)
    seen = {tuple(image.flatten().tolist()) for image in images}
    assert not any(tuple(image.flatten().tolist()) in seen for image in held_out)
    again = digits.load_digits_split()
    assert torch.equal(again[0], images) and torch.equal(again[3], held_out_labels)


def test_distortion_moves_ink_a_little_and_repeats() -> None:
    images, labels, _, _ = digits.load_digits_split()
    batch = (images[:64], labels[:64])
    moved, same = digits.distort(batch, torch.Generator().manual_seed(1))
    again, _ = digits.distort(batch, torch.Generator().manual_seed(1))
    assert torch.equal(moved, again) and torch.equal(same, labels[:64])
    assert moved.shape == images[:64].shape
    assert float(moved.min()) >= -1.0 - 1e-5 and float(moved.max()) <= 1.0 + 1e-5
    change = (moved - images[:64]).abs().mean()
    assert 0.02 < float(change) < 0.5


@pytest.mark.parametrize("build", [digits.build_vit, digits.build_cnn])
def test_digits_models_are_elastic_repeatable_and_seed_nothing(build: type) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = build()
    assert torch.equal(torch.get_rng_state(), before)
    second = build()
    assert all(map(torch.equal, first.state_dict().values(), second.state_dict().values()))
    assert first.space.count() >= 160 and len(first.space.depths) == 3
    assert all(len(block.widths) == 4 for block in first.space.blocks)
    full, tiny = (first.macs(s) for s in (first.space.full(), first.space.smallest()))
    assert full > 4 * tiny, "there is something to gain from switching"


@pytest.mark.slow
def test_cnn_learns_digits_in_a_few_seconds() -> None:
    recipe = RECIPES["digits-cnn"]
    assert recipe.pretrain is not None
    few = {"steps": 60, "batch_size": 32, "warmup": 10}
    short = dataclasses.replace(recipe, pretrain=recipe.pretrain.replace(**few))
    result = run_recipe(short, recipe.config.replace(device="cpu", **few))
    assert result.quality["full"] > 0.85
    assert result.quality["base"] > 0.8
    assert min(result.quality.values()) > 0.4, "chance is 0.1"


# -- running a recipe ----------------------------------------------------------------------------


def test_run_leaves_a_supernet_that_loads_with_the_same_quality(tmp_path: Path) -> None:
    result = run_recipe(TINY, out_dir=tmp_path)
    assert result.path == tmp_path / "supernet.pt"
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["recipe"] == "tiny" and report["quality"] == result.quality
    assert report["config"]["strategy"] == "sandwich"
    loaded = elastic.load(result.path)
    data = tiny_data()
    for name, subnet in loaded.space.named.items():
        assert accuracy(loaded, subnet, *data.inputs, data.target) == result.quality[name]
    for phase in ("full", "nested"):
        assert (tmp_path / phase / "checkpoint.pt").exists()
        assert (tmp_path / phase / "train.jsonl").exists()


@pytest.mark.parametrize("phase", ["full", "nested"])
def test_interrupted_run_goes_on_in_its_phase(tmp_path: Path, phase: str) -> None:
    whole = run_recipe(TINY)

    class StopError(Exception):
        pass

    assert TINY.pretrain is not None
    # Passes: 5 of the full net, then 8 steps of which each computes the label loss once.
    fatal, calls = {"full": 3, "nested": 10}[phase], 0

    def loss(output: Tensor, target: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == fatal:
            raise StopError
        return F.cross_entropy(output, target)

    config = TINY.config.replace(checkpoint_every=1)
    pretrain = TINY.pretrain.replace(checkpoint_every=1)
    with pytest.raises(StopError):
        run_recipe(dataclasses.replace(TINY, loss=loss, pretrain=pretrain), config, tmp_path)
    resumed = run_recipe(
        dataclasses.replace(TINY, pretrain=pretrain), config, tmp_path, resume=True
    )
    expected = whole.supernet.state_dict()
    for name, value in resumed.supernet.state_dict().items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("method", ["magnitude", "activation", "taylor"])
def test_units_are_sorted_by_any_method(method: str) -> None:
    short = dataclasses.replace(TINY, sort_method=method)  # type: ignore[arg-type]
    result = run_recipe(short, TINY.config.replace(steps=1))
    assert all(0.0 <= quality <= 1.0 for quality in result.quality.values())


# -- finding one ---------------------------------------------------------------------------------


def test_recipe_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "import dataclasses\nfrom nestling.recipes import digits\n"
        "def recipe():\n    return dataclasses.replace(digits.CNN_RECIPE, name='mine')\n"
    )
    assert find_recipe(str(path)).name == "mine"
    assert find_recipe("digits-vit") is digits.VIT_RECIPE


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1\n", "has no function recipe"),
        ("def recipe():\n    return 3\n", "must return a Recipe"),
        ("import no_such_module_here\n", "ModuleNotFoundError"),
        ("def recipe(:\n", "SyntaxError"),
        ("def recipe():\n    raise ValueError('no data')\n", "ValueError: no data"),
    ],
)
def test_bad_files_are_one_clear_error(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "bad.py"
    path.write_text(text)
    with pytest.raises(TrainError, match=says):
        find_recipe(str(path))


def test_unknown_names_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="no recipe 'digits'"):
        find_recipe("digits")
    with pytest.raises(TrainError, match="no file"):
        find_recipe(str(tmp_path / "none.py"))


# -- judging subnets -----------------------------------------------------------------------------


def test_predict_in_batches_equals_at_once_and_leaves_the_mode() -> None:
    supernet = build_vit(dropout=0.5).train()
    images = make_data(30).tensors[0]
    subnet = supernet.space.smallest()
    outputs = predict(supernet, subnet, [images], batch_size=7)
    assert supernet.training and supernet.active == subnet
    with torch.no_grad():
        torch.testing.assert_close(outputs, supernet.eval()(images))


def test_retention_is_the_worst_of_many() -> None:
    supernet = build_vit()
    images, labels = make_data(60).tensors
    found = measure_retention(supernet, [images], labels, count=30)
    assert len(found.qualities) >= 30
    by_hand = {s: accuracy(supernet, s, images, labels) for s in found.qualities}
    assert by_hand == found.qualities
    assert found.full == by_hand[supernet.space.full()]
    assert found.minimum == min(by_hand.values()) / found.full == by_hand[found.worst] / found.full


def test_sampled_subnets_hold_the_named_and_uniform_ones_and_repeat() -> None:
    space = digits.build_cnn().space
    subnets = sample_subnets(space, 160)
    assert len(subnets) == len(set(subnets)) == 160
    assert set(space.named.values()) | set(space.enumerate_uniform()) <= set(subnets)
    assert subnets == sample_subnets(space, 160) != sample_subnets(space, 160, seed=1)
    few = build_cnn().space
    assert len(sample_subnets(few, 160)) == few.count() == 12


def test_threads_hold_inside_the_block_only() -> None:
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        with torch_threads(0):
            assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    with pytest.raises(ZeroDivisionError), torch_threads(before + 1):
        _ = 1 / 0
    assert torch.get_num_threads() == before
