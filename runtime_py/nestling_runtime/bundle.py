"""Reads bundles: the tables of a `.nest` file as dataclasses, by the C reader that devices use.

    with Bundle.open("digits.nest") as bundle:
        for path in bundle.paths:
            print(path.name, path.parameters, path.quality)

Opening checks prefix, manifest and layout; `check_sections` checks the bytes of the sections as
well. Nothing is loaded, and no engine is needed.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from ctypes import byref, c_double, c_uint32
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

import numpy as np
import numpy.typing as npt

from nestling_runtime import abi, native
from nestling_runtime.closing import Closing
from nestling_runtime.errors import BundleError, EngineError, NestlingError, PathError

if TYPE_CHECKING:
    from ctypes import _Pointer

Note = None | bool | int | float | str
_Struct = TypeVar("_Struct", bound=ctypes.Structure)


@dataclass(frozen=True)
class Section:
    """A piece of the file: programs, or the weights that one nesting level adds, or free data."""

    name: str
    kind: str
    offset_bytes: int
    size_bytes: int
    sha256: bytes
    level: int | None


@dataclass(frozen=True)
class Slot:
    """A named tensor that stages read and write; `append`: the state slot whose next rows it is."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    role: str
    size_bytes: int
    append: int | None = None


@dataclass(frozen=True)
class Constant:
    """Weight bytes; dtype and shape only where the engine asks for a layout."""

    key: str
    section: int
    offset_bytes: int
    size_bytes: int
    dtype: str | None
    shape: tuple[int, ...] | None
    dim_order: tuple[int, ...] | None


@dataclass(frozen=True)
class Program:
    """A .pte without its weights; `unpacked_bytes` of it where it is stored as a zlib stream."""

    section: int
    offset_bytes: int
    size_bytes: int
    method: str
    target: str
    unpacked_bytes: int | None


@dataclass(frozen=True)
class Position:
    """A place in the chain that a stage can cover; a part goes with the block before it."""

    name: str
    layer: int
    required: bool
    part: bool


@dataclass(frozen=True)
class Stage:
    """A piece of the model that runs whole; numbers are indices into the other tables."""

    name: str
    program: int
    first: int
    last: int
    level: int
    bits: int
    macs: int
    arena_bytes: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    bindings: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class PathEntry:
    """A named sub-network: its chain of stages, what it costs and what it gives."""

    name: str
    chain: tuple[int, ...]
    fused: int | None
    parameters: int
    macs: int
    weight_bytes: int
    quality: Mapping[str, float]
    cost_us: Mapping[str, float]


def _indices(values: abi.List) -> tuple[int, ...]:
    index = c_uint32()
    found = []
    while native.library().nst_list_next_index(byref(values), byref(index)) == abi.OK:
        found.append(index.value)
    return tuple(found)


def _figures(values: abi.List) -> dict[str, float]:
    name, value = abi.Text(), c_double()
    found = {}
    while native.library().nst_list_next_figure(byref(values), byref(name), byref(value)) == abi.OK:
        found[str(name)] = value.value
    return found


def _notes(values: abi.List) -> dict[str, Note]:
    note = abi.Note()
    found: dict[str, Note] = {}
    while native.library().nst_list_next_note(byref(values), byref(note)) == abi.OK:
        meanings: tuple[Note, ...] = (
            None,
            bool(note.boolean),
            int(note.uint_value),
            int(note.int_value),
            float(note.float_value),
            str(note.text),
        )
        found[str(note.name)] = meanings[note.type]
    return found


