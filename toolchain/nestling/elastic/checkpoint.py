"""Supernets in files: a configuration of plain values and the weights."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from nestling.elastic.families.bert import ElasticBert
from nestling.elastic.families.graph import ElasticGraph
from nestling.elastic.families.llama import ElasticLlama
from nestling.elastic.families.mobilenet import ElasticMobileNet
from nestling.elastic.families.recursive import RecursiveLlama
from nestling.elastic.families.recursive_versatile import VersatileLlama
from nestling.elastic.families.vit import ElasticViT
from nestling.elastic.supernet import Supernet
from nestling.errors import ModelError

FORMAT = "nestling-supernet"
VERSION = 1


def _expert_llama(**arguments: Any) -> Supernet:
    from nestling.experts.decoder import ExpertLlama  # expert layers are elastic blocks themselves

    return ExpertLlama(**arguments)


_FAMILIES: dict[str, Callable[..., Supernet]] = {
    "bert": ElasticBert,
    "expert_llama": _expert_llama,
    "graph": ElasticGraph,
    "llama": ElasticLlama,
    "mobilenet_v2": ElasticMobileNet,
    "recursive_llama": RecursiveLlama,
    "versatile_llama": VersatileLlama,
    "vit": ElasticViT,
}


def save(
    supernet: Supernet, path: str | os.PathLike[str], dtype: torch.dtype | None = None
) -> None:
    """Write a supernet, through a temporary file and a rename.

    A supernet of the user's own modules is written as weights alone; see `load`.

    Args:
        supernet: What to write.
        path: The file.
        dtype: Of the floating-point weights in the file, e.g. `torch.float16` for half the size;
            None keeps their own. `load` gives the supernet the dtype that it was built with.
    """
    target = Path(path)
    content = {
        "format": FORMAT,
        "version": VERSION,
        "config": supernet.config,
        "state": _state(supernet, dtype),
    }
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            torch.save(content, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load(path: str | os.PathLike[str], into: Supernet | None = None) -> Supernet:
    """Read what `save` has written, without running code from the file.

    Args:
        path: The file.
        into: A supernet of the same architecture that takes the weights; needed for supernets of
            the user's own modules, which a file cannot build.

    Raises:
        ModelError: The file is not one of ours or too new, cannot be built without `into`, or does
            not fit it.
    """
    content = _read(Path(path))
    supernet = into if into is not None else build(content["config"])
    try:
        supernet.load_state_dict(content["state"])
    except RuntimeError as error:
        raise ModelError(
            "the checkpoint does not fit the model", actual=str(error).splitlines()[1].strip()
        ) from error
    return supernet.eval()


def build(config: dict[str, Any] | None) -> Supernet:
    """Build a supernet with random weights from its `config`.

    Raises:
        ModelError: There is no configuration, or of an unknown family.
    """
    if config is None:
        raise ModelError(
            "the checkpoint holds weights of a custom supernet alone",
            hint="build the supernet and pass it as `into`",
        )
    arguments = dict(config)
    family = arguments.pop("family", None)
    if family not in _FAMILIES:
        raise ModelError("unknown family", expected=", ".join(sorted(_FAMILIES)), actual=family)
    try:
        return _FAMILIES[family](**arguments)
    except TypeError as error:
        raise ModelError(f"the configuration of the {family} supernet is not valid") from error


def _state(supernet: Supernet, dtype: torch.dtype | None) -> dict[str, torch.Tensor]:
    """Return the weights on the CPU; those that are one tensor (tied) stay one."""
    converted: dict[tuple[int, torch.Size], torch.Tensor] = {}
    state = {}
    for name, tensor in supernet.state_dict().items():
        value = tensor.detach().cpu()
        if dtype is not None and value.is_floating_point():
            value = converted.setdefault((tensor.data_ptr(), tensor.shape), value.to(dtype))
        state[name] = value
    return state


def _read(path: Path) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelError(f"no such file: {path}") from error
    except Exception as error:  # torch's unpickler lets anything through: IndexError on text
        raise ModelError(f"not a supernet checkpoint: {path}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ModelError(f"not a supernet checkpoint: {path}")
    if content.get("version") != VERSION:
        raise ModelError(
            "the checkpoint is of another version", expected=VERSION, actual=content.get("version")
        )
    return content
