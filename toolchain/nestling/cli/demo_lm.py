"""`nestling demo-lm`: a path for every token, and what it is worth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from nestling.bench.language_records import LanguageResult, PolicyRow
    from nestling.bench.records import Record


@click.command("demo-lm")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("build/lm"),
    show_default=True,
    help="Folder for everything that it makes.",
)
@click.option(
    "--windows",
    type=click.IntRange(min=2),
    default=24,
    show_default=True,
    help="Windows of 256 tokens of each kind of text.",
)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--quiet", is_flag=True, help="Do not say what is being done.")
def command(out: Path, windows: int, threads: int, quiet: bool) -> None:
    """Read and continue held-out text under every policy.

    Quality and compute are eager torch's, time is the native runtime's. Leaves bench.json,
    frontier.png, paragraph.png and bundles in OUT.
    """
    import torch

    from nestling.bench.conversations import measure_conversations
    from nestling.bench.decoding import measure_decoder
    from nestling.bench.language import LanguageBench
    from nestling.bench.language_plot import draw_colored_text, draw_language_frontier
    from nestling.bench.language_records import language_records
    from nestling.bench.llamacpp import measure_llamacpp
    from nestling.bench.records import merge_records
    from nestling.recipes.language import FOLDER, TOKENIZER_NAME, load_trained

    torch.set_num_threads(threads)
    supernet, tokenizer = load_trained()

    def say(text: str) -> None:
        if not quiet:
            click.echo(text, err=True)

    bench = LanguageBench(supernet, tokenizer, windows=windows, say=say)
    result = bench.measure()
    out.mkdir(parents=True, exist_ok=True)
    merge_records(language_records(result), out / "bench.json")
    draw_language_frontier(result, bench.names, out / "frontier.png")
    draw_colored_text(bench.color_text(), out / "paragraph.png")
    say("decoding on the native runtime")
    timed = measure_decoder(
        supernet,
        out / "decoder.nest",
        bench.prompts(),
        thresholds=bench.confidence.thresholds,
        tokenizer=(FOLDER / TOKENIZER_NAME).read_bytes(),
        threads=threads,
    )
    say("conversations that take turns in memory for some of them")
    timed += measure_conversations(
        out / "decoder.nest", bench.prompts(count=4, length=160), threads=threads
    )
    say("a decoder of 100 M parameters against llama.cpp")
    timed += measure_llamacpp(out, threads=threads)
    merge_records(timed, out / "bench.json")
    _print(result)
    _print_times(timed)
    files = ", ".join(str(out / name) for name in ("bench.json", "frontier.png", "paragraph.png"))
    click.echo(f"\nwritten: {files}")


def _print(result: LanguageResult) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(_policies("Policies on held-out text", result.rows, result.full_macs))
    console.print(_policies("Routes (Duo-LLM)", result.routes, result.full_macs))
    table = Table("state rule", title="What a switch leaves", title_justify="left")
    for name in ("divergence", "agreement", "work for a skipped token"):
        table.add_column(name, justify="right")
    for rule, (divergence, agreement, macs) in result.states.items():
        share = f"{macs / result.full_macs:.1%}"
        table.add_row(rule, f"{divergence:.4f} bit", f"{agreement:.1%}", share)
    console.print(table)
    for row in result.speculation:
        console.print(
            f"speculation, {row.kind}: {row.acceptance:.1%} of drafts accepted, "
            f"{row.tokens_per_run:.2f} tokens a run of the full path, "
            f"output {'identical' if row.identical else '[bold red]differs[/]'}",
            highlight=False,
        )


def _print_times(records: list[Record]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("native runtime", title="Time and memory", title_justify="left")
    for name in ("of", "value", "spread"):
        table.add_column(name, justify="left" if name == "of" else "right")
    for record in records:
        spread = "" if record.spread is None else f"{record.spread:.3f}"
        value = "" if record.value is None else f"{record.value:.3f}"
        table.add_row(record.metric, record.model, value, spread)
    Console().print(table)


def _policies(title: str, rows: list[PolicyRow], full_macs: float) -> object:
    from rich.table import Table

    table = Table("policy", title=title, title_justify="left", header_style="bold")
    for name in ("bits per byte", "full share", "gap recovered", "work", "settings"):
        table.add_column(name, justify="left" if name == "settings" else "right")
    for row in rows:
        table.add_row(
            row.policy,
            f"{row.bits_per_byte:.4f}",
            f"{row.full_share:.1%}",
            f"{row.gap_recovered:.3f}",
            f"{row.macs / full_macs:.1%}",
            row.detail,
        )
    return table
