"""Lowered programs kept by content: the same graph with the same weights is never lowered twice."""

from __future__ import annotations

import hashlib
import os
import tempfile
from importlib.metadata import version
from pathlib import Path

import torch
from torch.export import ExportedProgram

from nestling.targets.lowered import LoweredProgram

LOWERING_VERSION = 1
"""Raise when a change of this package changes what lowering gives for the same graph."""


def default_cache_dir() -> Path:
    """``$NESTLING_CACHE``, else ``$XDG_CACHE_HOME/nestling``, else ``~/.cache/nestling``."""
    if "NESTLING_CACHE" in os.environ:
        return Path(os.environ["NESTLING_CACHE"])
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "nestling"


def program_key(program: ExportedProgram, target: str) -> str:
    """SHA-256 of everything that decides what lowering ``program`` for ``target`` gives, in hex."""
    digest = hashlib.sha256()
    versions = [f"{p}={version(p)}" for p in ("torch", "executorch", "torchao")]
    digest.update(repr([LOWERING_VERSION, target, versions]).encode())
    digest.update(program.graph_module.code.encode())
    digest.update(str(program.graph_signature).encode())
    for node in program.graph.nodes:
        if node.op == "placeholder":
            value = node.meta.get("val")
            if isinstance(value, torch.Tensor):
                digest.update(repr([node.name, value.dtype, tuple(value.shape)]).encode())
    for name, tensor in sorted({**program.state_dict, **program.constants}.items()):
        if isinstance(tensor, torch.Tensor):
            digest.update(repr([name, tensor.dtype, tuple(tensor.shape)]).encode())
            digest.update(
                tensor.detach().contiguous().view(torch.uint8).numpy().tobytes()
                if tensor.dim()
                else repr(tensor.item()).encode()
            )
    return digest.hexdigest()


class LoweringCache:
    """A folder of lowered programs named by :func:`program_key`.

    Safe to share between processes: entries are written whole, through a rename.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_cache_dir()

    def load(self, key: str) -> LoweredProgram | None:
        """Return the entry, or ``None`` if it is absent or unreadable (then it is made again)."""
        try:
            return LoweredProgram.from_bytes(self._path(key).read_bytes())
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            return None

    def store(self, key: str, lowered: LoweredProgram) -> None:
        """Write the entry; a full disk or a read-only folder only costs the next export time."""
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
                file.write(lowered.to_bytes())
            os.replace(file.name, path)
        except OSError:
            return

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.cbor"
