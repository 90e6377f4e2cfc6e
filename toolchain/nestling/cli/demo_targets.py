"""`nestling demo-targets`: three networks on every target."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from nestling.bench.targets import TargetResult, TargetsDemo

NETWORKS = ("digits-vit", "digits-cnn", "mobilenet-v2-224")


@click.command("demo-targets")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("build/targets"),
    show_default=True,
    help="Folder for everything that it makes; what it has already is shown too.",
)
@click.option("--network", "networks", type=click.Choice(NETWORKS), multiple=True)
@click.option("--target", "targets", multiple=True, help="See `nestling targets`; default all.")
@click.option("--scheme", "schemes", multiple=True, help="Default: all that a target takes.")
@click.option("--images", type=click.IntRange(min=1), default=100, show_default=True)
@click.option("--jobs", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--quiet", is_flag=True, help="No progress bars.")
def command(
    out: Path,
    networks: tuple[str, ...],
    targets: tuple[str, ...],
    schemes: tuple[str, ...],
    images: int,
    jobs: int,
    quiet: bool,
) -> None:
    """Export digits networks and MobileNetV2 for every target, weigh them and run them.

    Leaves bundles and bench.json in OUT.
    """
    from nestling.bench.targets import run_targets_demo
    from nestling.cli.progress import progress_bar

    demo = run_targets_demo(
        out,
        networks=networks or NETWORKS,
        targets=targets,
        schemes=schemes,
        images=images,
        jobs=jobs,
        quiet=quiet,
        bar=partial(progress_bar, quiet=quiet),
        say=lambda text: click.echo(text, err=True),
    )
    _print(demo, out)


def _print(demo: TargetsDemo, out: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for network in dict.fromkeys(result.network for result in demo.results):
        table = Table(title=network, title_justify="left", show_lines=True)
        table.add_column("target", no_wrap=True)
        for name in ("delegated", "bytes\nx full alone", "plain\nexports", "top-1\ndifference"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("full path")
        for result in demo.results:
            if result.network == network:
                table.add_row(*_row(result))
        console.print(table)
    for record in demo.records:
        if record.metric == "block_grain_ratio" and record.value is not None:
            console.print(f"{record.metric} {record.model}: {record.value:.3f}", highlight=False)
    for result in demo.results:
        if result.missing:
            console.print(f"{result.label}: {result.missing}", highlight=False)
    console.print(f"\nwritten: {out / 'bench.json'}")


def _row(result: TargetResult) -> list[str]:
    def ratio(size: int | None) -> str:
        if size is None or result.alone_bytes is None:
            return ""
        return f"{size / result.alone_bytes:.3f}"

    def number(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    return [
        f"{result.target}\n{result.scheme}, {result.grain}",
        number(result.delegated, ".3f"),
        f"{number(result.bundle_bytes, ',')}\n{ratio(result.bundle_bytes)}",
        f"\n{ratio(result.separate_bytes)}",
        f"{number(result.agreement, '.3f')}\n{number(result.largest_difference, '.1e')}",
        "\n".join(f"{name} {value:,.0f}" for name, value in result.figures.items()),
    ]
