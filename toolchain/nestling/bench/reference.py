"""The oracle of Cortex-M bundles: the same chain of stages by ExecuTorch's reference operators."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nestling.errors import ExportError
from nestling_runtime.bundle import Bundle

if TYPE_CHECKING:
    from torch import Tensor

    from nestling.targets.cortex_m.program import StaticProgram


class ReferenceChain:
    """Runs chains of stages of one bundle on the programs that its plans were compiled from.

    Results of the beginnings of chains are kept: subnets of one input have many in common.

    Args:
        bundle: The bundle.
        programs: The folder that `export_bundle(reference_dir=...)` filled.

    Raises:
        BundleError: The bundle cannot be read.
    """

    def __init__(self, bundle: Path, programs: Path) -> None:
        with Bundle.open(bundle) as opened:
            self._names = [stage.name for stage in opened.stages]
            self._chains = {path.name: path.chain for path in opened.paths}
        self._folder = programs
        self._programs: dict[int, StaticProgram] = {}
        self._kept: dict[tuple[bytes, tuple[int, ...]], Tensor] = {}

    def run(self, path: str | Sequence[int], image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the output of the last stage.

        Args:
            path: Name of a path, or numbers of stages.
            image: The model's input.

        Raises:
            ExportError: A stage has no program in the folder.
        """
        import torch

        stages = self._chains[path] if isinstance(path, str) else tuple(path)
        image = np.ascontiguousarray(image)
        value = torch.from_numpy(image)
        for end in range(1, len(stages) + 1):
            key = (image.tobytes(), tuple(stages[:end]))
            if key not in self._kept:
                self._kept[key] = self._run_stage(stages[end - 1], value)
            value = self._kept[key]
        return value.contiguous().numpy()

    def forget(self) -> None:
        """Drop what was kept."""
        self._kept.clear()

    def _run_stage(self, stage: int, value: Tensor) -> Tensor:
        from nestling.targets.cortex_m.program import read_program
        from nestling.targets.cortex_m.reference import run_reference

        if stage not in self._programs:
            file = self._folder / f"{self._names[stage]}.pte"
            try:
                self._programs[stage] = read_program(file.read_bytes())
            except OSError as error:
                raise ExportError(
                    "the stage has no reference program", stage=self._names[stage]
                ) from error
        (result,) = run_reference(self._programs[stage], [value])
        return result
