"""`nestling export`: from a supernet to a bundle."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nestling.cli.export_onnx import TARGET as ONNX
from nestling.cli.export_onnx import export_models

if TYPE_CHECKING:
    from nestling.cli.sources import Source
    from nestling.targets.description import Grain, TargetDescription


def read_options(ctx: click.Context, option: click.Parameter, texts: tuple[str, ...]) -> Any:
    """Read `name=value` pairs."""
    pairs = [text.partition("=") for text in texts]
    for name, equals, value in pairs:
        if not (name and equals and value):
            raise click.BadParameter(f"{name!r} is not of the form name=value")
    return {name: value for name, _, value in pairs}


def check_schemes(
    ctx: click.Context, option: click.Parameter, texts: tuple[str, ...]
) -> tuple[str, ...]:
    """Refuse a scheme that does not exist, whatever the target."""
    from nestling.quantize.schemes import SCHEMES

    for text in texts:
        if text.rpartition(":")[2] not in SCHEMES:
            raise click.BadParameter(f"{text}; expected one of {', '.join(SCHEMES)}")
    return texts


def read_shares(ctx: click.Context, option: click.Parameter, text: str | None) -> Any:
    """Read a list of shares such as `0.25,0.5,1`, each above 0 and at most 1."""
    if text is None:
        return None
    try:
        shares = tuple(float(word) for word in text.split(","))
    except ValueError:
        shares = ()
    if not shares or not all(0 < share <= 1 for share in shares):
        raise click.BadParameter(f"{text!r} is not a list of shares such as 0.25,0.5,1")
    return shares


@click.command("export")
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="The bundle; default: SOURCE's name with .nest in the current folder. With --target onnx "
    "a folder of models.",
)
@click.option(
    "--target",
    "targets",
    multiple=True,
    default=("xnnpack",),
    show_default=True,
    help="See `nestling targets` for all. Several make one bundle for all of them; the first is "
    "its own, stages of the others stand in for its.",
)
@click.option(
    "--grain",
    type=click.Choice(["layer", "block"]),
    help="A stage is a layer at a width, or what one width adds; default: the target's, and block "
    "if one of several wants it.",
)
@click.option(
    "--scheme",
    "schemes",
    multiple=True,
    callback=check_schemes,
    help="Of quantisation; TARGET:SCHEME for one of several targets. Default: the first that all "
    "targets take, or each target's first.",
)
@click.option(
    "--option",
    "options",
    multiple=True,
    callback=read_options,
    help="NAME=VALUE, of the target; TARGET:NAME=VALUE, of one of several.",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Real inputs for static schemes: an .npz file, one array an input, first axis the sample. "
    "Supernets of a recipe use its training data when this is not given.",
)
@click.option("--paths", "paths_text", help="Named paths to keep, small to large: tiny,base,full.")
@click.option("--jobs", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--fused/--no-fused", default=True, help="Also lower each named path in one piece.")
@click.option("--name", help="Of the model, in the bundle.")
@click.option(
    "--widths", callback=read_shares, help="Levels for a Hugging Face model, e.g. 0.25,0.5,1."
)
@click.option("--depths", callback=read_shares, help="Depths for a Hugging Face model, e.g. 0.5,1.")
@click.option("--positions", type=click.IntRange(min=1), help="Tokens that a decoder reads.")
@click.option("--builder", help="FILE.py:FUNCTION that builds the supernet of a custom checkpoint.")
@click.option("--key", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Sign.")
@click.option(
    "--bench",
    "keep_bench_files",
    is_flag=True,
    help="Also keep, in OUTPUT.bench/, what `nestling bench` compares with: the dense programs.",
)
@click.option(
    "--reference",
    "keep_references",
    is_flag=True,
    help="Also keep, in OUTPUT.reference/, each stage as a file that the target can execute alone: "
    "what the bundle's answers can be held against.",
)
@click.option("--quiet", is_flag=True, help="No progress bar.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(
    source: Path,
    output: Path | None,
    targets: tuple[str, ...],
    grain: Grain | None,
    schemes: tuple[str, ...],
    options: dict[str, str],
    calibration: Path | None,
    paths_text: str | None,
    jobs: int,
    fused: bool,
    name: str | None,
    widths: tuple[float, ...] | None,
    depths: tuple[float, ...] | None,
    positions: int | None,
    builder: str | None,
    key: Path | None,
    keep_bench_files: bool,
    keep_references: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Cut a supernet into stages, lower them and pack everything into one bundle.

    SOURCE is a checkpoint written by nestling.elastic.save, a folder that `nestling train` or
    `nestling nest` left, or a folder with a Hugging Face model (ViT, BERT, MobileNetV2, Llama,
    Qwen). With --target onnx the paths become a folder of ONNX models that share one file of
    weights.
    """
    from nestling.cli.progress import progress_bar
    from nestling.cli.sources import load_source
    from nestling.export import export_bundle
    from nestling.quantize.schemes import get_scheme
    from nestling.targets.registry import describe_target

    descriptions = [describe_target(target) for target in targets]
    scheme = _choose_schemes(descriptions, schemes)
    static = any(get_scheme(name).needs_calibration for name in scheme.values())
    for description in descriptions:
        description.require("export")
    loaded = load_source(source, builder=builder, widths=widths, depths=depths, positions=positions)
    supernet = loaded.supernet
    samples = _find_samples(loaded, calibration) if static else None
    if ONNX in targets:
        export_models(
            loaded,
            output,
            targets=targets,
            scheme=scheme[ONNX],
            samples=samples,
            paths=_choose_paths(loaded, paths_text),
            jobs=jobs,
            name=name,
            options=options,
            quiet=quiet,
            as_json=as_json,
        )
        return
    bundle = output or Path(f"{loaded.name}.nest")
    with progress_bar("export", quiet=quiet or as_json) as advance:
        report = export_bundle(
            supernet,
            bundle,
            target=targets,
            scheme=scheme,
            calibration=samples,
            paths=_choose_paths(loaded, paths_text),
            jobs=jobs,
            fused=fused,
            quality=loaded.quality,
            progress=advance,
            name=name or loaded.name,
            reference_dir=Path(f"{bundle}.reference") if keep_references else None,
            options=options,
            grain=grain,
        )
    if key is not None:
        from nestling.bundle.signing import sign

        sign(bundle, key)
    if keep_bench_files:
        from nestling.bench.sidecar import write_sidecar

        with progress_bar("dense programs", quiet=quiet or as_json) as advance:
            write_sidecar(
                bundle,
                supernet,
                model=name or loaded.name,
                scheme=report.scheme,
                calibration=samples,
                recipe=loaded.recipe,
                jobs=jobs,
                progress=advance,
            )
    _print_report(report, as_json)


