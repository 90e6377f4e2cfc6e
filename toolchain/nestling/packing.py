"""From lowered stages to the tables and blobs of a bundle."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nestling.bundle.manifest import Note
from nestling.bundle.writer import BundleBuilder
from nestling.elastic.subnet import Subnet
from nestling.elastic.supernet import Supernet
from nestling.partition.cut import Cut, StageKey
from nestling.quantize.schemes import Scheme
from nestling.targets.dtypes import TORCH_DTYPES
from nestling.targets.lowered import SYMBOL_PREFIX_LENGTH, LoweredProgram, TensorLayout

UNSHARED_SECTION = "fused"
"""Blob of constants that only fused programs use; empty when the compiler folded nothing anew."""

KEY_LENGTH = 32
"""Hexadecimal digits of a constant's hash that serve as its key."""

Programs = Mapping[StageKey | str, LoweredProgram]
"""Lowered stages by key, fused paths by the path's name."""


@dataclass(frozen=True)
class PathPlan:
    """A named path before it is packed.

    Attributes:
        name: unique in the bundle.
        subnet: what it computes.
        bits: at which weight precision.
        chain: its stages.
    """

    name: str
    subnet: Subnet
    bits: int
    chain: list[StageKey]


@dataclass(frozen=True)
class PackReport:
    """Where the bytes of a bundle went.

    Attributes:
        section_bytes: bytes by section, in the order of the file.
        unshared_bytes: what separate files of all named paths would hold in weights.
        file_bytes: size of the bundle.
    """

    section_bytes: dict[str, int]
    unshared_bytes: int
    file_bytes: int


def pack(
    supernet: Supernet,
    pieces: Cut,
    programs: Programs,
    plans: Iterable[PathPlan],
    out_path: Path,
    *,
    scheme: Scheme,
    name: str,
    quality: Mapping[str, Mapping[str, float]],
    target: str = "xnnpack",
    method: str = "forward",
    packed: bool = True,
    meta: Mapping[str, Note] | None = None,
) -> PackReport:
    """Write the bundle.

    Args:
        supernet: for names, parameters and multiply-accumulates.
        pieces: the stages as they were cut.
        programs: the stages as they were lowered; those of paths become fused stages.
        plans: named paths.
        out_path: where to write.
        scheme: what the weights are.
        name: of the model.
        quality: figures by path name.
        target: what the programs were lowered for.
        method: of every program.
        packed: store programs deflated.
        meta: notes.

    Raises:
        BundleError: a table is over a limit of the format.
    """
    plans = list(plans)
    builder = BundleBuilder(
        name=name, target=target, scheme=scheme.name, family=supernet.family, meta=meta
    )
    packer = _Packer(builder, supernet, pieces, scheme, method, packed)
    for key in sorted(pieces.stages, key=lambda k: (k.bits, k.level, k.position)):
        packer.add_block_stage(key, programs[key])
    unshared = 0
    for plan in plans:
        fused = None
        if plan.name in programs:
            fused = packer.add_fused_stage(plan, programs[plan.name])
        weights = packer.weight_bytes(plan.chain)
        unshared += weights
        builder.add_path(
            plan.name,
            chain=[packer.stages[key] for key in plan.chain],
            fused=fused,
            parameters=supernet.count_parameters(plan.subnet),
            macs=supernet.macs(plan.subnet),
            weight_bytes=weights,
            quality=quality.get(plan.name),
        )
    manifest = builder.write(out_path)
    return PackReport(
        section_bytes={section.name: section.size for section in manifest.sections},
        unshared_bytes=unshared,
        file_bytes=out_path.stat().st_size,
    )


