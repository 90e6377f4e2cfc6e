"""A bundle opened to be compared with eager torch: any subnet, by its levels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from nestling.errors import PathError
from nestling_runtime.closing import Closing

if TYPE_CHECKING:
    from nestling_runtime import Model


class Runner(Closing):
    """One model and one session on it.

    Attributes:
        paths: Names of the named paths, small to large.
        path_entries: What the bundle says of them.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._session = model.session()
        self.paths = model.path_names
        self.path_entries = model.bundle.paths
        self._stages = _stages_by_place(model)
        self._positions = len(model.bundle.positions)

    @classmethod
    def open(cls, bundle: Path, *, threads: int = 1) -> Self:
        """Open a bundle.

        Raises:
            BundleError: See `nestling_runtime.open`.
        """
        import nestling_runtime

        return cls(nestling_runtime.open(bundle, threads=threads))

    def chain(self, levels: Sequence[int]) -> list[int]:
        """Return the stages of a subnet, at full precision.

        Args:
            levels: One entry a block, 0 for blocks that are left out; stem and head are added.

        Raises:
            PathError: The bundle has no stage for one of them.
        """
        last = self._positions - 1
        wanted = [(0, 1), *((at + 1, level) for at, level in enumerate(levels)), (last, 1)]
        if len(levels) != self._positions - 2:
            raise PathError(
                "wrong number of levels", expected=self._positions - 2, actual=len(levels)
            )
        try:
            return [
                self._stages[place if place[0] not in (0, last) else (place[0], None)]
                for place in wanted
                if place[1] != 0
            ]
        except KeyError as error:
            raise PathError("the bundle has no stage for this level", actual=levels) from error

    def select(self, path: str, *, mode: str = "default") -> None:
        """Select a named path."""
        self._session.select(path, mode=mode)  # type: ignore[arg-type]

    def select_stages(self, stages: Sequence[int]) -> None:
        """Select a list of stages, as `chain` gives it."""
        self._session.select_stages(stages)

    def select_levels(self, levels: Sequence[int]) -> None:
        """Select a subnet by its levels."""
        self._session.select_stages(self.chain(levels))

    def run(self, inputs: Sequence[Any]) -> Any:
        """Run on arrays, one an input, and return the output array."""
        names = self._session.input_names
        outputs = self._session.run(**dict(zip(names, inputs, strict=True)))
        return next(iter(outputs.values()))

    @property
    def last_run_us(self) -> float:
        """Time of the last run inside the runtime."""
        return self._session.last_run_ns / 1e3

    def close(self) -> None:
        """Close session and model."""
        self._model.close()


def _stages_by_place(model: Model) -> dict[tuple[int, int | None], int]:
    """Return (position, level) -> stage; stem and head, which have one level, under None.

    Stages that cover several positions are fused paths. Where bits nest, the stage of most bits
    counts.
    """
    last = len(model.bundle.positions) - 1
    found: dict[tuple[int, int | None], int] = {}
    stages = model.bundle.stages
    for index, stage in enumerate(stages):
        if stage.first != stage.last:
            continue
        key = (stage.first, None if stage.first in (0, last) else stage.level)
        if key not in found or stages[found[key]].bits < stage.bits:
            found[key] = index
    return found
