#!/usr/bin/env python3
"""Train the language model that comes with nestling, from the text that comes with Python.

    .venv/bin/python scripts/train_lm.py --out build/train/language
    .venv/bin/python scripts/train_lm.py --out build/train/language --install

Forty minutes on one core, by the log of the run that is kept. `--resume` goes on from the last
checkpoint; `--install` puts the result where `nestling.recipes.language` finds it.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import click
import torch

from nestling.elastic import Supernet, save
from nestling.language.bits import Windows, bits_per_byte, cut_windows, score_subnet
from nestling.language.corpus import KINDS, load_corpus
from nestling.language.tokenizer import (
    encode_stream,
    load_tokenizer,
    token_bytes,
    train_tokenizer,
)
from nestling.language.training import LOG_NAME, LanguageTraining, train_language
from nestling.recipes import language

LIMIT_BYTES = 4_000_000
REPORT_NAME = "report.json"
# Fewer tokens than bytes and special ones: no merges.
BYTES = 256


@click.command()
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--steps", type=click.IntRange(min=1), help="Optimiser updates in all.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--set", "settings", multiple=True, help="Another setting, NAME=NUMBER.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in OUT.")
@click.option("--install", is_flag=True, help="Copy the result into the recipe's folder.")
def main(
    out: Path,
    steps: int | None,
    threads: int,
    settings: tuple[str, ...],
    resume: bool,
    install: bool,
) -> None:
    """Train into OUT."""
    torch.set_num_threads(threads)
    config = configure(steps, threads, settings)
    out.mkdir(parents=True, exist_ok=True)
    training, validation = load_corpus("train"), load_corpus("validation")
    file = out / language.TOKENIZER_NAME
    if not (resume and file.exists()):
        train_tokenizer([], BYTES).save(str(file))
    tokenizer = load_tokenizer(file, language.VOCABULARY)
    texts = {kind: encode_stream(tokenizer, training, kind) for kind in KINDS}
    checked = {kind: encode_stream(tokenizer, validation, kind) for kind in KINDS}
    windows = cut_windows(checked, token_bytes(tokenizer), length=config.length, count=16)
    for kind in KINDS:
        click.echo(f"{kind}: {len(texts[kind]):,} tokens to learn from", err=True)
    supernet = language.build()
    fit = train_language(
        supernet,
        texts,
        config,
        out,
        resume=resume,
        evaluate=lambda trained: score_exits(trained, windows),
        evaluate_every=4 * config.checkpoint_every,
    )
    path = out / language.SUPERNET_NAME
    save(supernet, path, torch.float16)
    if path.stat().st_size > LIMIT_BYTES:
        raise click.ClickException(f"{path} has more than {LIMIT_BYTES:,} bytes")
    quality = score_exits(supernet, windows)
    report = {
        "recipe": language.NAME,
        "metric": "bits_per_byte",
        "quality": {name: quality[name] for name in supernet.space.named},
        "seconds": round(fit.seconds, 1),
        "tokens": fit.tokens,
        "config": dataclasses.asdict(config),
    }
    (out / REPORT_NAME).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    click.echo(f"{fit.step} steps, {fit.tokens:,} tokens, {fit.seconds:.0f} s: {quality}", err=True)
    if install:
        for name in (language.SUPERNET_NAME, language.TOKENIZER_NAME, LOG_NAME, REPORT_NAME):
            shutil.copyfile(out / name, language.FOLDER / name)


def configure(steps: int | None, threads: int, settings: tuple[str, ...]) -> LanguageTraining:
    """Return the recipe's settings with those of the command line."""
    config = dataclasses.replace(language.TRAINING, threads=threads)
    changes: dict[str, object] = {} if steps is None else {"steps": steps}
    known = dataclasses.asdict(config)
    for setting in settings:
        name, _, value = setting.partition("=")
        if name not in known:
            raise click.BadParameter(
                f"no setting {name!r}; there are {', '.join(known)}", param_hint="--set"
            )
        try:
            changes[name] = type(known[name])(float(value))
        except ValueError as error:
            raise click.BadParameter(
                f"{setting!r} is not NAME=NUMBER", param_hint="--set"
            ) from error
    # Each has the type of the setting that it replaces.
    return dataclasses.replace(config, **changes)  # type: ignore[arg-type]


def score_exits(supernet: Supernet, windows: Windows) -> Mapping[str, float]:
    """Return bits per byte of the named subnets and of every exit of the full width."""
    space = supernet.space
    subnets = {
        f"exit{len(kept)}": space.uniform(space.levels, i) for i, kept in enumerate(space.depths)
    }
    subnets = {**subnets, **space.named}
    return {
        name: bits_per_byte(score_subnet(supernet, subnet, windows)[0], windows.sizes)
        for name, subnet in subnets.items()
    }


if __name__ == "__main__":
    main()