class Tables:
    """The tables of an opened bundle; each is read when first asked for, then kept.

    Args:
        handle: The reader; valid until `detach`.
    """

    def __init__(self, handle: _Pointer[abi.Bundle]) -> None:
        self._handle: _Pointer[abi.Bundle] | None = handle

    def _entries(self, table: int, getter: str, struct: type[_Struct]) -> Iterator[_Struct]:
        for index in range(self.handle.contents.count[table]):
            info = struct()
            code = getattr(native.library(), getter)(self.handle, index, byref(info))
            if code != abi.OK:
                raise BundleError("the bundle changed after it was opened", section=getter)
            yield info

    @property
    def handle(self) -> _Pointer[abi.Bundle]:
        """The `nst_bundle *`, for other ctypes code; valid until the owner is closed.

        Raises:
            EngineError: The model is closed.
            BundleError: The bundle is closed.
        """
        if self._handle is None:
            raise self._gone()
        return self._handle

    def detach(self) -> None:
        """Hear from the owner that the reader ends. Tables that were read stay usable."""
        self._handle = None

    def _gone(self) -> NestlingError:
        return EngineError("the model is closed")

    @property
    def name(self) -> str:
        """Name of the model."""
        return str(self.handle.contents.info.name)

    @property
    def producer(self) -> str:
        """Program and version that wrote the bundle."""
        return str(self.handle.contents.info.producer)

    @property
    def target(self) -> str:
        """Backend that programs are for unless they name another one."""
        return str(self.handle.contents.info.target)

    @cached_property
    def targets(self) -> tuple[str, ...]:
        """All targets that the bundle has programs for, its own first."""
        found, name = [], abi.Text()
        for index in range(native.library().nst_bundle_target_count(self.handle)):
            native.library().nst_bundle_target(self.handle, index, byref(name))
            found.append(str(name))
        return tuple(found)

    @property
    def scheme(self) -> str:
        """Number format of the weights."""
        return str(self.handle.contents.info.scheme)

    @property
    def family(self) -> str:
        """Model family."""
        return str(self.handle.contents.info.family)

    @property
    def format_version(self) -> int:
        """Version of the file format."""
        return int(self.handle.contents.prefix.format_version)

    @property
    def size_bytes(self) -> int:
        """Length of the whole bundle."""
        return int(self.handle.contents.prefix.total_bytes)

    @property
    def manifest_bytes(self) -> int:
        """Length of the manifest."""
        return int(self.handle.contents.prefix.manifest_bytes)

    @property
    def is_signed(self) -> bool:
        """Whether the bundle carries a signature; `check_signature` says whose."""
        return bool(self.handle.contents.prefix.signature_bytes)

    @cached_property
    def meta(self) -> Mapping[str, Note]:
        """Free notes of the producer."""
        return _notes(abi.List.from_buffer_copy(self.handle.contents.info.meta))

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        """Sections in the order of the file."""
        return tuple(
            Section(
                name=str(info.name),
                kind=abi.SECTION_KINDS[info.kind],
                offset_bytes=info.offset,
                size_bytes=info.size,
                sha256=bytes(info.sha256[:32]),
                level=info.level if info.has_level else None,
            )
            for info in self._entries(0, "nst_bundle_section", abi.SectionInfo)
        )

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """Named tensors."""
        return tuple(
            Slot(
                name=str(info.name),
                dtype=abi.DTYPES[info.dtype],
                shape=tuple(info.shape[: info.rank]),
                role=abi.ROLES[info.role],
                size_bytes=info.bytes,
                append=None if info.append == abi.NONE else info.append,
            )
            for info in self._entries(1, "nst_bundle_slot", abi.SlotInfo)
        )

    @cached_property
    def constants(self) -> tuple[Constant, ...]:
        """Weights."""
        return tuple(
            Constant(
                key=str(info.key),
                section=info.section,
                offset_bytes=info.offset,
                size_bytes=info.size,
                dtype=abi.DTYPES[info.dtype] if info.has_layout else None,
                shape=tuple(info.shape[: info.rank]) if info.has_layout else None,
                dim_order=tuple(info.dim_order[: info.rank]) if info.has_layout else None,
            )
            for info in self._entries(2, "nst_bundle_constant", abi.ConstantInfo)
        )

    @cached_property
    def programs(self) -> tuple[Program, ...]:
        """ExecuTorch programs."""
        return tuple(
            Program(
                section=info.section,
                offset_bytes=info.offset,
                size_bytes=info.size,
                method=str(info.method),
                target=str(info.target) or self.target,
                unpacked_bytes=info.unpacked_bytes or None,
            )
            for info in self._entries(3, "nst_bundle_program", abi.ProgramInfo)
        )

    @cached_property
    def positions(self) -> tuple[Position, ...]:
        """Places of the chain."""
        return tuple(
            Position(str(info.name), info.layer, info.required, info.part)
            for info in self._entries(4, "nst_bundle_position", abi.PositionInfo)
        )

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """Stages."""
        return tuple(
            Stage(
                name=str(info.name),
                program=info.program,
                first=info.first,
                last=info.last,
                level=info.level,
                bits=info.bits,
                macs=info.macs,
                arena_bytes=info.arena_bytes,
                inputs=_indices(info.inputs),
                outputs=_indices(info.outputs),
                bindings=self._bindings(info.bindings),
            )
            for info in self._entries(5, "nst_bundle_stage", abi.StageInfo)
        )

    @cached_property
    def paths(self) -> tuple[PathEntry, ...]:
        """Named paths, small to large."""
        return tuple(
            PathEntry(
                name=str(info.name),
                chain=_indices(info.chain),
                fused=None if info.fused == abi.NONE else info.fused,
                parameters=info.parameters,
                macs=info.macs,
                weight_bytes=info.weight_bytes,
                quality=_figures(info.quality),
                cost_us=_figures(info.cost_us),
            )
            for info in self._entries(6, "nst_bundle_path", abi.PathInfo)
        )

    def _bindings(self, values: abi.List) -> tuple[tuple[str, int], ...]:
        name, constant = abi.Text(), c_uint32()
        found = []
        while (
            native.library().nst_list_next_binding(
                self.handle, byref(values), byref(name), byref(constant)
            )
            == abi.OK
        ):
            found.append((str(name), constant.value))
        return tuple(found)

    def path_index(self, path: str | int) -> int:
        """Return the index of a named path; indices are checked and returned.

        Raises:
            PathError: There is no such path.
        """
        return _index_of("path", path, [entry.name for entry in self.paths])

    def stage_index(self, stage: str | int) -> int:
        """Return the index of a stage; indices are checked and returned.

        Raises:
            PathError: There is no such stage.
        """
        return _index_of("stage", stage, [entry.name for entry in self.stages])

    def stage_target(self, stage: str | int) -> str:
        """Return what a stage was lowered for.

        Raises:
            PathError: There is no such stage.
        """
        return self.programs[self.stages[self.stage_index(stage)].program].target

    def stand_in(self, stage: str | int, target: str) -> int | None:
        """Return the stage that does on `target` what this one does; None where there is none.

        Raises:
            PathError: There is no such stage.
        """
        index, wanted = self.stage_index(stage), target.encode()
        found = native.library().nst_bundle_stand_in(self.handle, index, wanted, len(wanted))
        return None if found == abi.NONE else int(found)

    def check_path(self, stages: Sequence[str | int]) -> tuple[int, ...]:
        """Check that a list of stages is a legal path; return its indices.

        Raises:
            PathError: It is not; the message says which rule it breaks.
        """
        indices = tuple(self.stage_index(stage) for stage in stages)
        array = (c_uint32 * max(1, len(indices)))(*indices)
        native.call("nst_path_check", self.handle, array, len(indices), None)
        return indices

    def check_sections(self) -> None:
        """Read every section and compare it with its hash.

        Raises:
            BundleError: A section is damaged; names it.
        """
        hash_ops = native.library().nst_platform_hash()
        for index in range(self.handle.contents.count[0]):
            native.call("nst_bundle_check_section", self.handle, index, hash_ops)

    def check_signature(self, public_key: bytes) -> None:
        """Check that the bundle was signed with an Ed25519 key.

        Args:
            public_key: 32 bytes.

        Raises:
            SignatureError: It was not.
            ValueError: The key has another length.
        """
        if len(public_key) != 32:
            raise ValueError(f"an Ed25519 key has 32 bytes, not {len(public_key)}")
        native.call("nst_bundle_check_signature", self.handle, public_key)


