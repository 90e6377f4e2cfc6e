"""From lowered stages to the tables and blobs of a bundle."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from nestling.bundle.layout import content_digest
from nestling.bundle.manifest import TARGET_MARK, Note
from nestling.bundle.writer import BundleBuilder
from nestling.elastic.subnet import Subnet
from nestling.elastic.supernet import Supernet
from nestling.errors import ExportError
from nestling.partition.cut import Cut, StageKey
from nestling.quantize.schemes import Scheme
from nestling.targets.dtypes import TORCH_DTYPES
from nestling.targets.lowered import SYMBOL_PREFIX_LENGTH, LoweredProgram, TensorLayout
from nestling.targets.target import LoweredStages

PROGRAM_SECTION = "programs"

UNSHARED_SECTION = "fused"
"""Blob of constants that only fused programs use; empty when the compiler folded nothing anew."""

KEY_LENGTH = 32
"""Hexadecimal digits of a constant's hash that serve as its key."""


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
    lowered: Mapping[str, LoweredStages],
    plans: Iterable[PathPlan],
    out_path: Path,
    *,
    schemes: Mapping[str, Scheme],
    name: str,
    quality: Mapping[str, Mapping[str, float]],
) -> PackReport:
    """Write the bundle.

    Constants of equal bytes are stored once, whatever targets use them. What only a further target
    uses lies in sections of its own, so that a device without it can do without them.

    Args:
        supernet: for names, parameters and multiply-accumulates.
        lowered: the stages as they were lowered, by target; the first target is the bundle's own,
            stages of the others stand in for its. Programs of paths become fused stages.
        plans: named paths.
        out_path: where to write.
        schemes: what the weights are, by target.
        name: of the model.
        quality: figures by path name.

    Raises:
        BundleError: a table is over a limit of the format.
        ExportError: the targets do not hand the same tensors from stage to stage.
    """
    plans = list(plans)
    (own, first), *others = lowered.items()
    scheme = schemes[own]
    for target, stages in others:
        _check_same_slots(own, first.pieces, target, stages.pieces)
    builder = BundleBuilder(
        name=name,
        target=own,
        scheme=scheme.name,
        family=supernet.family,
        meta=_merge_notes(lowered, schemes),
    )
    packer = _Packer(builder, supernet, first.pieces, scheme)
    for target, stages in lowered.items():
        packer.start(target, stages, schemes[target])
        for key in sorted(first.pieces.stages, key=lambda k: (k.bits, k.level, k.position)):
            packer.add_block_stage(key, stages.programs[packer.lowered_key(key)])
    fused_stages: dict[str, int] = {}
    for target, stages in lowered.items():
        packer.start(target, stages, schemes[target])
        for plan in plans:
            if plan.name in stages.programs:
                fused = packer.add_fused_stage(plan, stages.programs[plan.name])
                fused_stages.setdefault(plan.name, fused)
    unshared = 0
    for plan in plans:
        weights = packer.weight_bytes(plan.chain)
        unshared += weights
        builder.add_path(
            plan.name,
            chain=[packer.stages[key] for key in plan.chain],
            fused=fused_stages.get(plan.name),
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
    ) -> None:
        self.builder = builder
        self.pieces = pieces
        self.scheme = scheme
        self._levels = supernet.space.levels
        self._target = builder.target
        self._suffix = ""
        self._method = "forward"
        self._packed = True
        self._bits: dict[int, int] = {}
        self.stages: dict[StageKey, int] = {}  # of the bundle's own target
        self._sizes: dict[StageKey, dict[str, int]] = {}
        self._homes: dict[bytes, str] = {}
        self._wires = pieces.wires()
        self._slots = {
            name: builder.add_slot(
                name, TORCH_DTYPES[slot.tensor.dtype], slot.tensor.shape, slot.role
            )
            for name, slot in self._wires.slots.items()
        }
        for position in pieces.positions:
            builder.add_position(
                position.name, position.layer, required=position.required, part=position.part
            )

    def start(self, target: str, stages: LoweredStages, scheme: Scheme) -> None:
        """Go on with the stages of a target and its scheme; the bundle's own come first."""
        self._bits = dict(zip(self.scheme.levels, scheme.levels, strict=True))
        self._target = target
        self._suffix = "" if target == self.builder.target else f"{TARGET_MARK}{target}"
        self._method = stages.method
        self._packed = stages.packed
        for bits in self.scheme.levels:
            for level in range(1, self._levels + 1):
                self.builder.add_section(self._section(level, bits), "blob", level)

    def lowered_key(self, key: StageKey) -> StageKey:
        """Return the present target's key for a stage of the bundle's own target."""
        return replace(key, bits=self._bits[key.bits])

    def add_block_stage(self, key: StageKey, program: LoweredProgram) -> None:
        """Add one stage of the chain, by the key of the bundle's own target."""
        cut = self.pieces.stages[key]
        bindings, sizes = self._bind(program, self._section(key.level, key.bits))
        index = self.builder.add_stage(
            f"{cut.name}{self._suffix}",
            program=self._add_program(program),
            first=key.position,
            inputs=[self._slots[name] for name in self._wires.reads[key]],
            outputs=[self._slots[name] for name in self._wires.writes[key]],
            bindings=bindings,
            level=key.level,
            bits=self._bits[key.bits],
            macs=cut.macs,
            arena_bytes=program.arena_bytes,
        )
        if self._target != self.builder.target:
            return
        self.stages[key] = index
        self._sizes[key] = sizes

    def add_fused_stage(self, plan: PathPlan, program: LoweredProgram) -> int:
        """Add the stage that runs a whole path; return its index."""
        ends = self.pieces.ends
        bindings, _ = self._bind(program, f"{UNSHARED_SECTION}{self._suffix}")
        return self.builder.add_stage(
            f"path.{plan.name}{self._suffix}",
            program=self._add_program(program),
            first=0,
            last=len(self.pieces.positions) - 1,
            inputs=[self._slots[name] for name in ends.inputs],
            outputs=[self._slots[ends.output_name]],
            bindings=bindings,
            level=max(plan.subnet.levels),
            bits=self._bits[plan.bits],
            macs=sum(self.pieces.stages[key].macs for key in plan.chain),
            arena_bytes=program.arena_bytes,
        )

    def _add_program(self, program: LoweredProgram) -> int:
        return self.builder.add_program(
            program.program,
            self._method,
            f"{PROGRAM_SECTION}{self._suffix}",
            packed=self._packed,
            target=self._target,
        )

    def weight_bytes(self, chain: Iterable[StageKey]) -> int:
        """Bytes of all constants that a chain uses, each once."""
        sizes: dict[str, int] = {}
        for key in chain:
            sizes.update(self._sizes[key])
        return sum(sizes.values())

    def _bind(
        self, program: LoweredProgram, section: str
    ) -> tuple[list[tuple[str, int]], dict[str, int]]:
        return add_constants(self.builder, program, section, self._homes)

    def _section(self, level: int, bits: int) -> str:
        """Name of the blob that ``level`` adds, the lower nibbles in blobs of their own."""
        low = "" if bits == self.scheme.levels[0] else ".low"
        return f"{level_section(level)}{low}{self._suffix}"