class _Packer:
    """Adds stages to a builder and remembers what each of them binds."""

    def __init__(
        self,
        builder: BundleBuilder,
        supernet: Supernet,
        pieces: Cut,
        scheme: Scheme,
        method: str,
        packed: bool,
    ) -> None:
        self.builder = builder
        self._method = method
        self._packed = packed
        self.pieces = pieces
        self.scheme = scheme
        self.stages: dict[StageKey, int] = {}
        self._sizes: dict[StageKey, dict[str, int]] = {}
        self._homes: dict[str, str] = {}
        self._wires = pieces.wires()
        self._slots = {
            name: builder.add_slot(
                name, TORCH_DTYPES[slot.tensor.dtype], slot.tensor.shape, slot.role
            )
            for name, slot in self._wires.slots.items()
        }
        for position in pieces.positions:
            builder.add_position(position.name, layer=position.layer, required=position.required)
        for bits in scheme.levels:
            for level in range(1, supernet.space.levels + 1):
                builder.add_section(self._section(level, bits), "blob", level)

    def add_block_stage(self, key: StageKey, program: LoweredProgram) -> None:
        """Add one stage of the chain."""
        cut = self.pieces.stages[key]
        self.stages[key] = self.builder.add_stage(
            cut.name,
            program=self._add_program(program),
            first=key.position,
            inputs=[self._slots[name] for name in self._wires.reads[key]],
            outputs=[self._slots[name] for name in self._wires.writes[key]],
            bindings=self._bind(program, self._section(key.level, key.bits)),
            level=key.level,
            bits=key.bits,
            macs=cut.macs,
            arena_bytes=program.arena_bytes,
        )
        self._sizes[key] = {
            _constant_key(data.data, data.layout): len(data.data)
            for data in program.constants.values()
        }

    def add_fused_stage(self, plan: PathPlan, program: LoweredProgram) -> int:
        """Add the stage that runs a whole path; return its index."""
        ends = self.pieces.ends
        return self.builder.add_stage(
            f"path.{plan.name}",
            program=self._add_program(program),
            first=0,
            last=len(self.pieces.positions) - 1,
            inputs=[self._slots[name] for name in ends.inputs],
            outputs=[self._slots[ends.output_name]],
            bindings=self._bind(program, UNSHARED_SECTION),
            level=max(plan.subnet.levels),
            bits=plan.bits,
            macs=sum(self.pieces.stages[key].macs for key in plan.chain),
            arena_bytes=program.arena_bytes,
        )

    def _add_program(self, program: LoweredProgram) -> int:
        return self.builder.add_program(program.program, self._method, packed=self._packed)

    def weight_bytes(self, chain: Iterable[StageKey]) -> int:
        """Bytes of all constants that a chain uses, each once."""
        sizes: dict[str, int] = {}
        for key in chain:
            sizes.update(self._sizes[key])
        return sum(sizes.values())

    def _bind(self, program: LoweredProgram, section: str) -> list[tuple[str, int]]:
        """Add a program's constants; return by which name or symbol it asks for each."""
        bindings = []
        for name, constant in program.constants.items():
            layout = constant.layout
            key = _constant_key(constant.data, layout)
            index = self.builder.add_constant(
                self._homes.setdefault(key, section),
                key,
                constant.data,
                dtype=None if layout is None else layout.dtype,
                shape=None if layout is None else layout.shape,
                dim_order=None if layout is None else layout.dim_order,
            )
            bindings.append((name if layout is not None else name[:SYMBOL_PREFIX_LENGTH], index))
        return bindings

    def _section(self, level: int, bits: int) -> str:
        """Name of the blob that ``level`` adds, the lower nibbles in blobs of their own."""
        name = "core" if level == 1 else f"level{level}"
        return name if bits == self.scheme.levels[0] else f"{name}.low"


def _constant_key(data: bytes, layout: TensorLayout | None) -> str:
    """Key of a constant: its content, and its layout where a kernel will ask for it."""
    digest = hashlib.sha256(data)
    if layout is not None:
        digest.update(repr(layout).encode())
    return digest.hexdigest()[:KEY_LENGTH]
