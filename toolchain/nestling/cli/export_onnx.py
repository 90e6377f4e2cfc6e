"""`nestling export --target onnx`: a folder of models instead of a bundle."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from nestling.cli.sources import Source

TARGET = "onnx"


def export_models(
    source: Source,
    folder: Path | None,
    *,
    targets: Sequence[str],
    scheme: str,
    samples: Any,
    paths: Any,
    jobs: int,
    name: str | None,
    options: Mapping[str, str],
    quiet: bool,
    as_json: bool,
) -> None:
    """Export a supernet to ONNX and say what became of it.

    Raises:
        ExportError: Other targets are asked for as well, or see `export_onnx`.
    """
    from nestling.cli.progress import progress_bar
    from nestling.errors import ExportError
    from nestling.targets.onnx.folder import export_onnx
    from nestling.targets.registry import describe_target

    if tuple(targets) != (TARGET,):
        raise ExportError(
            "ONNX models go into a folder of their own", hint=f"export --target {TARGET} alone"
        )
    chosen = describe_target(TARGET).resolve_options(options.items())
    with progress_bar("export", quiet=quiet or as_json) as advance:
        report = export_onnx(
            source.supernet,
            folder or Path(f"{source.name}-onnx"),
            scheme=scheme,
            calibration=samples,
            paths=paths,
            stages=chosen["stages"] == "yes",
            jobs=jobs,
            quality=source.quality,
            progress=advance,
            name=name or source.name,
        )
    if as_json:
        facts = {
            "folder": str(report.path),
            "bytes": report.size.total,
            "weight_bytes": report.size.weights,
            "against_largest_alone": round(report.ratio, 4),
            "scheme": report.scheme,
            "paths": list(report.paths),
            "stages": report.stages,
        }
        click.echo(json.dumps(facts, indent=1))
        return
    click.echo(
        f"{report.path}: {report.size.total:,} bytes, {report.ratio:.3f} x the largest path alone, "
        f"{report.scheme}, paths {', '.join(report.paths)}"
        + (f", {report.stages} stages" if report.stages else "")
    )
