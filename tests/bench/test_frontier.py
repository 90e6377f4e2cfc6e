from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from nestling.bench.frontier import Point, Series, draw_frontier, pareto_front

points = st.lists(
    st.builds(Point, st.none(), st.floats(1, 1e4), st.floats(0, 1)), min_size=1, max_size=30
)


def beats(left: Point, right: Point) -> bool:
    no_worse = left.latency_us <= right.latency_us and left.accuracy >= right.accuracy
    return no_worse and (left.latency_us, left.accuracy) != (right.latency_us, right.accuracy)


@given(points)
def test_the_front_is_what_nobody_beats(measured: list[Point]) -> None:
    front = pareto_front(measured)
    best = {(p.latency_us, p.accuracy) for p in measured if not any(beats(q, p) for q in measured)}
    assert {(p.latency_us, p.accuracy) for p in front} == best
    assert [p.latency_us for p in front] == sorted(p.latency_us for p in front)


def test_the_picture_is_written(tmp_path: Path) -> None:
    series = [
        Series("one", "fp32", [Point("full", 20.0, 0.97), Point(None, 12.0, 0.95)]),
        Series("two", "int8", [Point("full", 9.0, 0.96)]),
    ]
    draw_frontier(series, tmp_path / "new" / "frontier.png", note="here")
    assert (tmp_path / "new" / "frontier.png").read_bytes().startswith(b"\x89PNG")
