"""Two pictures: quality against compute of every policy, and text in the colours of its paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nestling.bench import picture
from nestling.bench.picture import Dot, label_dots, picture_style, save_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from nestling.bench.language_records import LanguageResult

_SMALL = "#dfe9ee"
_LARGE = "#f2b48c"
_COLORS = {
    "fixed": picture.INK,
    "policy": picture.BLUE,
    "random": "#9aa1ab",
    "routes": picture.PURPLE,
}
_COLUMNS = 88


@dataclass(frozen=True)
class ColoredText:
    """Text, and which of it came from the full path.

    Attributes:
        title: What it is.
        pieces: Text of each token.
        on_full: Whether the full path made it.
    """

    title: str
    pieces: Sequence[str]
    on_full: Sequence[bool]


def draw_language_frontier(result: LanguageResult, fixed: Sequence[str], file: Path) -> None:
    """Write quality against compute as PNG.

    Args:
        result: What was measured.
        fixed: Names of the fixed paths among its rows.
        file: Where to.
    """
    from matplotlib import pyplot

    with picture_style():
        figure, axis = pyplot.subplots(figsize=(9.0, 5.4))
        ends = [row for row in result.rows if row.policy in (fixed[0], fixed[-1])]
        axis.plot(
            [100 * row.macs / result.full_macs for row in ends],
            [row.bits_per_byte for row in ends],
            color=picture.FAINT,
            linewidth=1.4,
            zorder=1,
        )
        # The oracle that has seen the answer is far below all that can be had.
        rows = [row for row in [*result.rows, *result.routes] if row.policy != "routes-answers"]
        dots = [
            Dot(
                row.policy,
                100 * row.macs / result.full_macs,
                row.bits_per_byte,
                _COLORS[_kind(row.policy, fixed)],
            )
            for row in rows
        ]
        for dot in dots:
            axis.scatter(
                dot.x, dot.y, s=60, color=dot.color, edgecolors="white", linewidths=1.2, zorder=3
            )
        axis.set_xlabel("multiply-accumulates of a token, per cent of the full path's")
        axis.set_ylabel("bits per byte of held-out text (less is better)")
        axis.grid()
        axis.margins(0.12, 0.12)
        picture.frame(figure, "One decoder, a path for every token", result.where)
        label_dots(axis, sorted(dots, key=lambda dot: dot.x))
        save_picture(figure, file)


def draw_colored_text(texts: Sequence[ColoredText], file: Path) -> None:
    """Write texts as PNG, tokens of the full path with a background of their own."""
    from matplotlib import pyplot

    lines = [wrap_pieces(text.pieces, text.on_full) for text in texts]
    rows = sum(map(len, lines)) + 2 * len(lines)
    with picture_style():
        figure, axis = pyplot.subplots(figsize=(9.0, 0.24 * rows + 0.3))
        axis.set_xlim(0, _COLUMNS)
        axis.set_ylim(rows, 0)
        axis.axis("off")
        top = 0
        for text, wrapped in zip(texts, lines, strict=True):
            share = sum(text.on_full) / max(1, len(text.on_full))
            axis.text(
                0,
                top + 0.75,
                f"{text.title}: {share:.0%} of tokens on the full path",
                fontsize=10,
                fontweight="bold",
            )
            for index, line in enumerate(wrapped):
                _draw_line(axis, line, top + 1 + index)
            top += len(wrapped) + 2
        figure.subplots_adjust(left=0.015, right=0.985, top=0.99, bottom=0.01)
        save_picture(figure, file)


def wrap_pieces(
    pieces: Sequence[str], on_full: Sequence[bool], columns: int = _COLUMNS
) -> list[list[tuple[str, bool]]]:
    """Break text at line ends and where a line is full: lines of (character, on full)."""
    lines: list[list[tuple[str, bool]]] = [[]]
    for piece, full in zip(pieces, on_full, strict=True):
        for character in piece:
            if character == "\n":
                lines[-1].append(("\u21b5", full))
                lines.append([])
                continue
            if len(lines[-1]) == columns:
                lines.append([])
            lines[-1].append((character, full))
    return lines if lines[-1] else lines[:-1]


def _draw_line(axis: Axes, line: Sequence[tuple[str, bool]], row: int) -> None:
    from matplotlib.patches import Rectangle

    for column, (character, full) in enumerate(line):
        axis.add_patch(
            Rectangle((column, row), 1, 0.96, color=_LARGE if full else _SMALL, linewidth=0)
        )
        axis.text(
            column + 0.5,
            row + 0.5,
            character,
            ha="center",
            va="center",
            fontsize=8,
            family="DejaVu Sans Mono",
            parse_math=False,
        )


def _kind(policy: str, fixed: Sequence[str]) -> str:
    if policy in fixed:
        return "fixed"
    if "random" in policy:
        return "random"
    return "routes" if policy.startswith("routes") else "policy"
