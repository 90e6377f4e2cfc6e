"""Text as it grows in a terminal: each token in the colour of its path, figures below."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.text import Text

    from nestling_runtime import Generation
    from nestling_runtime.generation import Piece

# A model may write anything; a terminal obeys control characters, so they are shown instead.
_VISIBLE = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"} | {0x7F: 0x2421}
_STYLES = ("green", "cyan", "blue", "magenta", "yellow", "red")


def visible(text: str) -> str:
    """Return a text whose control characters, but for line ends and tabs, are pictures of them."""
    return text.translate(_VISIBLE)


def path_styles(paths: Sequence[str]) -> dict[str, str]:
    """Return the colour of each path."""
    return dict(zip(paths, _STYLES * len(paths), strict=False))


class LiveText:
    """A text that is shown while it is written. A context manager.

    Args:
        console: Where.
        paths: Names, small to large.
        before: Text in front of what is written.
    """

    def __init__(self, console: Console, paths: Sequence[str], before: str = "") -> None:
        from rich.live import Live
        from rich.text import Text

        self._styles = path_styles(paths)
        self._counts = dict.fromkeys(paths, 0)
        self._body = Text()
        self._body.append(before, style="dim")
        self._begin = time.perf_counter()
        self._live = Live(console=console, refresh_per_second=12, vertical_overflow="visible")

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.__exit__(kind, error, traceback)

    def add(self, piece: Piece, *, style: str = "") -> None:
        """Show a piece; `style` is added to the colour of its path."""
        token = piece.token
        colour = "dim" if token is None else self._styles[token.path]
        self._body.append(visible(piece.text), style=f"{colour} {style}".strip())
        if token is not None:
            self._counts[token.path] += 1
        rate = sum(self._counts.values()) / (time.perf_counter() - self._begin)
        self._update(self.figures(rate))

    def finish(self, last: Generation) -> None:
        """Show the figures of a generation that has ended."""
        figures = self.figures(last.tokens_per_second)
        if last.drafted:
            figures.append(f"  drafts right: {last.accepted} of {last.drafted}")
        self._update(figures)

    def figures(self, rate: float) -> Text:
        """Return one line: each path's share of the tokens, and tokens a second."""
        from rich.text import Text

        total = max(1, sum(self._counts.values()))
        line = Text()
        for name, count in self._counts.items():
            line.append(f"{name} {100 * count / total:.0f} %  ", style=self._styles[name])
        return line.append(f"{rate:.1f} tokens/s")

    def _update(self, figures: Text) -> None:
        from rich.console import Group

        self._live.update(Group(self._body, figures))
