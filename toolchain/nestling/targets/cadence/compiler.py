"""ExecuTorch's Cadence compiler, importable on Python 3.11 too."""

from __future__ import annotations

import importlib
import logging
import typing
from types import ModuleType

import typing_extensions

MODULES = "executorch.backends.cadence.aot"


def import_cadence(name: str) -> ModuleType:
    """Import a module of the backend.

    One of them imports ``override`` from ``typing``, where it is only since Python 3.12; it is
    lent there while the import lasts.
    """
    logging.getLogger("executorch").setLevel(logging.ERROR)
    lend = not hasattr(typing, "override")
    if lend:
        typing.override = typing_extensions.override  # type: ignore[attr-defined]
    try:
        return importlib.import_module(f"{MODULES}.{name}")
    finally:
        if lend:
            del typing.override  # type: ignore[attr-defined]
