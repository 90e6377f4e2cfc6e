"""`nestling simulate`: a hot day on a simulated device, policy against fixed sub-networks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from nestling.bench.hot_day import HotDay


@click.command("simulate")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--device", default="phone-mid", show_default=True, help="Profile to simulate.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--days", type=click.IntRange(min=1), default=5, show_default=True, help="Seeds.")
@click.option(
    "--costs",
    type=click.Path(path_type=Path, dir_okay=False),
    help="JSON of microseconds measured on that device, by path or stage; modelled without.",
)
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="PNG to draw.")
@click.option(
    "--json",
    "records_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File for the records.",
)
@click.option("--quiet", is_flag=True, help="No progress bar.")
def command(
    bundle: Path,
    device: str,
    threads: int,
    days: int,
    costs: Path | None,
    plot: Path | None,
    records_file: Path | None,
    quiet: bool,
) -> None:
    """Live through hot days with BUNDLE on a throttling device, its battery at 30 %.

    Compares nestling's policy with each named path alone: deadlines missed, quality, energy, heat,
    battery. Nothing is measured: see the comments of the device's profile for its figures.
    """
    from rich.console import Console

    from nestling.bench.hot_day import judge_hot_day
    from nestling.bench.records import write_records
    from nestling.cli.progress import progress_bar
    from nestling_devices.sim import read_measurements

    with progress_bar("days", quiet=quiet) as advance:
        found = judge_hot_day(
            bundle,
            device=device,
            threads=threads,
            seeds=range(days),
            plot=plot,
            measured_us=read_measurements(costs) if costs else None,
            advance=advance,
        )
    Console().print(hot_day_table(found))
    if records_file is not None:
        write_records(found.records, records_file)
    written = [str(file) for file in (plot, records_file) if file is not None]
    if written:
        click.echo("written: " + ", ".join(written))


def hot_day_table(found: HotDay) -> Any:
    """Return the comparison as a table: one row a contestant, medians over the days."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    minutes = found.scenario.used_s / 60
    days = f"{len(found.seeds)} days" if len(found.seeds) > 1 else "one day"
    table = Table(
        title=f"{found.bundle} on a simulated {found.device.name}\n{found.weather}; "
        f"medians of {days}: about {minutes:.0f} minutes of use, "
        f"{found.contestants[0].days[0].requests:,} requests of {found.inputs} inputs",
        title_justify="left",
        title_style="",
        header_style="bold",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("policy", no_wrap=True)
    for name in (
        "\nmissed",
        "right\nin time",
        "right\nof all",
        "energy\nWh",
        "slowed\nmin",
        "battery\nleft",
        "days\nempty",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    fixed = len(found.paths.names)
    for index, one in enumerate(found.contestants):
        if index == fixed:
            table.add_section()
        battery = one.days[0].battery is not None
        empty = sum(day.off_at_s is not None for day in one.days)
        table.add_row(
            one.name,
            f"{100 * one.median(lambda day: day.miss_rate):.2f} %",
            f"{one.median(lambda day: day.quality):.4f}",
            f"{one.median(lambda day: day.useful):.4f}",
            f"{one.median(lambda day: day.energy_j) / 3600:.2f}",
            f"{one.median(lambda day: day.throttled_s) / 60:.0f}",
            f"{100 * one.median(lambda day: day.battery or 0.0):.1f} %" if battery else "mains",
            f"{empty}",
        )
    table.caption = (
        f"right: {found.paths.metric} of the answers in time, and with the others counted as wrong"
    )
    table.caption_justify = "left"
    return table
