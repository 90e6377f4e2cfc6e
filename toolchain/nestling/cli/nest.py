"""`nestling nest`: from an ONNX file to a supernet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nestling.cli.export import read_shares

if TYPE_CHECKING:
    from nestling.onnx_in.nest import NestReport


def read_shapes(
    ctx: click.Context, option: click.Parameter, texts: tuple[str, ...]
) -> dict[str, tuple[int, ...]]:
    """Read shapes such as `pixels=1,3,224,224`, one an input."""
    shapes = {}
    for text in texts:
        name, equals, sizes = text.rpartition("=")
        try:
            shape = tuple(int(size) for size in sizes.split(","))
        except ValueError:
            shape = ()
        if not equals or not name or not shape or min(shape) < 1:
            raise click.BadParameter(f"{text!r} is not a shape such as pixels=1,3,224,224")
        shapes[name] = shape
    return shapes


@click.command("nest")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for supernet.pt; default: build/nest/MODEL's name.",
)
@click.option("--widths", callback=read_shares, help="Levels of every block, e.g. 0.25,0.5,1.")
@click.option("--depths", callback=read_shares, help="Shares of its layers to keep, e.g. 0.5,1.")
@click.option(
    "--shape",
    "shapes",
    multiple=True,
    callback=read_shapes,
    help="Of an input whose sizes the file leaves open: NAME=1,3,224,224. Repeatable.",
)
@click.option("--output-name", help="Which output to keep, where the model has several.")
@click.option(
    "--calibration",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Real inputs for the statistics of batch norm, which training needs: an .npz file, an "
    "array of the same name for each input, first axis the sample.",
)
@click.option("--sort/--no-sort", default=True, help="Put the units that matter most first.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(
    model: Path,
    output: Path | None,
    widths: tuple[float, ...] | None,
    depths: tuple[float, ...] | None,
    shapes: dict[str, tuple[int, ...]],
    output_name: str | None,
    calibration: Path | None,
    sort: bool,
    as_json: bool,
) -> None:
    """Make a supernet of an ONNX file: a CNN, a vision transformer, an encoder of text.

    Finds residual blocks of attention, feed-forward layers and convolutions, and makes them
    elastic; at full width the supernet computes what the model does. Leaves OUTPUT/supernet.pt,
    which `nestling export` takes, and nestling.elastic.load, so that it can be trained.
    """
    from nestling.cli.sources import CHECKPOINT_NAME
    from nestling.elastic import save, sort_units
    from nestling.elastic.widths import DEFAULT_WIDTHS
    from nestling.onnx_in.nest import nest

    report = nest(
        model,
        widths or DEFAULT_WIDTHS,
        depths,
        shapes=shapes,
        output=output_name,
        samples=None if calibration is None else _read_arrays(calibration),
    )
    if sort:
        sort_units(report.supernet)
    folder = output or Path("build/nest") / model.stem
    folder.mkdir(parents=True, exist_ok=True)
    save(report.supernet, folder / CHECKPOINT_NAME)
    _print_report(report, folder / CHECKPOINT_NAME, as_json)


def _read_arrays(file: Path) -> dict[str, Any]:
    """Read the arrays of a calibration file, which are named as the model's inputs are."""
    import zipfile

    import numpy as np
    import torch

    from nestling.errors import ExportError

    try:
        with np.load(file) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise ExportError("the calibration file cannot be read", actual=str(file)) from error


def _print_report(report: NestReport, checkpoint: Path, as_json: bool) -> None:
    supernet = report.supernet
    paths = {n: supernet.count_parameters(s) for n, s in supernet.space.named.items()}
    facts = {
        "supernet": str(checkpoint),
        "subnets": supernet.space.count(),
        "paths": paths,
        "places": [{"kind": kind, "node": node} for kind, node in report.places],
        "left_as_they_are": [{"node": r.where, "why": r.why} for r in report.refusals],
        "dropped_outputs": list(report.dropped_outputs),
        "any_batch": report.any_batch,
    }
    if as_json:
        import json

        click.echo(json.dumps(facts, indent=1))
        return
    kinds = [kind for kind, _ in report.places]
    counted = ", ".join(
        f"{kinds.count(kind)} {kind.replace('_', ' ')}" for kind in dict.fromkeys(kinds)
    )
    click.echo(f"{checkpoint}: {counted}; {supernet.space.count():,} subnets")
    for name, parameters in paths.items():
        click.echo(f"  {name}: {parameters:,} parameters")
    for refusal in report.refusals:
        click.echo(f"left as it is: {refusal.where}: {refusal.why}")
    if report.dropped_outputs:
        click.echo(f"left out: output {', '.join(report.dropped_outputs)}")
    if not report.any_batch:
        click.echo("takes one example at a time: the model names the batch's size")
