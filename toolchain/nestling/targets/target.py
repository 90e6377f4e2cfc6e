"""What a target is: it turns the pieces of a supernet into programs.

A target is two things. Its :class:`~nestling.targets.description.TargetDescription` says what it is
and needs; :mod:`nestling.targets.registry` finds it. Its :class:`Target` is the compiler, imported
when it is used. A minimal one, for a compiler that takes exported programs::

    class AcmeTarget(Target):
        def lower(self, work: Work) -> LoweredStages:
            stages = work.pieces.stages
            programs = {key: acme.lower(s.module, s.example_inputs) for key, s in stages.items()}
            return LoweredStages(programs, work.pieces)

Where its programs can be executed on this machine, :meth:`Target.open` says how.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from torch import Tensor, nn

from nestling.bundle.manifest import Note
from nestling.elastic.supernet import Supernet
from nestling.errors import TargetError
from nestling.partition.cut import Cut, StageKey
from nestling.partition.modules import FusedPath
from nestling.quantize.schemes import Scheme
from nestling.targets.description import Grain, TargetDescription
from nestling.targets.lowered import LoweredProgram
from nestling.targets.pool import Job, Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
        reference_dir: where to keep one file a stage, ``<stage>.<suffix>``, from which
            :meth:`Target.open` can execute it alone, weights and all; ``None``: nowhere.
        grain: how the pieces were cut.
        options: a value for each option of the target's description; missing ones have their
            default.
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
    grain: Grain = "layer"
    options: Mapping[str, str] = field(default_factory=dict)

    def make_jobs(
        self, modules: Mapping[StageKey, nn.Module], *, fused: bool = True
    ) -> dict[StageKey | str, Job]:
        """Return what is to be lowered: named paths in one piece, then stages.

        Args:
            modules: of all stages, as the target quantised them.
            fused: whether the target lowers paths in one piece. At block grain none does: they
                would be made of other blocks than the stages.
        """
        jobs: dict[StageKey | str, Job] = {}
        stages = self.pieces.stages
        # Largest jobs first, so that no process idles at the end.
        for name, chain in self.chains.items() if self.fused and fused else ():
            if self.grain == "layer":
                stem, *blocks, head = (modules[key] for key in chain)
                whole = FusedPath(stem, blocks, head).eval()
                jobs[name] = Job(f"path.{name}", whole, stages[chain[0]].example_inputs)
        for key, stage in stages.items():
            jobs[key] = Job(stage.name, modules[key], stage.example_inputs)
        return jobs


@dataclass(frozen=True)
class LoweredStages:
    """What a target made.

    Attributes:
        programs: lowered stages by key; paths that were lowered in one piece by their name.
        pieces: the pieces with the tensors between them as the programs have them.
        method: of every program.
        packed: whether to store programs deflated; a device that reads them in place cannot.
        meta: notes for the bundle. A figure that the compiler gives of a stage is the note
            ``<stage>.<figure>``, with its unit: ``block3.w2.cycles``, ``stem.sram_bytes``.
    """

    programs: dict[StageKey | str, LoweredProgram]
    pieces: Cut
    method: str = "forward"
    packed: bool = True
    meta: dict[str, Note] = field(default_factory=dict)


@dataclass(frozen=True)
class StageRun:
    """What executing one stage gave.

    Attributes:
        outputs: for each sample, the tensors that the stage returned.
        run_us: median time of one run; ``None`` where time means nothing, as on a simulator.
    """

    outputs: list[tuple[NDArray, ...]]  # type: ignore[type-arg]
    run_us: float | None


class StageRunner(Protocol):
    """Executes stages one by one, on whatever is nearest to the processor on this machine.

    Attributes:
        where: what that is, in words: ``"Hexagon v75 simulator (QAIRT 2.51)"``.
    """

    where: str

    def run(self, stage: str, samples: Sequence[tuple[NDArray, ...]]) -> StageRun:  # type: ignore[type-arg]
        """Run a stage on each sample, a tuple of the stage's inputs.

        Raises:
            EngineError: it could not be loaded or run; names the stage.
        """


class Target(ABC):
    """A kind of processor and what compiles for it.

    Args:
        description: what is known of it without this class.
    """

    def __init__(self, description: TargetDescription) -> None:
        self.description = description

    @property
    def name(self) -> str:
        """As bundles spell it."""
        return self.description.name

    def check(self, scheme: Scheme) -> None:
        """Refuse a scheme that the target cannot run.

        Raises:
            ExportError: it cannot.
        """
        self.description.check_scheme(scheme)

    @abstractmethod
    def lower(self, work: Work) -> LoweredStages:
        """Quantise what is left to quantise, and lower every stage.

        An operator that the target's delegate does not take stays in the program and runs on the
        CPU; :attr:`LoweredProgram.portable` lists it.

        Raises:
            ExportError: a stage cannot be lowered; names it.
        """

    def open(self, reference_dir: Path) -> AbstractContextManager[StageRunner]:
        """Execute stages here, from what :meth:`lower` left in ``Work.reference_dir``.

        Raises:
            TargetError: nothing on this machine executes them; says why.
        """
        raise TargetError(
            f"programs for {self.name} are not executed stage by stage",
            expected=self.description.executed,
        )
