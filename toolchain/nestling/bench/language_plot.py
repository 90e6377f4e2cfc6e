"""Two pictures: quality against compute of every policy, and text in the colours of its paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from nestling.bench.language import LanguageResult, PolicyRow

_INK = "#2b2f36"
_FAINT = "#d9dce1"
_SMALL = "#dfe9ee"
_LARGE = "#f2b48c"
_COLORS = {
    "fixed": "#2b2f36",
    "policy": "#0b6e99",
    "random": "#9aa1ab",
    "routes": "#8a4f9e",
}
_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
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
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with pyplot.rc_context(_STYLE):
        figure, axis = pyplot.subplots(figsize=(9.0, 5.4))
        ends = [row for row in result.rows if row.policy in (fixed[0], fixed[-1])]
        axis.plot(
            [100 * row.macs / result.full_macs for row in ends],
            [row.bits_per_byte for row in ends],
            color=_FAINT,
            linewidth=1.4,
            zorder=1,
        )
        # The oracle that has seen the answer is far below all that can be had.
        rows = [row for row in [*result.rows, *result.routes] if row.policy != "routes-answers"]
        for row in rows:
            _draw_row(axis, row, result.full_macs, _kind(row.policy, fixed))
        axis.set_xlabel("multiply-accumulates of a token, per cent of the full path's")
        axis.set_ylabel("bits per byte of held-out text (less is better)")
        axis.grid(color=_FAINT, linewidth=0.6, alpha=0.7)
        axis.set_axisbelow(True)
        axis.margins(0.12, 0.12)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
        figure.suptitle(
            "One decoder, a path for every token",
            x=0.012,
            ha="left",
            fontsize=13,
            fontweight="bold",
        )
        figure.text(0.012, 0.012, result.where, fontsize=8, color="#747a85")
        figure.tight_layout(rect=(0, 0.035, 1, 0.985))
        _save(figure, file)


def draw_colored_text(texts: Sequence[ColoredText], file: Path) -> None:
    """Write texts as PNG, tokens of the full path with a background of their own."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines = [wrap_pieces(text.pieces, text.on_full) for text in texts]
    rows = sum(map(len, lines)) + 2 * len(lines)
    with pyplot.rc_context(_STYLE):
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
        _save(figure, file)


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


def _draw_row(axis: Axes, row: PolicyRow, full_macs: float, kind: str) -> None:
    place = (100 * row.macs / full_macs, row.bits_per_byte)
    axis.scatter(*place, s=60, color=_COLORS[kind], edgecolors="white", linewidths=1.2, zorder=3)
    axis.annotate(
        row.policy,
        place,
        xytext=(6, 5),
        textcoords="offset points",
        fontsize=9,
        color=_COLORS[kind],
    )


def _kind(policy: str, fixed: Sequence[str]) -> str:
    if policy in fixed:
        return "fixed"
    if "random" in policy:
        return "random"
    return "routes" if policy.startswith("routes") else "policy"


def _save(figure: Any, file: Path) -> None:
    from matplotlib import pyplot

    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=150, facecolor="white")
    pyplot.close(figure)
