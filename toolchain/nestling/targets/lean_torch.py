"""Spare torch work that its exporter repeats, and that nothing here looks at.

A good part of the time of lowering a small stage goes into two things. Each node of each graph that
a pass makes gets a deep copy of the history of the node it was made from, which grows with every
pass; and each decomposition lists all composite operators of torch anew, namespace by namespace.
While :func:`lean_torch` lasts, a history is one step long, and the list is made once for as many
operators as are registered. What is lowered is the same to the byte.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
import torch.export.decomp_utils
import torch.export.exported_program
import torch.fx.traceback

_USERS = ("torch.export.exported_program", "torch.export.decomp_utils")
_LIST = "_collect_all_valid_cia_ops"
_list_operators = getattr(torch.export.exported_program, _LIST)
_listed: dict[tuple[int, int], set[Any]] = {}


@contextmanager
def lean_torch() -> Iterator[None]:
    """Trace and lower with less; may be nested. Like exporting, nothing for two threads at once."""
    without_history = SimpleNamespace(copy=copy.copy, deepcopy=lambda _: [])
    changes: list[tuple[ModuleType, str, object]] = [(torch.fx.traceback, "copy", without_history)]
    changes += [(sys.modules[name], _LIST, _remembered_operators) for name in _USERS]
    before = [getattr(module, name) for module, name, _ in changes]
    for module, name, value in changes:
        setattr(module, name, value)
    try:
        yield
    finally:
        for (module, name, _), value in zip(changes, before, strict=True):
            setattr(module, name, value)


def _remembered_operators() -> set[Any]:
    """Return what torch's function does; a library that is loaded meanwhile adds operators."""
    registered = torch._C._dispatch_get_registrations_for_dispatch_key("CompositeImplicitAutograd")
    key = len(registered), len(torch.ops._dir)
    if key not in _listed:
        _listed[key] = _list_operators()
    return _listed[key]
