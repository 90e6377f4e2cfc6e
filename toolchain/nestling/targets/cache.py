"""Lowered programs kept by content: the same graph with the same weights is never lowered twice."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import cbor2

_Entry = TypeVar("_Entry")

LOWERING_VERSION = 1
"""Raise when a change of this package changes what lowering gives for the same graph."""


def default_cache_dir() -> Path:
    """``$NESTLING_CACHE``, else ``$XDG_CACHE_HOME/nestling``, else ``~/.cache/nestling``."""
    if "NESTLING_CACHE" in os.environ:
        return Path(os.environ["NESTLING_CACHE"])
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "nestling"


def cache_key(kind: str, target: str, digest: bytes) -> str:
    """Name of a cache entry: SHA-256, in hex, of what was lowered, for what and by what."""
    versions = [f"{package}={version(package)}" for package in ("torch", "executorch", "torchao")]
    about = repr([LOWERING_VERSION, kind, target, versions]).encode()
    return hashlib.sha256(about + digest).hexdigest()


@cache
def source_digest(module: str) -> str:
    """SHA-256, in hex, of the Python files in the folder of an imported module.

    For the key of what a target makes: how it sets its quantiser and compiler stands there.
    """
    file = sys.modules[module].__file__
    assert file is not None, "a target's class stands in a file"
    digest = hashlib.sha256()
    for source in sorted(Path(file).parent.glob("*.py")):
        digest.update(source.name.encode() + hashlib.sha256(source.read_bytes()).digest())
    return digest.hexdigest()


class LoweringCache:
    """A folder of lowered programs and templates named by :func:`cache_key`.

    Safe to share between processes: entries are written whole, through a rename.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_cache_dir()

    def load(self, key: str, read: Callable[[bytes], _Entry]) -> _Entry | None:
        """Return the entry, or ``None`` if it is absent or unreadable (then it is made again)."""
        try:
            return read(self._path(key).read_bytes())
        except (OSError, EOFError, cbor2.CBORError, ValueError, KeyError, TypeError, IndexError):
            return None

    def store(self, key: str, data: bytes) -> None:
        """Write the entry; a full disk or a read-only folder only costs the next export time."""
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
                file.write(data)
            os.replace(file.name, path)
        except OSError:
            return

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.cbor"
