"""The training of all exits together: it learns, and goes on where it stopped."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from nestling.elastic import Supernet, load, save
from nestling.errors import TrainError
from nestling.language.corpus import Kind
from nestling.language.muon import orthogonal
from nestling.language.training import (
    LanguageTraining,
    draw_paths,
    draw_windows,
    rate_share,
    train_language,
)

CONFIG = LanguageTraining(
    steps=6, windows=4, length=16, warmup=2, mixed_share=0.5, checkpoint_every=3, log_every=1
)
TEXTS: dict[Kind, torch.Tensor] = {
    "prose": torch.arange(50).repeat(10),
    "code": torch.arange(49, -1, -1).repeat(10),
}


def test_it_learns_every_exit(decoder: Supernet) -> None:
    losses: list[dict[str, float]] = []
    config = dataclasses.replace(CONFIG, steps=30, lr=0.01)

    def evaluate(supernet: Supernet) -> dict[str, float]:
        with torch.no_grad():
            tokens = torch.arange(16)[None]
            found = {
                name: torch.nn.functional.cross_entropy(
                    supernet(tokens, subnet=subnet)[0], tokens[0] + 1
                ).item()
                for name, subnet in supernet.space.named.items()
            }
        losses.append(found)
        return found

    train_language(decoder, TEXTS, config, evaluate=evaluate, evaluate_every=15)
    assert len(losses) == 2
    assert all(losses[-1][name] < losses[0][name] for name in decoder.space.named)


def test_a_resumed_run_is_the_uninterrupted_one(decoder: Supernet, tmp_path: Path) -> None:
    untrained = {name: value.clone() for name, value in decoder.state_dict().items()}
    train_language(decoder, TEXTS, CONFIG, tmp_path / "whole")
    whole = {name: value.clone() for name, value in decoder.state_dict().items()}
    decoder.load_state_dict(untrained)
    # Until the rates fall, a run does not know how long it will be.
    short = dataclasses.replace(CONFIG, steps=3, decay_share=0.01)
    train_language(decoder, TEXTS, short, tmp_path / "parts")
    decoder.load_state_dict(untrained)
    train_language(decoder, TEXTS, CONFIG, tmp_path / "parts", resume=True)
    for name, value in decoder.state_dict().items():
        assert torch.equal(value, whole[name]), name
    lines = [json.loads(line) for line in (tmp_path / "parts/train.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "losses" in line] == [1, 2, 3, 4, 5, 6]


def test_paths_are_drawn_whole(decoder: Supernet) -> None:
    levels = draw_paths(decoder.space, (40, 50), torch.Generator().manual_seed(0))
    full = torch.tensor(decoder.space.full().levels)
    assert bool((levels <= full).all()) and bool((levels[..., :4] == full[:4]).all())
    assert bool(((levels[..., 0::2] > 0) == (levels[..., 1::2] > 0)).all())
    tiny = (levels == torch.tensor(decoder.space.named["tiny"].levels)).all(dim=-1)
    assert 0.4 < float(tiny.double().mean()) < 0.55
    assert len(levels.flatten(0, 1).unique(dim=0)) == 4 * 4


def test_windows_are_of_both_kinds() -> None:
    config = dataclasses.replace(CONFIG, prose_share=0.25)
    windows = draw_windows(TEXTS, config, torch.Generator().manual_seed(0))
    steps = windows[:, 1:] - windows[:, :-1]
    rising = (steps == 1).sum(dim=1) > 8
    assert windows.shape == (4, 17) and int(rising.sum()) == 1


def test_rates_rise_stay_and_fall() -> None:
    config = dataclasses.replace(CONFIG, steps=100, warmup=9, decay_share=0.5)
    assert rate_share(config, 0) == pytest.approx(0.1)
    assert rate_share(config, 9) == rate_share(config, 50) == 1.0
    assert rate_share(config, 75) == pytest.approx(0.5)


def test_updates_are_orthogonal() -> None:
    matrices = torch.randn(2, 12, 8)
    values = torch.linalg.svdvals(orthogonal(matrices))
    assert bool(((values > 0.6) & (values < 1.3)).all())
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    assert float((orthogonal(matrices) * (u @ v)).sum((1, 2)).min()) > 0.9 * 8 * 0.7


def test_a_text_shorter_than_a_window_is_refused(decoder: Supernet) -> None:
    with pytest.raises(TrainError, match="shorter than a window"):
        train_language(decoder, {**TEXTS, "code": torch.arange(10)}, CONFIG)


def test_half_precision_halves_the_file(decoder: Supernet, tmp_path: Path) -> None:
    save(decoder, tmp_path / "whole.pt")
    save(decoder, tmp_path / "half.pt", torch.float16)
    sizes = [(tmp_path / name).stat().st_size for name in ("whole.pt", "half.pt")]
    assert sizes[1] < 0.75 * sizes[0]
    again = load(tmp_path / "half.pt")
    tied = again.stem.embedding.weight
    assert tied is again.head.classifier.weight  # type: ignore[union-attr]
    for name, value in decoder.state_dict().items():
        assert torch.equal(again.state_dict()[name], value.half().float()), name
