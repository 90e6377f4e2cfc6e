"""`nestling bench`: measure a bundle, or all the networks of the README's table."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click


@click.command("bench")
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option("--all", "all_models", is_flag=True, help="Build and measure every network.")
@click.option("--only", multiple=True, metavar="NAME", help="With --all: this network alone.")
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the records here.",
)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0),
    default=2.0,
    show_default=True,
    help="Spent on each measurement of each path.",
)
@click.option("--separate", is_flag=True, help="Also train the named subnets alone (minutes).")
@click.option("--peers/--no-peers", default=True, help="Also measure other runtimes.")
@click.option("--jobs", type=click.IntRange(min=1), default=2, show_default=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("build/bench"),
    show_default=True,
    help="With --all: folder for bundles.",
)
@click.option("--quiet", is_flag=True, help="Print nothing; use with --json.")
def command(
    bundle: Path | None,
    all_models: bool,
    only: tuple[str, ...],
    json_file: Path | None,
    threads: int,
    seconds: float,
    separate: bool,
    peers: bool,
    jobs: int,
    out: Path,
    quiet: bool,
) -> None:
    """Measure BUNDLE: bytes, memory, switches, runs, parity, accuracy kept, other runtimes.

    Figures that compare with something need what `nestling export --bench` keeps beside the bundle;
    the others are taken from the bundle alone.
    """
    if (bundle is None) == (not all_models):
        raise click.UsageError("name one bundle, or use --all")
    from nestling.bench import suite
    from nestling.bench.native import Effort
    from nestling.bench.records import write_records
    from nestling.bench.report import print_records
    from nestling.cli.progress import progress_bar

    def say(text: str) -> None:
        if not quiet:
            click.echo(text, err=True)

    effort = Effort(seconds=seconds)
    if bundle is not None:
        records = suite.measure_bundle(
            bundle, threads=threads, effort=effort, separate=separate, peers=peers, say=say
        )
        if json_file is not None:
            write_records(records, json_file)
    else:
        records = []
        for measured in suite.measure_all(
            out,
            threads=threads,
            effort=effort,
            only=only,
            jobs=jobs,
            say=say,
            bar=partial(progress_bar, quiet=quiet),
        ):
            records += measured
            if json_file is not None:  # after each bundle: the next one may take half an hour
                write_records(records, json_file)
    if not quiet:
        print_records(records)
