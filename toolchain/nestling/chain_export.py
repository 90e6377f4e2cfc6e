"""From a chain of named stages to a bundle: lower, pack, add the experts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nestling.bundle.manifest import Note
from nestling.bundle.writer import BundleBuilder
from nestling.experts.index import IndexedLayer, Predictor, encode_experts
from nestling.experts.slices import F32, ExpertFormat
from nestling.packing import add_constants, level_section
from nestling.partition.chain import Chain
from nestling.targets.dtypes import TORCH_DTYPES
from nestling.targets.lowered import LoweredProgram
from nestling.targets.pool import Job, Progress, lower_all


@dataclass(frozen=True)
class ChainExportReport:
    """What an export made.

    Attributes:
        path: the bundle.
        file_bytes: its size.
        section_bytes: bytes by section.
        stages: number of stages.
        paths: names of the paths; of a decoder, of its subnets, small to large.
        portable: stage -> operators that no delegate took.
    """

    path: Path
    file_bytes: int
    section_bytes: dict[str, int]
    stages: int
    paths: tuple[str, ...]
    portable: dict[str, tuple[str, ...]]


def export_chain(
    chain: Chain,
    out_path: Path,
    *,
    family: str = "custom",
    experts: ExpertFormat = F32,
    predictors: Sequence[Predictor | None] = (),
    meta: Mapping[str, Note] | None = None,
    quality: Mapping[str, Mapping[str, float]] | None = None,
    data: Mapping[str, bytes] | None = None,
    jobs: int = 2,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
    name: str | None = None,
) -> ChainExportReport:
    """Lower every stage of a chain for the CPU and pack all into one bundle.

    Args:
        chain: see `nestling.partition.chain`.
        out_path: the bundle to write.
        family: of the model.
        experts: how routed experts are stored, whatever the scheme of the stages.
        predictors: for each expert layer, by number, a guess at a later one's scores, or None.
        meta: notes to add.
        quality: figures of each path.
        data: sections of the caller's own, by name.
        jobs: processes that lower at once.
        cache_dir: of lowered programs.
        progress: told about each finished stage.
        name: of the model; default the file's stem.

    Raises:
        ModelError: the experts cannot be stored so, or a predictor does not fit.
        ExportError: a stage cannot be lowered.
    """
    guesses = [*predictors, *[None] * (len(chain.experts) - len(predictors))]
    layers = [
        IndexedLayer(layer, block.bank, guess)
        for (layer, block), guess in zip(chain.experts.items(), guesses, strict=True)
    ]
    sections = encode_experts(layers, experts) if layers else {}
    # Visits of a stage have its module: lowered once.
    first_of = {id(piece.module): stage for stage, piece in reversed(chain.stages.items())}
    work = [
        Job(stage, piece.module, chain.example_inputs(stage))
        for stage, piece in chain.stages.items()
        if first_of[id(piece.module)] == stage
    ]
    lowered = lower_all(work, processes=jobs, cache_dir=cache_dir, progress=progress)
    by_first = {job.name: program for job, program in zip(work, lowered, strict=True)}
    programs = {
        stage: by_first[first_of[id(piece.module)]] for stage, piece in chain.stages.items()
    }
    builder = BundleBuilder(
        name=name or out_path.stem, scheme=chain.scheme.name, family=family, meta=meta
    )
    packer = _Packer(builder, chain)
    for stage, program in programs.items():
        packer.add_stage(stage, program)
    for path in chain.paths:
        packer.add_path(path, (quality or {}).get(path))
    for section, content in {**sections, **(data or {})}.items():
        builder.add_data(section, content)
    manifest = builder.write(out_path)
    return ChainExportReport(
        path=out_path,
        file_bytes=out_path.stat().st_size,
        section_bytes={section.name: section.size for section in manifest.sections},
        stages=len(programs),
        paths=tuple(chain.paths),
        portable={stage: p.portable for stage, p in programs.items() if p.portable},
    )


class _Packer:
    """Adds stages and paths to a builder."""

    def __init__(self, builder: BundleBuilder, chain: Chain) -> None:
        self.builder = builder
        self.chain = chain
        self._stages: dict[str, int] = {}
        self._sizes: dict[str, dict[str, int]] = {}
        for level in range(1, max(stage.level for stage in chain.stages.values()) + 1):
            builder.add_section(level_section(level), "blob", level)
        self._slots: dict[str, int] = {}
        for name, slot in chain.slots.items():
            self._slots[name] = builder.add_slot(
                name,
                TORCH_DTYPES[slot.example.dtype],
                slot.example.shape,
                slot.role,
                append=None if slot.append is None else self._slots[slot.append],
            )
        self._positions = {
            name: builder.add_position(name, layer, required)
            for name, (layer, required) in chain.positions.items()
        }
        self._homes: dict[bytes, str] = {}

    def add_stage(self, name: str, program: LoweredProgram) -> None:
        """Add a lowered stage."""
        stage = self.chain.stages[name]
        bindings, self._sizes[name] = add_constants(
            self.builder, program, level_section(stage.level), self._homes
        )
        self._stages[name] = self.builder.add_stage(
            name,
            program=self.builder.add_program(program.program, packed=True),
            first=self._positions[stage.first],
            last=self._positions[stage.last],
            inputs=[self._slots[slot] for slot in stage.inputs],
            outputs=[self._slots[slot] for slot in stage.outputs],
            bindings=bindings,
            level=stage.level,
            bits=stage.bits,
            macs=stage.macs,
            arena_bytes=program.arena_bytes,
        )

    def add_path(self, name: str, quality: Mapping[str, float] | None) -> None:
        """Add a list of stages."""
        path = self.chain.paths[name]
        sizes: dict[str, int] = {}
        for stage in path.stages:
            sizes.update(self._sizes[stage])
        self.builder.add_path(
            name,
            chain=[self._stages[stage] for stage in path.stages],
            parameters=path.parameters,
            macs=self.chain.macs(name),
            weight_bytes=sum(sizes.values()),
            quality=quality,
        )
