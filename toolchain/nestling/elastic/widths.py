"""From what the user says about widths to unit counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from nestling.errors import ModelError

DEFAULT_WIDTHS: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)


def resolve_widths(
    widths: Sequence[float | int],
    units: int,
    module: str,
    *,
    round_up: bool = False,
    align: int = 1,
) -> tuple[int, ...]:
    """Turn fractions or counts into strictly increasing unit counts that end with all units.

    Args:
        widths: Fractions of the units (float, at most 1.0) or counts (int).
        units: How many units the module has.
        module: Its name, for the error.
        round_up: Take the next whole unit where a fraction does not divide, and drop what becomes
            equal; for coarse units such as heads.
        align: Round fractions below 1 to a multiple of this, and drop what becomes equal. Halved
            until every level can have one multiple of its own. With 1, fractions must divide.

    Raises:
        ModelError: A width does not divide, is out of range, or the widths do not increase up to
            all units.
    """
    while align > 1 and units < align * len(widths):
        align //= 2
    counts: list[int] = []
    for width in widths:
        exact = width if isinstance(width, int) else width * units
        if align > 1 and isinstance(width, float) and 0 < width < 1:
            exact = max(1, math.floor(exact / align + 0.5)) * align
        count = round(exact)
        if abs(exact - count) > 1e-6:
            if not round_up:
                raise ModelError(
                    f"the width {width:g} does not divide the {units} units",
                    module=module,
                    expected="whole units at every width",
                    actual=tuple(widths),
                    hint="give unit counts instead of fractions",
                )
            count = math.ceil(exact)
        if (round_up or align > 1) and counts and count == counts[-1]:
            continue
        counts.append(count)
    rising = all(a < b for a, b in pairwise(counts))
    if not counts or counts[0] < 1 or not rising or counts[-1] != units:
        raise ModelError(
            f"widths must increase from at least one unit to all {units}",
            module=module,
            expected=f"1..{units}, the last {units}",
            actual=tuple(widths),
        )
    return tuple(counts)
