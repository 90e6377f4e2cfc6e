"""Keep a compiler's remarks from the user: progress bars, log lines, deprecations."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def quiet() -> Iterator[None]:
    """Run a compiler without its remarks and without gradients; errors are raised as ever."""
    level, disabled = logging.root.level, logging.root.manager.disable  # compilers set these
    nowhere = io.StringIO()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
        torch.no_grad(),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(disabled)
            logging.root.setLevel(level)


@contextmanager
def quiet_library() -> Iterator[None]:
    """Keep a library that is not Python's from writing to the terminal, past `sys.stderr`.

    Everything that this process writes meanwhile is lost, so it is for calls that only compile.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    kept = {number: os.dup(number) for number in (1, 2)}
    try:
        with open(os.devnull, "wb") as nowhere:
            for number in kept:
                os.dup2(nowhere.fileno(), number)
        yield
    finally:
        for number, copy in kept.items():
            os.dup2(copy, number)
            os.close(copy)