def _choose_schemes(targets: list[TargetDescription], given: tuple[str, ...]) -> dict[str, str]:
    """Return a scheme for each target: what was asked for, or the first that suits all."""
    common = [s for s in targets[0].schemes if all(s in t.schemes for t in targets)]
    chosen = {target.name: (common or target.schemes)[0] for target in targets}
    for text in given:
        target, _, scheme = text.rpartition(":")
        if target and target not in chosen:
            raise click.UsageError(f"--scheme {text}: {target} is not a target of this export")
        for name in [target] if target else chosen:
            chosen[name] = scheme
    return chosen


def _find_samples(source: Source, calibration: Path | None) -> Any:
    """Return what static quantisation looks at."""
    from nestling.bench.samples import read_samples, recipe_samples
    from nestling.errors import ExportError

    if calibration is not None:
        return read_samples(calibration, source.supernet)
    if source.recipe is not None:
        from nestling.recipes import find_recipe

        return recipe_samples(find_recipe(source.recipe).data())
    raise ExportError(
        "static quantisation needs real inputs", hint="give some with --calibration FILE.npz"
    )


def _choose_paths(source: Source, text: str | None) -> Any:
    """Return the named subnets to keep, or None for all of them."""
    if text is None:
        return None
    from nestling.errors import PathError

    named = source.supernet.space.named
    chosen = {}
    for name in text.split(","):
        if name not in named:
            raise PathError("no such path", expected=" or ".join(named), actual=name)
        chosen[name] = named[name]
    return {name: subnet for name, subnet in named.items() if name in chosen}


def _print_report(report: Any, as_json: bool) -> None:
    size = report.path.stat().st_size
    if as_json:
        import json

        click.echo(
            json.dumps(
                {
                    "bundle": str(report.path),
                    "bytes": size,
                    "scheme": report.scheme,
                    "targets": list(report.targets),
                    "paths": list(report.paths),
                    "stages": report.stages,
                    "portable_operators": {k: list(v) for k, v in report.portable.items()},
                    "delegated": report.delegated,
                },
                indent=1,
            )
        )
        return
    click.echo(
        f"{report.path}: {size:,} bytes, {report.scheme}, {report.stages} stages, "
        f"paths {', '.join(report.paths)}"
    )
    operators = Counter(name for names in report.portable.values() for name in names)
    if operators:
        listed = ", ".join(f"{count} x {name}" for name, count in operators.most_common())
        click.echo(f"no delegate takes, so the CPU runs: {listed}")
