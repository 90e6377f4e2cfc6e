#!/usr/bin/env python3
"""Train the language model of experts that comes with nestling, from the text of Python itself.

    .venv/bin/python scripts/train_experts.py --out build/train/experts
    .venv/bin/python scripts/train_experts.py --out build/train/experts --install

`nestling.recipes.experts.language` says which runs made what is kept: three quarters of an hour on
one core that others used, too. `--install` puts the result where that recipe finds it.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path

import click
import torch

from nestling.elastic import Supernet, load, save
from nestling.experts.decoder import ExpertLlama
from nestling.language.bits import Windows, bits_per_byte, cut_windows, score_subnet
from nestling.language.corpus import KINDS, load_corpus
from nestling.language.tokenizer import encode_stream, load_tokenizer, token_bytes
from nestling.language.training import LOG_NAME
from nestling.recipes.experts import language
from nestling.recipes.experts.language.training import rounded_experts, train_experts
from nestling.recipes.language import VOCABULARY

LIMIT_BYTES = 4_000_000
REPORT_NAME = "report.json"


@click.command()
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--steps", type=click.IntRange(min=1), help="Optimiser updates in all.")
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--lasting", type=click.FloatRange(min=0), help="Weight of experts that last.")
@click.option(
    "--start",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Weights to begin with; a shared expert becomes routed ones.",
)
@click.option("--balance", type=click.FloatRange(min=0), help="Weight of even use.")
@click.option("--matrix-lr", type=click.FloatRange(min=0), help="Muon's rate.")
@click.option("--minutes", type=click.FloatRange(min=0), help="Begin to end after so many.")
@click.option("--install", is_flag=True, help="Copy the result into the recipe's folder.")
def main(
    out: Path,
    steps: int | None,
    threads: int,
    lasting: float | None,
    start: Path | None,
    balance: float | None,
    matrix_lr: float | None,
    minutes: float | None,
    install: bool,
) -> None:
    """Train into OUT."""
    torch.set_num_threads(threads)
    config = language.TRAINING
    schedule = dataclasses.replace(
        config.schedule,
        steps=steps or config.schedule.steps,
        threads=threads,
        matrix_lr=matrix_lr or config.schedule.matrix_lr,
    )
    config = dataclasses.replace(
        config,
        schedule=schedule,
        lasting=config.lasting if lasting is None else lasting,
        balance=config.balance if balance is None else balance,
    )
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = load_tokenizer(language.TOKENIZER, VOCABULARY)
    training, validation = load_corpus("train"), load_corpus("validation")
    texts = {kind: encode_stream(tokenizer, training, kind) for kind in KINDS}
    checked = {kind: encode_stream(tokenizer, validation, kind) for kind in KINDS}
    windows = cut_windows(checked, token_bytes(tokenizer), length=schedule.length, count=16)
    supernet = begin(start)
    fit = train_experts(
        supernet,
        texts,
        config,
        out,
        evaluate=lambda trained: score_bits(trained, windows, config.group),
        evaluate_every=200,
        seconds=math.inf if minutes is None else 60.0 * minutes,
    )
    path = out / language.SUPERNET_NAME
    save(supernet, path, torch.float16)
    if path.stat().st_size > LIMIT_BYTES:
        raise click.ClickException(f"{path} has more than {LIMIT_BYTES:,} bytes")
    quality = score_bits(supernet, windows, config.group)
    report = {
        "recipe": language.NAME,
        "metric": "bits_per_byte",
        "quality": dict(quality),
        "seconds": round(fit.seconds, 1),
        "tokens": fit.tokens,
        "config": dataclasses.asdict(config),
    }
    (out / REPORT_NAME).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    click.echo(f"{fit.step} steps, {fit.tokens:,} tokens, {fit.seconds:.0f} s: {quality}", err=True)
    if install:
        for name in (language.SUPERNET_NAME, LOG_NAME, REPORT_NAME):
            shutil.copyfile(out / name, language.FOLDER / name)


def begin(start: Path | None) -> ExpertLlama:
    """Return what is trained: a new decoder, one that was trained, or one upcycled from it."""
    if start is None:
        return language.build(language.SHARED_HIDDEN)
    first = load(start)
    if not isinstance(first, ExpertLlama) or first.config is None:
        raise click.BadParameter("not a decoder with experts", param_hint="--start")
    if not first.config["shared_hidden"]:
        return first
    supernet = language.build()
    language.upcycle(supernet, first)
    return supernet


def score_bits(supernet: Supernet, windows: Windows, group: int) -> Mapping[str, float]:
    """Return bits per byte with experts as they are, and rounded to 8 and to 4 bits."""
    scores = {}
    for name, bits in (("full", None), ("8-bit", 8), ("4-bit", 4)):
        with rounded_experts(supernet, bits, group):  # type: ignore[arg-type]
            found = score_subnet(supernet, supernet.space.full(), windows)[0]
        scores[name] = bits_per_byte(found, windows.sizes)
    return scores


if __name__ == "__main__":
    main()
