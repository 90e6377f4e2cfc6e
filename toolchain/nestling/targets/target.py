"""What a target is: it turns the pieces of a supernet into programs.

One target is one module or package with a class of this form; :func:`get_target` knows them all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from torch import Tensor

from nestling.bundle.manifest import Note
from nestling.elastic.supernet import Supernet
from nestling.errors import ExportError
from nestling.partition.cut import Cut, StageKey
from nestling.quantize.schemes import Scheme
from nestling.targets.lowered import LoweredProgram
from nestling.targets.pool import Progress

TARGETS = ("xnnpack", "cortex-m55", "cortex-m4", "cortex-m7", "cortex-m33")
"""Names of all targets, as bundles and the command line spell them."""


@dataclass(frozen=True)
class Work:
    """What is to be lowered, and how.

    Attributes:
        supernet: trained.
        pieces: the supernet as it was cut for ``scheme``.
        scheme: how to quantise.
        calibration: real inputs, each a tuple of tensors ``[batch, ...]``.
        chains: named paths, small to large; a target may also lower each in one piece.
        fused: whether it should.
        jobs: processes that lower at once.
        cache_dir: of lowered programs; ``None`` is the default one.
        progress: told about each finished step.
        reference_dir: where to keep the programs that the target's own can be held against;
            ``None``: nowhere. Targets without such programs ignore it.
    """

    supernet: Supernet
    pieces: Cut
    scheme: Scheme
    calibration: Sequence[tuple[Tensor, ...]]
    chains: Mapping[str, list[StageKey]]
    fused: bool
    jobs: int
    cache_dir: Path | None
    progress: Progress | None
    reference_dir: Path | None = None


@dataclass(frozen=True)
class LoweredStages:
    """What a target made.

    Attributes:
        programs: lowered stages by key; paths that were lowered in one piece by their name.
        pieces: the pieces with the tensors between them as the programs have them.
        method: of every program.
        packed: whether to store programs deflated; a device that reads them in place cannot.
        meta: notes for the bundle.
    """

    programs: dict[StageKey | str, LoweredProgram]
    pieces: Cut
    method: str = "forward"
    packed: bool = True
    meta: dict[str, Note] = field(default_factory=dict)


class Target(Protocol):
    """A kind of processor and what compiles for it."""

    name: str

    def check(self, scheme: Scheme) -> None:
        """Refuse a scheme that the target cannot run.

        Raises:
            ExportError: it cannot.
        """

    def lower(self, work: Work) -> LoweredStages:
        """Quantise what is left to quantise, and lower every stage.

        Raises:
            ExportError: a stage cannot be lowered; names it.
        """


def get_target(name: str) -> Target:
    """Look a target up; its compiler is imported only now.

    Raises:
        ExportError: there is none of that name.
    """
    if name == "xnnpack":
        from nestling.targets.xnnpack_stages import XnnpackTarget

        return XnnpackTarget()
    if name in TARGETS:
        from nestling.targets.cortex_m.stages import CortexMTarget

        return CortexMTarget(name)
    raise ExportError("unknown target", expected=" or ".join(TARGETS), actual=name)
