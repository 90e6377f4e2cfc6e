"""From a decoder to a bundle that generates: cut, quantise, lower, pack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nestling.bundle.manifest import Note
from nestling.bundle.writer import BundleBuilder
from nestling.elastic.families.llama import ElasticLlama
from nestling.elastic.subnet import Subnet
from nestling.packing import add_constants, level_section
from nestling.partition.decoder import DecoderCut, DecoderShape, chain_macs, cut_decoder
from nestling.quantize.schemes import get_scheme
from nestling.targets.dtypes import TORCH_DTYPES
from nestling.targets.lowered import LoweredProgram
from nestling.targets.pool import Job, Progress, lower_all

TOKENIZER_SECTION = "tokenizer.json"
"""Data section that holds a tokenizer of the `tokenizers` package; absent: tokens are bytes."""


@dataclass(frozen=True)
class DecoderExportReport:
    """What an export made.

    Attributes:
        path: the bundle.
        file_bytes: its size.
        section_bytes: bytes by section.
        stages: number of stages.
        paths: names of the subnets, small to large.
        portable: stage -> operators that no delegate took.
    """

    path: Path
    file_bytes: int
    section_bytes: dict[str, int]
    stages: int
    paths: tuple[str, ...]
    portable: dict[str, tuple[str, ...]]


def export_decoder(
    supernet: ElasticLlama,
    out_path: Path,
    *,
    scheme: str = "fp32",
    shape: DecoderShape | None = None,
    paths: Mapping[str, Subnet] | None = None,
    tokenizer: bytes | None = None,
    meta: Mapping[str, Note] | None = None,
    quality: Mapping[str, Mapping[str, float]] | None = None,
    jobs: int = 2,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
    name: str | None = None,
) -> DecoderExportReport:
    """Export a decoder that generates token by token, any path at each.

    Args:
        supernet: trained; left unchanged.
        out_path: the bundle to write.
        scheme: `fp32`, `int8-dynamic` or `int4-group32`.
        shape: tokens of a session and of a run; default `DecoderShape()`.
        paths: named subnets, small to large; default `supernet.space.named`.
        tokenizer: `tokenizer.json`; without one, tokens are bytes.
        meta: notes to add.
        quality: figures of each path.
        jobs: processes that lower at once.
        cache_dir: of lowered programs.
        progress: told about each finished stage.
        name: of the model; default the file's stem.

    Raises:
        ModelError: the model cannot be cut so.
        ExportError: unknown scheme, or a stage cannot be lowered.
    """
    chosen = get_scheme(scheme)
    named = dict(paths or supernet.space.named)
    pieces = cut_decoder(supernet, chosen, shape, named)
    work = [
        Job(stage, piece.module, pieces.example_inputs(stage))
        for stage, piece in pieces.stages.items()
    ]
    lowered = lower_all(work, processes=jobs, cache_dir=cache_dir, progress=progress)
    programs = dict(zip(pieces.stages, lowered, strict=True))
    notes = {"decoder.context": pieces.shape.context, **(meta or {})}
    builder = BundleBuilder(
        name=name or out_path.stem, scheme=chosen.name, family=supernet.family, meta=notes
    )
    packer = _Packer(builder, supernet, pieces)
    for stage, program in programs.items():
        packer.add_stage(stage, program)
    for path in pieces.paths:
        packer.add_path(path, (quality or {}).get(path))
    if tokenizer is not None:
        builder.add_data(TOKENIZER_SECTION, tokenizer)
    manifest = builder.write(out_path)
    return DecoderExportReport(
        path=out_path,
        file_bytes=out_path.stat().st_size,
        section_bytes={section.name: section.size for section in manifest.sections},
        stages=len(programs),
        paths=tuple(named),
        portable={stage: p.portable for stage, p in programs.items() if p.portable},
    )


class _Packer:
    """Adds stages and paths to a builder."""

    def __init__(self, builder: BundleBuilder, supernet: ElasticLlama, pieces: DecoderCut) -> None:
        self.builder = builder
        self.supernet = supernet
        self.pieces = pieces
        self._stages: dict[str, int] = {}
        self._sizes: dict[str, dict[str, int]] = {}
        for level in range(1, supernet.space.levels + 1):
            builder.add_section(level_section(level), "blob", level)
        self._slots: dict[str, int] = {}
        for name, slot in pieces.slots.items():
            self._slots[name] = builder.add_slot(
                name,
                TORCH_DTYPES[slot.example.dtype],
                slot.example.shape,
                slot.role,
                append=None if slot.append is None else self._slots[slot.append],
            )
        self._positions = {
            name: builder.add_position(name, layer, required)
            for name, (layer, required) in pieces.positions.items()
        }
        self._homes: dict[bytes, str] = {}

    def add_stage(self, name: str, program: LoweredProgram) -> None:
        """Add a lowered stage."""
        stage = self.pieces.stages[name]
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
        path = self.pieces.paths[name]
        sizes: dict[str, int] = {}
        for stage in path.stages:
            sizes.update(self._sizes[stage])
        self.builder.add_path(
            name,
            chain=[self._stages[stage] for stage in path.stages],
            parameters=self.supernet.count_parameters(path.subnet),
            macs=chain_macs(self.pieces, path.stages),
            weight_bytes=sum(sizes.values()),
            quality=quality,
        )
