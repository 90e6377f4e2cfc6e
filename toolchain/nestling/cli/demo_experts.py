"""`nestling demo-experts`: more model than memory, many tasks in one, steps that choose."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from nestling.bench.records import Record

_PARTS = ("tasks", "language", "diffusion", "orders", "mid-size")


@click.command("demo-experts")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("build/experts"),
    show_default=True,
    help="Folder for everything that it makes.",
)
@click.option("--part", type=click.Choice(_PARTS), multiple=True, help="Only these parts.")
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--pictures", type=click.IntRange(min=10), default=500, show_default=True)
@click.option("--jobs", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--quiet", is_flag=True, help="Do not say what is being done.")
def command(
    out: Path, part: tuple[str, ...], rounds: int, pictures: int, jobs: int, quiet: bool
) -> None:
    """Run networks of experts on digits and text, with little memory and slow storage.

    Leaves bench.json, memory.png, tasks.png, diffusion.png, orders.png and bundles in OUT. What it
    trains on the digits it keeps there, too.
    """
    from nestling.bench.experts import DemoOptions, ExpertsDemo

    def say(text: str) -> None:
        if not quiet:
            click.echo(text, err=True)

    options = DemoOptions(rounds=rounds, pictures=pictures - pictures % 10, jobs=jobs)
    records = ExpertsDemo(out, options, say).run(part or _PARTS)
    _print(records)
    click.echo(f"\nwritten: {out / 'bench.json'} and the pictures beside it")


def _print(records: list[Record]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("metric", "of", title="Experts", title_justify="left", header_style="bold")
    for name in ("value", "baseline", "ratio", "spread"):
        table.add_column(name, justify="right")
    for record in records:
        if record.metric in ("experts_speed", "experts_hit_rate"):
            continue  # in the picture
        numbers = (record.value, record.baseline, record.ratio, record.spread)
        table.add_row(
            record.metric,
            record.model,
            *("" if number is None else f"{number:,.4g}" for number in numbers),
        )
    Console().print(table)
