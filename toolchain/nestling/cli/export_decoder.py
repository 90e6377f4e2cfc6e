"""`nestling export-decoder`: from a Llama-like supernet to a bundle that generates."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("export-decoder")
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="The bundle; default: SOURCE's name with .nest in the current folder.",
)
@click.option(
    "--scheme",
    type=click.Choice(["fp32", "int8-dynamic", "int4-group32"]),
    default="fp32",
    show_default=True,
)
@click.option(
    "--context",
    type=click.IntRange(min=2),
    default=512,
    show_default=True,
    help="Tokens that a conversation can have.",
)
@click.option(
    "--verify",
    type=click.IntRange(min=2),
    default=4,
    show_default=True,
    help="Tokens of the longest draft.",
)
@click.option(
    "--chunk",
    type=click.IntRange(min=2),
    default=32,
    show_default=True,
    help="Tokens of a prompt that run at once.",
)
@click.option(
    "--tokenizer",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A tokenizer.json. Default: the one beside the weights; without one, tokens are bytes.",
)
@click.option("--jobs", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--quiet", is_flag=True, help="No progress bar.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(
    source: Path,
    output: Path | None,
    scheme: str,
    context: int,
    verify: int,
    chunk: int,
    tokenizer: Path | None,
    jobs: int,
    quiet: bool,
    as_json: bool,
) -> None:
    """Cut a decoder into stages for one token and for chunks, and pack them into one bundle.

    SOURCE is a checkpoint or a folder, as for `nestling export`.
    """
    from nestling.cli.progress import progress_bar
    from nestling.cli.sources import load_source
    from nestling.decoder_export import export_decoder
    from nestling.elastic.families.llama import ElasticLlama
    from nestling.errors import ModelError
    from nestling.partition.decoder import DecoderShape

    loaded = load_source(source)
    if not isinstance(loaded.supernet, ElasticLlama):
        raise ModelError("not a decoder of the Llama kind", actual=loaded.supernet.family)
    beside = (source if source.is_dir() else source.parent) / "tokenizer.json"
    file = tokenizer if tokenizer is not None else beside if beside.is_file() else None
    bundle = output or Path(f"{loaded.name}.nest")
    with progress_bar("export", quiet=quiet or as_json) as advance:
        report = export_decoder(
            loaded.supernet,
            bundle,
            scheme=scheme,
            shape=DecoderShape(context, tuple(sorted({verify, chunk})), verify),
            tokenizer=None if file is None else file.read_bytes(),
            quality=loaded.quality,
            jobs=jobs,
            progress=advance,
            name=loaded.name,
        )
    if as_json:
        shown = {
            "bundle": str(report.path),
            "bytes": report.file_bytes,
            "paths": report.paths,
            "stages": report.stages,
            "sections": report.section_bytes,
        }
        click.echo(json.dumps(shown, indent=1))
        return
    click.echo(
        f"{report.path}: {report.file_bytes:,} bytes, {report.stages} stages, "
        f"paths {', '.join(report.paths)}"
    )
