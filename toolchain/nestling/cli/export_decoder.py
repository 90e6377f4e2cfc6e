"""`nestling export-decoder`: from a Llama-like supernet to a bundle that generates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from torch import Tensor

# Of the calibration text: as many tokens as a linear fit needs, in windows that a model knows.
_WINDOW, _WINDOWS = 128, 64


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
    help="Tokens that a conversation can have.  [default: 512, or the model's positions if fewer]",
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
@click.option(
    "--experts",
    type=click.Choice(["f32", "nibbles"]),
    default="f32",
    show_default=True,
    help="How routed experts are stored, whatever the scheme: nibbles are 8 bits in two halves.",
)
@click.option(
    "--expert-group",
    type=click.IntRange(min=2),
    default=32,
    show_default=True,
    help="Weights of an expert that share a scale, as nibbles.",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A text file, on which predictors of the experts that come next are fitted.",
)
@click.option(
    "--carve",
    type=click.IntRange(min=0),
    nargs=3,
    metavar="EXPERTS TOP_K SHARED",
    help="Carve the feed-forward layers of a dense decoder into so many experts, of which a token "
    "takes TOP_K beside SHARED neurons, by the calibration text and without training.",
)
@click.option("--jobs", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--quiet", is_flag=True, help="No progress bar.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(
    source: Path,
    output: Path | None,
    scheme: str,
    context: int | None,
    verify: int,
    chunk: int,
    tokenizer: Path | None,
    experts: str,
    expert_group: int,
    calibration: Path | None,
    carve: tuple[int, int, int] | None,
    jobs: int,
    quiet: bool,
    as_json: bool,
) -> None:
    """Cut a decoder into stages for one token and for chunks, and pack them into one bundle.

    SOURCE is a checkpoint or a folder, as for `nestling export`. Layers with experts (Mixtral,
    OLMoE, Qwen-MoE) keep them beside the stages, to be loaded one by one.
    """
    from nestling.cli.progress import progress_bar
    from nestling.cli.sources import load_source
    from nestling.decoder_export import export_decoder
    from nestling.elastic.families.llama import ElasticLlama
    from nestling.errors import ExportError, ModelError
    from nestling.experts.carve import Carving, carve_decoder, carved_paths
    from nestling.experts.slices import ExpertFormat
    from nestling.partition.decoder import DecoderShape

    if carve is not None and calibration is None:
        raise ExportError("carving looks at what neurons do", hint="pass a text as --calibration")
    loaded = load_source(source)
    if not isinstance(loaded.supernet, ElasticLlama):
        raise ModelError("not a decoder of the Llama kind", actual=loaded.supernet.family)
    if context is None:
        context = min(512, loaded.supernet.longest or 512)
    beside = (source if source.is_dir() else source.parent) / "tokenizer.json"
    file = tokenizer if tokenizer is not None else beside if beside.is_file() else None
    bundle = output or Path(f"{loaded.name}.nest")
    supernet, quality = loaded.supernet, loaded.quality
    paths, text = supernet.space.named, None
    if calibration is not None:
        length = min(context, supernet.example_inputs()[0].shape[1], _WINDOW)
        text = _read_windows(calibration, file, length, supernet.vocabulary)
    if carve is not None and text is not None:
        carved = carve_decoder(supernet, text, Carving(*carve))
        supernet, quality, paths = carved, {}, carved_paths(supernet, carved)
    with progress_bar("export", quiet=quiet or as_json) as advance:
        report = export_decoder(
            supernet,
            bundle,
            scheme=scheme,
            shape=DecoderShape(context, tuple(sorted({verify, chunk})), verify),
            tokenizer=None if file is None else file.read_bytes(),
            paths=paths,
            quality=quality,
            experts=ExpertFormat(expert_group if experts == "nibbles" else 0),
            calibration=text,
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
            "portable_operators": {k: list(v) for k, v in report.portable.items()},
            "sections": report.section_bytes,
        }
        click.echo(json.dumps(shown, indent=1))
        return
    click.echo(
        f"{report.path}: {report.file_bytes:,} bytes, {report.stages} stages, "
        f"paths {', '.join(report.paths)}"
    )


def _read_windows(text: Path, tokenizer: Path | None, length: int, vocabulary: int) -> Tensor:
    """Return the first tokens of a text file, int64 (windows, length).

    Raises:
        ModelError: It has too few, or some that the model does not know.
    """
    import torch

    from nestling.errors import ModelError
    from nestling.language.tokenizer import load_tokenizer

    content = text.read_bytes()
    if tokenizer is None:
        tokens = list(content)
    else:
        words = content.decode(errors="replace")
        known = load_tokenizer(tokenizer, vocabulary)
        tokens = known.encode(words, add_special_tokens=False).ids
    windows = min(len(tokens) // length, _WINDOWS)
    if windows == 0:
        raise ModelError(
            "the calibration text is too short",
            expected=f"{length} tokens",
            actual=len(tokens),
        )
    if max(tokens) >= vocabulary:
        raise ModelError(
            "the calibration text has bytes that the model does not know",
            expected=f"0..{vocabulary - 1}",
            actual=max(tokens),
            hint="pass the model's --tokenizer",
        )
    return torch.tensor(tokens[: windows * length]).reshape(windows, length)