def _index_of(kind: str, wanted: str | int, names: list[str]) -> int:
    if isinstance(wanted, int):
        if 0 <= wanted < len(names):
            return wanted
        raise PathError(f"the bundle has no {kind} {wanted}", expected=f"below {len(names)}")
    if wanted in names:
        return names.index(wanted)
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    raise PathError(f"the bundle has no {kind} {wanted!r}", hint=f"it has {shown}")


class Bundle(Tables, Closing):
    """An opened bundle that is only read. A context manager; use `Bundle.open`."""

    def __init__(self, data: npt.NDArray[np.uint8], mapped: mmap.mmap | None) -> None:
        self._data: npt.NDArray[np.uint8] | None = data
        self._mapped = mapped
        self._native = abi.Bundle()
        prefix = abi.Prefix()
        address, size = data.ctypes.data, data.nbytes
        native.call("nst_bundle_prefix", address, size, byref(prefix))
        index_bytes = native.library().nst_bundle_index_bytes(byref(prefix))
        self._index = (ctypes.c_uint32 * (index_bytes // 4 + 1))()
        native.call(
            "nst_bundle_open",
            byref(self._native),
            address,
            size,
            self._index,
            index_bytes,
            native.library().nst_platform_hash(),
        )
        super().__init__(ctypes.pointer(self._native))

    @classmethod
    def open(cls, source: str | os.PathLike[str] | bytes) -> Self:
        """Open a bundle from a file (mapped) or from bytes (not copied).

        Raises:
            BundleError: The file cannot be read, or is not a whole, legal bundle.
        """
        if isinstance(source, bytes):
            if not source:
                raise BundleError("the bundle is empty")
            return cls(np.frombuffer(source, dtype=np.uint8), None)
        try:
            with Path(source).open("rb") as file:
                if os.fstat(file.fileno()).st_size == 0:
                    raise BundleError("the bundle is empty", actual=str(source))
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise BundleError(
                f"cannot open {os.fspath(source)}", actual=error.strerror or str(error)
            ) from error
        return cls(np.frombuffer(mapped, dtype=np.uint8), mapped)

    def item_bytes(self, item: Constant | Program) -> memoryview:
        """Return a constant or a program as it is stored; valid until the bundle is closed.

        The bytes are those of the file: `check_sections` tells whether they are what was written.

        Raises:
            BundleError: The bundle is closed.
        """
        if self._data is None:
            raise self._gone()
        start = self.sections[item.section].offset_bytes + item.offset_bytes
        return self._data.data[start : start + item.size_bytes]

    def section_bytes(self, section: Section) -> memoryview:
        """Return a section as it is stored; as `item_bytes`.

        Raises:
            BundleError: The bundle is closed.
        """
        if self._data is None:
            raise self._gone()
        start = section.offset_bytes
        return self._data.data[start : start + section.size_bytes]

    def close(self) -> None:
        """Let the file go. Tables that were read stay usable; may be called twice."""
        self.detach()
        self._data = None
        if self._mapped is not None:
            self._mapped.close()
            self._mapped = None

    def _gone(self) -> NestlingError:
        return BundleError("the bundle is closed")
