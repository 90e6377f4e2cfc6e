"""`nestling compile-plan`: from an ExecuTorch Cortex-M program to a bundle."""

from __future__ import annotations

from pathlib import Path

import click

CORES = ("cortex-m55", "cortex-m4", "cortex-m7", "cortex-m33")


@click.command("compile-plan")
@click.argument("program", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The bundle; default: PROGRAM's name with .nest in the current folder.",
)
@click.option("--target", type=click.Choice(CORES), default=CORES[0], show_default=True)
@click.option("--method", help="Of the program; the only one by default.")
@click.option("--name", help="Of the model, in the bundle.")
def command(
    program: Path, output: Path | None, target: str, method: str | None, name: str | None
) -> None:
    """Compile PROGRAM, a .pte that ExecuTorch lowered for Cortex-M, into a bundle of one stage.

    An operator without a kernel is named, with its place in the program and what it computes.
    """
    from nestling.targets.cortex_m.whole import bundle_program

    report = bundle_program(
        program, output or Path(f"{program.stem}.nest"), target=target, method=method, name=name
    )
    click.echo(
        f"{report.path}: {report.operators} operators, plan {report.plan_bytes:,} bytes, "
        f"weights {report.weight_bytes:,} bytes, arena {report.arena_bytes:,} bytes beside inputs "
        "and outputs"
    )
