"""From a bundle for several targets to the bundle for one device: nothing is lowered again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nestling.bundle.manifest import TARGET_MARK, Note
from nestling.bundle.writer import BundleBuilder
from nestling.errors import PathError, TargetError
from nestling_runtime.bundle import Bundle


@dataclass(frozen=True)
class SplitReport:
    """What was kept.

    Attributes:
        path: the new bundle.
        targets: kept, the new bundle's own first.
        dropped: targets that were left out.
        bytes_before: of the bundle that was split.
        bytes_after: of the new one.
        was_signed: whether the old one was signed; the new one is not.
    """

    path: Path
    targets: tuple[str, ...]
    dropped: tuple[str, ...]
    bytes_before: int
    bytes_after: int
    was_signed: bool


def split(source: Path, targets: Sequence[str], out_path: Path) -> SplitReport:
    """Write the part of a bundle that is for some of its targets.

    Programs and constants that only other targets use are left out; the rest are the same bytes in
    sections of the same names. The first target becomes the bundle's own, and named paths run on it
    wherever it has their stages. A signature does not survive: it signs every byte.

    Args:
        source: the bundle.
        targets: to keep, best first; those that the bundle does not have are passed over.
        out_path: where to write.

    Raises:
        BundleError: the bundle cannot be read or is damaged.
        TargetError: it has none of the targets; names those that it has.
        PathError: a named path needs a stage that none of the targets has.
    """
    with Bundle.open(source) as bundle:
        bundle.check_sections()
        kept = tuple(target for target in targets if target in bundle.targets)
        if not kept:
            raise TargetError(
                "the bundle has nothing for this device",
                expected=" or ".join(bundle.targets),
                actual=", ".join(targets),
            )
        _Splitter(bundle, kept).builder.write(out_path)
        return SplitReport(
            path=out_path,
            targets=kept,
            dropped=tuple(target for target in bundle.targets if target not in kept),
            bytes_before=bundle.size_bytes,
            bytes_after=out_path.stat().st_size,
            was_signed=bundle.is_signed,
        )


class _Splitter:
    """Copies the entries of a bundle that some targets need into a builder."""

    def __init__(self, bundle: Bundle, kept: tuple[str, ...]) -> None:
        self._bundle = bundle
        self._kept = kept
        self._names = {
            index: self._new_name(index)
            for index in range(len(bundle.stages))
            if bundle.stage_target(index) in kept
        }
        self.builder = BundleBuilder(
            name=bundle.name,
            target=kept[0],
            scheme=bundle.scheme,
            family=bundle.family,
            producer=bundle.producer,
            meta=self._notes(),
        )
        for section in bundle.sections:
            if section.kind == "data":
                self.builder.add_data(section.name, bytes(bundle.section_bytes(section)))
            else:
                kind = "program" if section.kind == "program" else "blob"
                self.builder.add_section(section.name, kind, section.level)  # type: ignore[arg-type]
        for slot in bundle.slots:
            self.builder.add_slot(
                slot.name,
                slot.dtype,  # type: ignore[arg-type]
                slot.shape,
                slot.role,  # type: ignore[arg-type]
                append=slot.append,
            )
        for position in bundle.positions:
            self.builder.add_position(
                position.name, position.layer, position.required, position.part
            )
        self._constants = self._add_constants()
        self._programs = self._add_programs()
        self._stages = {index: self._add_stage(index) for index in self._names}
        for number in range(len(bundle.paths)):
            self._add_path(number)

    def _new_name(self, index: int) -> str:
        stage, target = self._bundle.stages[index], self._bundle.stage_target(index)
        base = stage.name
        if target != self._bundle.target:
            base = base.removesuffix(f"{TARGET_MARK}{target}")
        return base if target == self._kept[0] else f"{base}{TARGET_MARK}{target}"

    def _notes(self) -> dict[str, Note]:
        """Notes, without those about stages that go; others follow the stages' new names."""
        stages = {stage.name: number for number, stage in enumerate(self._bundle.stages)}
        notes: dict[str, Note] = {}
        for note, value in self._bundle.meta.items():
            about = max((n for n in stages if note.startswith(f"{n}.")), key=len, default=None)
            if about is None:
                notes[note] = value
            elif stages[about] in self._names:
                notes[f"{self._names[stages[about]]}{note[len(about) :]}"] = value
        return notes

    def _add_constants(self) -> dict[int, int]:
        used = {number for i in self._names for _, number in self._bundle.stages[i].bindings}
        added = {}
        for number in sorted(used):
            constant = self._bundle.constants[number]
            added[number] = self.builder.add_constant(
                self._bundle.sections[constant.section].name,
                constant.key,
                self._bundle.item_bytes(constant),
                constant.dtype,  # type: ignore[arg-type]
                constant.shape,
                constant.dim_order,
            )
        return added

    def _add_programs(self) -> dict[int, int]:
        added = {}
        for number in sorted({self._bundle.stages[index].program for index in self._names}):
            program = self._bundle.programs[number]
            added[number] = self.builder.add_stored_program(
                self._bundle.item_bytes(program),
                program.method,
                self._bundle.sections[program.section].name,
                unpacked=program.unpacked_bytes,
                target=program.target,
            )
        return added

    def _add_stage(self, index: int) -> int:
        stage = self._bundle.stages[index]
        return self.builder.add_stage(
            self._names[index],
            program=self._programs[stage.program],
            first=stage.first,
            last=stage.last,
            inputs=stage.inputs,
            outputs=stage.outputs,
            bindings=[(name, self._constants[number]) for name, number in stage.bindings],
            level=stage.level,
            bits=stage.bits,
            macs=stage.macs,
            arena_bytes=stage.arena_bytes,
        )

    def _stand_in(self, stage: int) -> int | None:
        """The stage that does the work of one, on the best target that has it."""
        for target in self._kept:
            found = self._bundle.stand_in(stage, target)
            if found is not None:
                return found
        return None

    def _add_path(self, number: int) -> None:
        path = self._bundle.paths[number]
        chain = []
        for stage in path.chain:
            found = self._stand_in(stage)
            if found is None:
                raise PathError(
                    f"path {path.name} needs a stage that the device's targets do not have",
                    stage=self._bundle.stages[stage].name,
                    expected=" or ".join(self._kept),
                    actual=self._bundle.stage_target(stage),
                )
            chain.append(found)
        fused = None if path.fused is None else self._stand_in(path.fused)
        constants = {n for stage in chain for _, n in self._bundle.stages[stage].bindings}
        self.builder.add_path(
            path.name,
            [self._stages[stage] for stage in chain],
            fused=None if fused is None else self._stages[fused],
            parameters=path.parameters,
            macs=path.macs,
            weight_bytes=sum(self._bundle.constants[n].size_bytes for n in constants),
            quality=path.quality,
            cost_us=path.cost_us or None,
        )
