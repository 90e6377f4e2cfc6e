"""Progress bars for long work, on the error stream so that output stays clean."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

Advance = Callable[[int, int, str], None]
"""Called with (done, in all, name of what was finished)."""


@contextlib.contextmanager
def progress_bar(title: str, *, quiet: bool = False) -> Iterator[Advance]:
    """Give a function that moves the bar; with `quiet` it does nothing.

    Work in several phases starts the bar again when the count of finished things falls.
    """
    if quiet:
        yield lambda done, total, name: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[name]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=None, name="")
        yield lambda done, total, name: progress.update(
            task, completed=done, total=total, name=name
        )