def _check_same_slots(own: str, pieces: Cut, target: str, others: Cut) -> None:
    """Refuse targets whose stages cannot follow each other; memory orders are the engine's work."""

    def slots(of: Cut) -> dict[str, tuple[object, ...]]:
        return {n: (s.tensor.dtype, tuple(s.tensor.shape)) for n, s in of.wires().slots.items()}

    def places(of: Cut) -> set[tuple[int, int]]:
        return {(key.position, key.level) for key in of.stages}

    if places(pieces) != places(others) or slots(pieces) != slots(others):
        raise ExportError(
            f"stages for {target} and for {own} do not hand each other the same tensors",
            hint="export them into bundles of their own",
        )


def _merge_notes(
    lowered: Mapping[str, LoweredStages], schemes: Mapping[str, Scheme]
) -> dict[str, Note]:
    """Notes of all targets; those of further ones carry the target behind the stage's name.

    A target with another scheme than the bundle's has the note ``scheme@<target>``.
    """
    notes: dict[str, Note] = {}
    own = schemes[next(iter(lowered))]
    for number, (target, stages) in enumerate(lowered.items()):
        suffix = "" if number == 0 else f"{TARGET_MARK}{target}"
        if schemes[target].name != own.name:
            notes[f"scheme{suffix}"] = schemes[target].name
        names = [cut.name for cut in stages.pieces.stages.values()]
        for note, value in stages.meta.items():
            stage = max((n for n in names if note.startswith(f"{n}.")), key=len, default=note)
            notes[f"{stage}{suffix}{note[len(stage) :]}"] = value
    return notes


def level_section(level: int) -> str:
    """Name of the blob that a level adds."""
    return "core" if level == 1 else f"level{level}"


def add_constants(
    builder: BundleBuilder, program: LoweredProgram, section: str, homes: dict[bytes, str]
) -> tuple[list[tuple[str, int]], dict[str, int]]:
    """Add a program's constants to a bundle.

    Args:
        builder: of the bundle.
        program: whose constants.
        section: for those that the bundle does not have yet.
        homes: digest of a constant -> section that it lies in; grows.

    Returns:
        By which name or symbol the program asks for each constant, and their bytes by key.
    """
    bindings, sizes = [], {}
    for name, constant in program.constants.items():
        layout = constant.layout
        key = constant_key(constant.data, layout)
        index = builder.add_constant(
            # By bytes, not by key: a kernel and a delegate may want the same bytes.
            homes.setdefault(content_digest(constant.data), section),
            key,
            constant.data,
            dtype=None if layout is None else layout.dtype,
            shape=None if layout is None else layout.shape,
            dim_order=None if layout is None else layout.dim_order,
        )
        bindings.append((name if layout is not None else name[:SYMBOL_PREFIX_LENGTH], index))
        sizes[key] = len(constant.data)
    return bindings, sizes


def constant_key(data: bytes, layout: TensorLayout | None) -> str:
    """Key of a constant: its content, and its layout where a kernel will ask for it."""
    digest = hashlib.sha256(data)
    if layout is not None:
        digest.update(repr(layout).encode())
    return digest.hexdigest()[:KEY_LENGTH]
