"""Training options from TOML and from the command line's keywords."""

from __future__ import annotations

from pathlib import Path

import pytest

from nestling.errors import TrainError
from nestling.training import Progressive, TrainConfig, load_config


def test_toml_fills_in_a_base(tmp_path: Path) -> None:
    path = tmp_path / "train.toml"
    path.write_text(
        '[train]\nstrategy = "progressive"\nlr = 1\nbetas = [0.8, 0.9]\n'
        "[train.strategy_options]\nlast_share = 0.9\n"
    )
    config = load_config(path, TrainConfig(steps=77, strategy_options={"distill": 0.5}))
    assert config.steps == 77 and config.lr == 1.0 and config.betas == (0.8, 0.9)
    assert config.make_strategy() == Progressive(last_share=0.9)
    (tmp_path / "flat.toml").write_text("steps = 5\n")
    assert load_config(tmp_path / "flat.toml").steps == 5


def test_round_trip_through_plain_values() -> None:
    config = TrainConfig(strategy="sorted", strategy_options={"split_batch": False}, amp="bf16")
    assert TrainConfig().replace(**config.to_dict()) == config


def test_another_strategy_drops_the_parameters_of_the_old_one() -> None:
    base = TrainConfig(strategy="sandwich", strategy_options={"full_weight": 2.0})
    assert base.replace(strategy="sorted").strategy_options == {}
    assert base.replace(strategy="sandwich").strategy_options == {"full_weight": 2.0}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("steps = 0", "'steps' is out of range"),
        ("lr = 0.0", "'lr' is out of range"),
        ('amp = "fp8"', "'amp' is out of range"),
        ("betas = [0.9]", "'betas' is out of range"),
        ("freeze_norms_at = 1.5", "'freeze_norms_at' is out of range"),
        ("steps = 1.5", "'steps' has the wrong type"),
        ("steps = true", "'steps' has the wrong type"),
        ('betas = "ab"', "'betas' has the wrong type"),
        ('betas = ["a", "b"]', "'betas' has the wrong type"),
        ("stepps = 3", "no training option 'stepps'"),
        ("train = 3", "'train' must be a table"),
        ("steps = ", "not valid TOML"),
    ],
)
def test_bad_files_are_one_clear_error(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text + "\n")
    with pytest.raises(TrainError, match=says):
        load_config(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="cannot read"):
        load_config(tmp_path / "none.toml")
