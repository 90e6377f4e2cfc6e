"""`nestling demo`: the whole way on real scans, in a few minutes."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from nestling.bench.demo import BundleResult, DemoResult


@click.command("demo")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("build/demo"),
    show_default=True,
    help="Folder for everything that it makes.",
)
@click.option("--network", type=click.Choice(["digits-vit", "digits-cnn"]), multiple=True)
@click.option("--scheme", type=click.Choice(["fp32", "int8-dynamic", "int8-static"]), multiple=True)
@click.option("--jobs", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--reuse", is_flag=True, help="Do not train again what OUT has.")
@click.option("--quiet", is_flag=True, help="No progress bars.")
def command(
    out: Path,
    network: tuple[str, ...],
    scheme: tuple[str, ...],
    jobs: int,
    reuse: bool,
    quiet: bool,
) -> None:
    """Train two small networks on scanned digits, export them, switch on every image.

    Leaves OUT/digits.nest (a vision transformer in fp32), the other bundles, bench.json and
    frontier.png.
    """
    from nestling.bench.demo import NETWORKS, run_demo
    from nestling.cli.progress import progress_bar

    result = run_demo(
        out,
        networks=network or tuple(NETWORKS),
        schemes=scheme,
        jobs=jobs,
        retrain=not reuse,
        quiet=quiet,
        bar=partial(progress_bar, quiet=quiet),
        say=lambda text: click.echo(text, err=True),
    )
    _print(result, out)


def _print(result: DemoResult, out: Path) -> None:
    from rich.console import Console

    from nestling.bench.report import format_value

    console = Console()
    for measured in result.bundles:
        console.print(_table(measured))
    for record in result.records:
        if record.metric in ("retention_min", "parity_max", "bundle_bytes_ratio"):
            value = format_value(record.value, record.unit)
            console.print(f"{record.metric} of {record.model}: [bold]{value}[/]", highlight=False)
    files = [*(measured.bundle for measured in result.bundles), out / "bench.json"]
    console.print("\nwritten: " + ", ".join(str(file) for file in [*files, out / "frontier.png"]))


def _table(measured: BundleResult) -> object:
    from rich.table import Table

    named = [row for row in measured.rows if row.named]
    others = [row for row in measured.rows if not row.named]
    table = Table(
        title=f"{measured.network} {measured.scheme}: {measured.bundle.name}, "
        f"{measured.switches:,} switches",
        title_justify="left",
        header_style="bold",
    )
    table.add_column("path")
    for name in ("parameters", "bytes", "eager torch", "runtime", "latency"):
        table.add_column(name, justify="right")
    for row in named:
        table.add_row(
            row.name,
            f"{row.parameters:,}",
            f"{row.weight_bytes:,}",
            f"{row.eager_accuracy:.4f}",
            f"{row.accuracy:.4f}",
            f"{row.latency_us:.1f} us",
        )
    if others:
        table.add_section()
        for name, pick in (("worst random", min), ("best random", max)):
            row = pick(others, key=lambda row: row.accuracy)
            table.add_row(
                f"{name} of {len(others)}",
                f"{row.parameters:,}",
                "",
                f"{row.eager_accuracy:.4f}",
                f"{row.accuracy:.4f}",
                f"{row.latency_us:.1f} us",
            )
    return table
