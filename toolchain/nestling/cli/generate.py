"""`nestling generate`: let a decoder write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nestling.cli.token_policies import EPILOG, generation_options, parse_policy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nestling_runtime import Generation
    from nestling_runtime.generation import Piece, TextGenerator


@click.command("generate", epilog=EPILOG)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--prompt", help="What to go on from.")
@click.option(
    "--prompt-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A text to go on from.",
)
@generation_options
@click.option(
    "--expert-budget",
    type=click.IntRange(min=1),
    help="Memory for experts, in bytes; room for all by default.",
)
@click.option("--plain", is_flag=True, help="The text alone, without colours.")
@click.option("--json", "as_json", is_flag=True, help="Text, paths and figures as JSON.")
def command(
    bundle: Path,
    prompt: str | None,
    prompt_file: Path | None,
    policy_text: str | None,
    max_tokens: int,
    temperature: float,
    top_k: int,
    top_p: float,
    seed: int,
    stop: tuple[str, ...],
    threads: int,
    expert_budget: int | None,
    plain: bool,
    as_json: bool,
) -> None:
    """Go on from a prompt with the decoder in BUNDLE; tokens have the colour of their path."""
    if (prompt is None) == (prompt_file is None):
        raise click.UsageError("give either --prompt or --prompt-file")
    text = prompt if prompt_file is None else _read_text(prompt_file)
    import nestling_runtime
    from nestling_runtime.generation import TextGenerator

    with nestling_runtime.open(bundle, threads=threads) as model, TextGenerator(model) as generator:
        if expert_budget is not None:
            if model.experts is None:
                raise click.UsageError("--expert-budget is for bundles with experts")
            model.experts.configure(budget_bytes=expert_budget)
        policy = parse_policy(policy_text or generator.decoder.path_names[-1], generator.decoder)
        generator.decoder.load()
        sampling = nestling_runtime.Sampling(temperature, top_k, top_p, seed)
        generator.append(text or "")
        pieces = generator.write(policy=policy, max_tokens=max_tokens, sampling=sampling, stop=stop)
        if as_json:
            written = list(pieces)
            assert generator.last is not None
            report = _as_dict(written, generator.last, generator)
            if model.experts is not None:
                counted = model.experts.statistics()
                report["expert_hit_rate"] = counted.hit_rate
                report["expert_loaded_bytes"] = counted.loaded_bytes
            click.echo(json.dumps(report, indent=1))
        elif plain:
            for piece in pieces:
                click.echo(piece.text, nl=False)
            click.echo()
        else:
            _show(text or "", pieces, generator)


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise click.BadParameter(f"{file} is not UTF-8 text", param_hint="--prompt-file") from error


def _show(prompt: str, pieces: Iterable[Piece], generator: TextGenerator) -> None:
    """Show the text as it grows, and figures below it."""
    from rich.console import Console

    from nestling.cli.live_text import LiveText

    with LiveText(Console(), generator.decoder.path_names, prompt) as shown:
        for piece in pieces:
            shown.add(piece)
        if generator.last is not None:
            shown.finish(generator.last)


def _as_dict(pieces: list[Piece], last: Generation, generator: TextGenerator) -> dict[str, object]:
    return {
        "text": "".join(piece.text for piece in pieces),
        "tokens": last.token_ids,
        "paths": [token.path for token in last.tokens],
        "shares": {name: last.share(name) for name in generator.decoder.path_names},
        "reason": last.reason,
        "tokens_per_second": last.tokens_per_second,
        "prompt_tokens": last.prompt_tokens,
        "prompt_ms": last.prompt_ns * 1e-6,
        "switches": last.switches,
        "drafted": last.drafted,
        "accepted": last.accepted,
    }
