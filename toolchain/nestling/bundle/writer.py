"""Writes bundles: collects tables and bytes, lays them out, and puts the file in place in one step.

::

    builder = BundleBuilder(name="digits", target="xnnpack", scheme="fp32", family="vit")
    x = builder.add_slot("x", dtype="f32", shape=(1, 17, 64), role="internal")
    weight = builder.add_constant("level1", key, data)
    program = builder.add_program(pte, method="forward")
    builder.add_position("stem", layer=0, required=True)
    stem = builder.add_stage("stem", program=program, first=0, last=0, ...)
    builder.add_path("tiny", chain=[stem, ...], ...)
    builder.write("digits.nest")

The same calls in the same order give the same bytes. Indexes that the builder hands out are its
own: in the file, programs and constants are numbered by the place of their bytes, paths by their
cost.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nestling import __version__
from nestling.bundle.atomic import replacing
from nestling.bundle.layout import (
    Buffer,
    FilledSection,
    Item,
    aligned,
    content_digest,
    first_section_offset,
    prefix_bytes,
)
from nestling.bundle.manifest import (
    PREFIX_BYTES,
    SECTION_ALIGNMENT_BYTES,
    Constant,
    DType,
    Manifest,
    Note,
    PathEntry,
    Position,
    Program,
    Section,
    SectionKind,
    Slot,
    SlotRole,
    Stage,
)
from nestling.errors import BundleError

DEFAULT_PROGRAM_SECTION = "programs"


@dataclass
class _Constant:
    key: str
    section: FilledSection
    item: Item
    dtype: DType | None
    shape: tuple[int, ...] | None
    dim_order: tuple[int, ...] | None


@dataclass
class _Program:
    method: str
    section: FilledSection
    item: Item
    unpacked: int | None
    target: str | None


class BundleBuilder:
    """Collects what goes into a bundle.

    Args:
        name: Of the model.
        target: Backend that programs are for unless they are added with another one.
        scheme: Number format of the weights.
        family: Model family.
        producer: Program that writes the bundle; this package by default.
        meta: Free notes.
    """

    def __init__(
        self,
        *,
        name: str,
        target: str = "xnnpack",
        scheme: str = "fp32",
        family: str = "custom",
        producer: str | None = None,
        meta: Mapping[str, Note] | None = None,
    ) -> None:
        self.name = name
        self.target = target
        self.scheme = scheme
        self.family = family
        self.producer = producer or f"nestling {__version__}"
        self.meta: dict[str, Note] = dict(meta or {})
        self._sections: dict[str, FilledSection] = {}
        self._constants: dict[str, tuple[int, _Constant]] = {}
        self._programs: list[_Program] = []
        self._slots: list[Slot] = []
        self._positions: list[Position] = []
        self._stages: list[Stage] = []
        self._paths: list[PathEntry] = []

    def add_section(self, name: str, kind: SectionKind = "blob", level: int | None = None) -> None:
        """Declare a section; the order of declaration is the order in the file.

        Constants and programs declare their sections themselves. Call this first to fix an order,
        or to say the nesting level of a blob. A section that stays empty is left out of the file.

        Raises:
            BundleError: The section is there with another kind or level.
        """
        known = self._sections.get(name)
        if known is None:
            self._sections[name] = FilledSection(name, kind, level)
            return
        if known.kind != kind:
            raise BundleError(
                "the section holds something else", section=name, expected=known.kind, actual=kind
            )
        if level is not None:
            if known.level not in (None, level):
                raise BundleError(
                    "the section is of another level",
                    section=name,
                    expected=known.level,
                    actual=level,
                )
            known.level = level

    def add_slot(
        self,
        name: str,
        dtype: DType,
        shape: Iterable[int],
        role: SlotRole = "internal",
        *,
        append: int | None = None,
    ) -> int:
        """Add a tensor that stages read and write; return its index. See `Slot`."""
        self._slots.append(Slot(name, dtype, tuple(int(dim) for dim in shape), role, append))
        return len(self._slots) - 1

    def add_constant(
        self,
        section: str,
        key: str,
        data: Buffer,
        dtype: DType | None = None,
        shape: Iterable[int] | None = None,
        dim_order: Iterable[int] | None = None,
        level: int | None = None,
    ) -> int:
        """Add weight bytes under a key; return the constant's index.

        Equal bytes are stored once a section. The same key with the same bytes is the same
        constant; it lies in whichever of its sections was declared first, so that a smaller path
        never needs the blob of a larger one.

        Args:
            section: Name of the blob section.
            key: Name that programs ask for; unique by content.
            data: The bytes. Kept by reference until the bundle is written.
            dtype: Layout, with `shape`, for constants that ExecuTorch asks a layout of.
            shape: See `dtype`.
            dim_order: See `dtype`; contiguous by default.
            level: Nesting level of the section, as `add_section` takes it.

        Raises:
            BundleError: No bytes, or the key is there with other bytes or another layout.
        """
        self.add_section(section, "blob", level)
        target = self._sections[section]
        dims = None if shape is None else tuple(int(dim) for dim in shape)
        order = None if dim_order is None else tuple(int(dim) for dim in dim_order)
        known = self._constants.get(key)
        if known is None:
            constant = _Constant(key, target, target.place(data), dtype, dims, order)
            index = len(self._constants)
            self._constants[key] = (index, constant)
            return index
        index, constant = known
        digest = content_digest(data)
        if digest != constant.item.digest:
            raise BundleError("two constants have one key", section=section, actual=key)
        if dtype is not None:
            layout = (constant.dtype, constant.shape, constant.dim_order)
            if constant.dtype is not None and layout != (dtype, dims, order):
                raise BundleError(
                    "a constant has two layouts",
                    section=section,
                    expected=layout,
                    actual=(dtype, dims, order),
                )
            constant.dtype, constant.shape, constant.dim_order = dtype, dims, order
        ranks = list(self._sections)
        if ranks.index(section) < ranks.index(constant.section.name):
            self._move(constant, target)
        return index

    def _move(self, constant: _Constant, target: FilledSection) -> None:
        """Put a constant into another section, and drop the bytes where nobody else uses them."""
        source, item = constant.section, constant.item
        constant.section, constant.item = target, target.place(item.data)
        if not any(
            other.section is source and other.item is item for _, other in self._constants.values()
        ):
            del source.items[item.digest]

    def add_program(
        self,
        pte: Buffer,
        method: str = "forward",
        section: str = DEFAULT_PROGRAM_SECTION,
        *,
        packed: bool = False,
        target: str | None = None,
    ) -> int:
        """Add a .pte file; return the program's index.

        Programs of equal bytes, method and target are one.

        Args:
            pte: The file.
            method: To load from it.
            section: Name of the program section.
            packed: Store it deflated. A runtime copies programs anyway, so this costs it no memory.
            target: What it was lowered for; the bundle's target by default.
        """
        unpacked = memoryview(pte).nbytes if packed else None
        stored = zlib.compress(pte, 9) if packed else pte
        return self.add_stored_program(stored, method, section, unpacked=unpacked, target=target)

    def add_stored_program(
        self,
        stored: Buffer,
        method: str,
        section: str,
        *,
        unpacked: int | None,
        target: str | None = None,
    ) -> int:
        """Add a program whose bytes are deflated already, or stay as they are; see `add_program`.

        Args:
            stored: The bytes as they will lie in the file.
            method: To load.
            section: Name of the program section.
            unpacked: Bytes of the .pte inside, where `stored` is a zlib stream.
            target: What it was lowered for; the bundle's target by default.
        """
        self.add_section(section, "program")
        home = self._sections[section]
        item = home.place(stored)
        wanted = None if target == self.target else target
        for index, known in enumerate(self._programs):
            if (known.item, known.method, known.unpacked, known.target) == (
                item,
                method,
                unpacked,
                wanted,
            ):
                return index
        self._programs.append(_Program(method, home, item, unpacked, wanted))
        return len(self._programs) - 1

    def add_data(self, section: str, data: Buffer) -> None:
        """Add a section of bytes that the format does not look into.

        Raises:
            BundleError: No bytes, or the section is there already.
        """
        if section in self._sections:
            raise BundleError("the section is there already", section=section)
        self.add_section(section, "data")
        self._sections[section].place(data)

    def add_position(self, name: str, layer: int, required: bool, part: bool = False) -> int:
        """Append a place of the chain; return its index."""
        self._positions.append(Position(name, layer, required, part))
        return len(self._positions) - 1

    def add_stage(
        self,
        name: str,
        *,
        program: int,
        first: int,
        last: int | None = None,
        inputs: Iterable[int],
        outputs: Iterable[int],
        bindings: Iterable[tuple[str, int]] = (),
        level: int = 0,
        bits: int = 32,
        macs: int = 0,
        arena_bytes: int = 0,
    ) -> int:
        """Add a stage and return its index; see `Stage`. `last` is `first` by default."""
        self._stages.append(
            Stage(
                name=name,
                program=program,
                first=first,
                last=first if last is None else last,
                level=level,
                bits=bits,
                inputs=tuple(inputs),
                outputs=tuple(outputs),
                bindings=tuple(bindings),
                macs=macs,
                arena_bytes=arena_bytes,
            )
        )
        return len(self._stages) - 1

    def add_path(
        self,
        name: str,
        chain: Iterable[int],
        *,
        fused: int | None = None,
        parameters: int = 0,
        macs: int = 0,
        weight_bytes: int = 0,
        quality: Mapping[str, float] | None = None,
        cost_us: Mapping[str, float] | None = None,
    ) -> None:
        """Add a named path; arguments as in `PathEntry`. The order of calls does not matter."""
        self._paths.append(
            PathEntry(
                name=name,
                chain=tuple(chain),
                fused=fused,
                parameters=parameters,
                macs=macs,
                weight_bytes=weight_bytes,
                quality=dict(quality or {}),
                cost_us=None if cost_us is None else dict(cost_us),
            )
        )

    def build(self) -> tuple[Manifest, bytes]:
        """Lay everything out.

        Returns:
            The manifest, and its encoding.

        Raises:
            BundleError: A table is empty or over a limit of the format, or something points at
                nothing.
        """
        sections = self._used_sections()
        ranks = {id(section): rank for rank, section in enumerate(sections)}
        sizes = [section.lay_out() for section in sections]
        digests = [section.sha256() for section in sections]

        constants = [constant for _, constant in self._constants.values()]
        constant_order = sorted(
            range(len(constants)),
            key=lambda i: (ranks[id(constants[i].section)], constants[i].item.offset, i),
        )
        program_order = sorted(
            range(len(self._programs)),
            key=lambda i: (ranks[id(self._programs[i].section)], self._programs[i].item.offset),
        )
        constant_numbers = {old: new for new, old in enumerate(constant_order)}
        program_numbers = {old: new for new, old in enumerate(program_order)}

        def manifest_at(start: int) -> Manifest:
            """Return the manifest of a file whose first section starts at byte `start`."""
            entries = []
            for section, size, digest in zip(sections, sizes, digests, strict=True):
                entries.append(
                    Section(section.name, section.kind, start, size, digest, section.level)
                )
                start = aligned(start + size, SECTION_ALIGNMENT_BYTES)
            return Manifest(
                name=self.name,
                producer=self.producer,
                target=self.target,
                scheme=self.scheme,
                family=self.family,
                sections=tuple(entries),
                slots=tuple(self._slots),
                constants=tuple(self._constant(constants[i], ranks) for i in constant_order),
                programs=tuple(self._program(self._programs[i], ranks) for i in program_order),
                positions=tuple(self._positions),
                stages=tuple(
                    self._stage(stage, constant_numbers, program_numbers) for stage in self._stages
                ),
                paths=tuple(sorted(self._paths, key=lambda path: (path.macs, path.weight_bytes))),
                meta=self.meta,
            )

        # Offsets are part of the manifest and depend on its size, which never shrinks as they grow:
        # this ends.
        start = 0
        while True:
            manifest = manifest_at(start)
            encoded = manifest.to_cbor()
            needed = first_section_offset(len(encoded))
            if needed == start:
                return manifest, encoded
            start = needed

    def _used_sections(self) -> list[FilledSection]:
        """Return the sections that hold something, in the order of the file."""
        sections = [section for section in self._sections.values() if section.items]
        for table, entries in (
            ("sections", sections),
            ("programs", self._programs),
            ("slots", self._slots),
            ("positions", self._positions),
            ("stages", self._stages),
            ("paths", self._paths),
        ):
            if not entries:
                raise BundleError("a bundle needs at least one entry", section=table)
        return sections

    @staticmethod
    def _constant(constant: _Constant, ranks: Mapping[int, int]) -> Constant:
        return Constant(
            key=constant.key,
            section=ranks[id(constant.section)],
            offset=constant.item.offset,
            size=constant.item.data.nbytes,
            dtype=constant.dtype,
            shape=constant.shape,
            dim_order=constant.dim_order,
        )

    @staticmethod
    def _program(program: _Program, ranks: Mapping[int, int]) -> Program:
        return Program(
            section=ranks[id(program.section)],
            offset=program.item.offset,
            size=program.item.data.nbytes,
            method=program.method,
            unpacked=program.unpacked,
            target=program.target,
        )

    @staticmethod
    def _stage(stage: Stage, constants: Mapping[int, int], programs: Mapping[int, int]) -> Stage:
        """Return a stage with the numbers of the file instead of the builder's."""
        try:
            return Stage(
                name=stage.name,
                program=programs[stage.program],
                first=stage.first,
                last=stage.last,
                level=stage.level,
                bits=stage.bits,
                inputs=stage.inputs,
                outputs=stage.outputs,
                bindings=tuple((name, constants[old]) for name, old in stage.bindings),
                macs=stage.macs,
                arena_bytes=stage.arena_bytes,
            )
        except KeyError as error:
            raise BundleError(
                "a stage names a program or constant that is not there",
                stage=stage.name,
                actual=error.args[0],
            ) from None

    def write(self, path: str | os.PathLike[str]) -> Manifest:
        """Write the bundle; the file appears under its name complete or not at all.

        Args:
            path: Where to; an existing file is replaced.

        Returns:
            The manifest as it stands in the file.

        Raises:
            BundleError: See `build`.
            OSError: The file cannot be written.
        """
        manifest, encoded = self.build()
        sections = self._used_sections()
        last = manifest.sections[-1]
        prefix = prefix_bytes(encoded, 0, last.offset + last.size, manifest.format_version)
        with replacing(Path(path)) as file:
            file.write(prefix)
            file.write(encoded)
            end = PREFIX_BYTES + len(encoded)
            for entry, section in zip(manifest.sections, sections, strict=True):
                file.write(bytes(entry.offset - end))
                for chunk in section.chunks():
                    file.write(chunk)
                end = entry.offset + entry.size
        return manifest
