"""What `nestling export` can start from, and what it knows about it."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nestling.errors import ExportError, ModelError, NestlingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nestling.elastic import Supernet

CHECKPOINT_NAME = "supernet.pt"
REPORT_NAME = "report.json"


@dataclass(frozen=True)
class Source:
    """A supernet and what training left beside it.

    Attributes:
        supernet: In eval mode, on the CPU.
        name: For the bundle.
        recipe: Name of the recipe that trained it, if any.
        quality: Path name -> metric name -> value on held-out data; may be empty.
    """

    supernet: Supernet
    name: str
    recipe: str | None = None
    quality: dict[str, dict[str, float]] = field(default_factory=dict)


def load_source(
    source: Path,
    *,
    builder: str | None = None,
    widths: Sequence[float] | None = None,
    depths: Sequence[float] | None = None,
    positions: int | None = None,
) -> Source:
    """Load a supernet.

    Args:
        source: A checkpoint written by `nestling.elastic.save`, a folder that `nestling train`
            left, or a folder with a Hugging Face model (`config.json`).
        builder: `FILE.py:FUNCTION` that returns the untrained supernet, for checkpoints of custom
            modules.
        widths: Levels to cut a Hugging Face model into, as shares of its units.
        depths: Shares of its layers to keep.
        positions: Length of its window of tokens.

    Raises:
        ModelError: The model cannot be loaded, or cut as asked.
        ExportError: The source is neither of these.
    """
    if not source.exists():
        raise ExportError("no such file or folder", actual=str(source))
    if source.is_dir() and (source / "config.json").is_file():
        return Source(_convert_folder(source, widths, depths, positions), source.resolve().name)
    checkpoint = source / CHECKPOINT_NAME if source.is_dir() else source
    if not checkpoint.is_file():
        raise ExportError(
            "the folder has neither a supernet nor a Hugging Face model",
            expected=f"{CHECKPOINT_NAME} or config.json",
            actual=str(source),
        )
    if widths or depths or positions:
        raise ExportError("the checkpoint is a supernet already, its widths and depths are chosen")
    from nestling.elastic import load

    supernet = load(checkpoint, into=_build(builder) if builder else None).eval()
    recipe, quality = _read_report(checkpoint.with_name(REPORT_NAME))
    name = recipe or (
        checkpoint.resolve().parent.name if checkpoint.name == CHECKPOINT_NAME else checkpoint.stem
    )
    return Source(supernet, name, recipe, quality)


def _convert_folder(
    folder: Path,
    widths: Sequence[float] | None,
    depths: Sequence[float] | None,
    positions: int | None,
) -> Supernet:
    from transformers.utils import logging

    from nestling import elastic

    # It reports what it loads on the error stream, which belongs to our one sentence.
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    options: dict[str, Any] = {"widths": widths, "depths": depths, "positions": positions}
    return elastic.convert(folder, **{k: v for k, v in options.items() if v}).eval()


def _build(builder: str) -> Supernet:
    """Call the user's function; the file is run, as any Python file that the user names."""
    file, colon, function = builder.rpartition(":")
    if not colon or not file.endswith(".py"):
        raise ExportError("cannot read the builder", expected="FILE.py:FUNCTION", actual=builder)
    spec = importlib.util.spec_from_file_location("nestling_builder", file)
    if spec is None or spec.loader is None or not Path(file).is_file():
        raise ExportError("no such file", actual=file)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        supernet: Supernet = getattr(module, function)()
    except NestlingError:
        raise
    except Exception as error:
        raise ModelError(
            f"{builder} does not give a supernet", actual=f"{type(error).__name__}: {error}"
        ) from error
    return supernet


def _read_report(file: Path) -> tuple[str | None, dict[str, dict[str, float]]]:
    """Return recipe and quality; a report that is missing or of another form tells nothing."""
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
        metric = str(report["metric"])
        quality = {name: {metric: float(value)} for name, value in report["quality"].items()}
        return str(report["recipe"]), quality
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None, {}
