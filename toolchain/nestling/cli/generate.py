"""`nestling generate`: let a decoder write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nestling.cli.token_policies import FORMS, parse_policy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.text import Text

    from nestling_runtime import Generation
    from nestling_runtime.generation import Piece, TextGenerator

_STYLES = ("green", "cyan", "blue", "magenta", "yellow", "red")


_EPILOG = (
    "\b\nPolicies; all but the last take small=PATH and large=PATH too, by default the\n"
    "smallest and the largest path:\n" + "\n".join(f"  {form}" for form in FORMS)
)


@click.command("generate", epilog=_EPILOG)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--prompt", help="What to go on from.")
@click.option(
    "--prompt-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A text to go on from.",
)
@click.option(
    "--policy",
    "policy_text",
    help="A path's name, or one of the policies below.  [default: the largest path]",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1),
    default=128,
    show_default=True,
    help="To write at most.",
)
@click.option(
    "--temperature",
    type=click.FloatRange(min=0),
    default=0.0,
    help="0, the default: the most probable token.",
)
@click.option(
    "--top-k", type=click.IntRange(min=0), default=0, help="Draw from so many tokens; 0: from all."
)
@click.option(
    "--top-p",
    type=click.FloatRange(0, 1),
    default=0.0,
    help="Draw from the tokens that together are so probable; 0: from all.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of what is drawn."
)
@click.option("--stop", multiple=True, help="A text to stop at; may be given again.")
@click.option("--threads", type=click.IntRange(min=0), default=0, help="0: all processors.")
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
        policy = parse_policy(policy_text or generator.decoder.path_names[-1], generator.decoder)
        generator.decoder.load()
        sampling = nestling_runtime.Sampling(temperature, top_k, top_p, seed)
        generator.append(text or "")
        pieces = generator.write(policy=policy, max_tokens=max_tokens, sampling=sampling, stop=stop)
        if as_json:
            written = list(pieces)
            assert generator.last is not None
            click.echo(json.dumps(_as_dict(written, generator.last, generator), indent=1))
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
    import time

    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    names = generator.decoder.path_names
    styles = dict(zip(names, _STYLES * len(names), strict=False))
    body = Text(prompt, style="dim")
    counts = dict.fromkeys(names, 0)
    begin = time.perf_counter()
    with Live(console=Console(), refresh_per_second=12, vertical_overflow="visible") as live:
        for piece in pieces:
            token = piece.token
            body.append(piece.text, style=styles[token.path] if token is not None else None)
            if token is not None:
                counts[token.path] += 1
            rate = sum(counts.values()) / (time.perf_counter() - begin)
            live.update(Group(body, _figures(counts, rate, styles)))
        last = generator.last
        if last is not None:
            figures = _figures(counts, last.tokens_per_second, styles)
            if last.drafted:
                figures.append(f"  drafts right: {last.accepted} of {last.drafted}")
            live.update(Group(body, figures))


def _figures(counts: dict[str, int], rate: float, styles: dict[str, str]) -> Text:
    """Return one line: each path's share of the tokens, and tokens a second."""
    from rich.text import Text

    total = max(1, sum(counts.values()))
    line = Text()
    for name, count in counts.items():
        line.append(f"{name} {100 * count / total:.0f} %  ", style=styles[name])
    return line.append(f"{rate:.1f} tokens/s")


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
