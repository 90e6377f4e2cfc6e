"""`nestling demo-devices`: the digits on the host, on emulated Arm Linux and on a Cortex-M55."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from nestling.bench.devices import DeviceDemo


@click.command("demo-devices")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("build/devices"),
    show_default=True,
    help="Folder for everything that it makes.",
)
@click.option("--network", type=click.Choice(["digits-cnn", "digits-vit"]), default="digits-cnn")
@click.option("--images", type=click.IntRange(min=1), default=100, show_default=True)
@click.option("--random", "random_subnets", type=click.IntRange(min=0), default=20)
@click.option("--jobs", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--retrain", is_flag=True, help="Train again what OUT has.")
@click.option("--quiet", is_flag=True, help="No progress bars.")
def command(
    out: Path,
    network: str,
    images: int,
    random_subnets: int,
    jobs: int,
    retrain: bool,
    quiet: bool,
) -> None:
    """Push one digits network to three devices, run it there along many paths, compare.

    Leaves bundles and bench.json in OUT.
    """
    from nestling.bench.devices import run_device_demo
    from nestling.cli.progress import progress_bar

    demo = run_device_demo(
        out,
        network=network,
        images=images,
        random_subnets=random_subnets,
        jobs=jobs,
        retrain=retrain,
        quiet=quiet,
        bar=partial(progress_bar, quiet=quiet),
        say=lambda text: click.echo(text, err=True),
    )
    _print(demo, out)


def _print(demo: DeviceDemo, out: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from nestling.bench.devices import device_rows, path_rows
    from nestling.bench.report import format_value

    console = Console()
    table = Table(title=f"{demo.network}: bytes and switches", title_justify="left")
    for name in ("device", "scheme", "bundle", "on the line", "arena", "weights", "switch"):
        table.add_column(name, justify="left" if name in ("device", "scheme") else "right")
    for row in device_rows(demo):
        table.add_row(*row)
    console.print(table)
    table = Table(
        title=f"Accuracy on {len(demo.labels)} held-out digits, and the median of a run",
        title_justify="left",
        show_lines=True,
    )
    table.add_column("path")
    for run in demo.runs:
        table.add_column(f"{run.device} {run.scheme}\n{run.clock}", justify="right")
    for row in path_rows(demo):
        table.add_row(*row)
    console.print(table)
    for record in demo.records:
        # Every shape of the kernels is in the file; here only what has something to compare with.
        if record.metric.startswith("instructions_per_mac") and record.ratio is None:
            continue
        value = record.where if record.value is None else format_value(record.value, record.unit)
        ratio = f" ({record.ratio:.2f} x)" if record.ratio is not None else ""
        core = record.where.split()[0] if record.metric.startswith("instructions_per") else ""
        console.print(
            f"{record.metric} {core} {record.model}: [bold]{value}[/]{ratio}", highlight=False
        )
    console.print(f"\nwritten: {out / 'bench.json'}")
