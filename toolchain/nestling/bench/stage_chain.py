"""Paths of a bundle, run stage by stage on whatever executes a target's stages here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nestling_runtime.bundle import Bundle

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nestling.targets.target import StageRunner


class StageChain:
    """Runs the paths of one bundle; who reads what is looked up in the bundle itself.

    Args:
        bundle: The bundle.
        runner: Executes its stages.

    Raises:
        BundleError: The bundle cannot be read.
    """

    def __init__(self, bundle: Path, runner: StageRunner) -> None:
        with Bundle.open(bundle) as opened:
            self._stages = opened.stages
            self._chains = {path.name: path.chain for path in opened.paths}
            self._inputs = [at for at, s in enumerate(opened.slots) if s.role == "input"]
            self._output = next(at for at, s in enumerate(opened.slots) if s.role == "output")
        self._runner = runner

    def run(
        self,
        path: str,
        samples: Sequence[Sequence[NDArray]],  # type: ignore[type-arg]
    ) -> tuple[list[NDArray], float | None]:  # type: ignore[type-arg]
        """Run a path on every sample.

        Args:
            path: Name of a path.
            samples: The model's inputs, in their order.

        Returns:
            The output for each sample, and the time of a run in us: the sum of the stages' medians,
            None where time means nothing.

        Raises:
            EngineError: A stage cannot be run.
        """
        held = [dict(zip(self._inputs, sample, strict=True)) for sample in samples]
        run_us: float | None = 0.0
        for index in self._chains[path]:
            stage = self._stages[index]
            result = self._runner.run(
                stage.name, [tuple(slots[at] for at in stage.inputs) for slots in held]
            )
            for slots, outputs in zip(held, result.outputs, strict=True):
                slots.update(zip(stage.outputs, outputs, strict=True))
            known = run_us is not None and result.run_us is not None
            run_us = run_us + result.run_us if known else None  # type: ignore[operator]
        return [slots[self._output] for slots in held], run_us
