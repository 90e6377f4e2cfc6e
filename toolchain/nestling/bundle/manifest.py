"""The tables of a bundle's manifest, as SPEC.md describes them, and their CBOR encoding.

One dataclass a table; field names are the keys of the encoding. Numbers that point at another entry
are indexes into that table, counted from 0. Nothing here decides whether a manifest is valid: the C
reader (firmware/core) does, for every language. What is checked here is what the encoding itself
cannot carry, so that a mistake shows up where it is made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import cbor2

from nestling.errors import BundleError

FORMAT_VERSION = 2
"""The newest; a bundle is written in the oldest that can say what it says."""
TARGET_MARK = "@"
"""Stands between the name of a stage or section and its target, where that is not the bundle's."""

MAGIC = b"\x89NEST\r\n\x1a"
PREFIX_BYTES = 64
SIGNATURE_BYTES = 84
SECTION_ALIGNMENT_BYTES = 16384
ITEM_ALIGNMENT_BYTES = 64
NAME_LIMIT_BYTES = 127
DIMENSION_LIMIT = 16
MANIFEST_LIMIT_BYTES = 64 << 20

# Most entries of each table.
TABLE_LIMITS = {
    "sections": 256,
    "slots": 4096,
    "constants": 65535,
    "programs": 4096,
    "positions": 4096,
    "stages": 8192,
    "paths": 1024,
}

SectionKind = Literal["program", "blob", "data"]
SlotRole = Literal["input", "output", "state", "internal"]
DType = Literal["f32", "f16", "i64", "i32", "u8", "i8", "bool"]
Note = None | bool | int | float | str

DTYPE_BYTES: dict[DType, int] = {
    "f32": 4,
    "f16": 2,
    "i64": 8,
    "i32": 4,
    "u8": 1,
    "i8": 1,
    "bool": 1,
}


def check_name(name: str, where: str) -> str:
    """Return `name` if it may stand in a manifest.

    Args:
        name: 1 to 127 bytes of UTF-8 without control characters.
        where: What is being named, for the error.

    Raises:
        BundleError: It may not.
    """
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        raise BundleError("a name is not valid text", section=where, actual=repr(name)) from error
    if not 1 <= size <= NAME_LIMIT_BYTES:
        raise BundleError(
            "a name is empty or too long",
            section=where,
            expected=f"1..{NAME_LIMIT_BYTES} bytes",
            actual=size,
        )
    if any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in name):
        raise BundleError("a name has a control character", section=where, actual=repr(name))
    return name


def _count(value: int, where: str, bits: int = 64) -> int:
    """Return `value` as a plain int that fits an unsigned integer of `bits` bits."""
    number = int(value)
    if not 0 <= number < 1 << bits:
        raise BundleError("a number does not fit", section=where, expected=f"u{bits}", actual=value)
    return number


def _choice(value: str, kind: object, where: str) -> str:
    """Return `value` if the literal type `kind` has it."""
    allowed = get_args(kind)
    if value not in allowed:
        raise BundleError("unknown value", section=where, expected="|".join(allowed), actual=value)
    return value


def _figures(values: Mapping[str, float], where: str) -> dict[str, float]:
    """Return named measurements as plain floats, all finite."""
    figures = {check_name(name, where): float(value) for name, value in values.items()}
    for name, value in figures.items():
        if not math.isfinite(value):
            raise BundleError("a figure is not finite", section=where, actual=f"{name}={value}")
    return figures


def _note(value: Note, where: str) -> Note:
    """Return a note of `meta` as a plain scalar."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        if not -(1 << 63) <= value < 1 << 64:
            raise BundleError("a note does not fit 64 bits", section=where, actual=value)
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    raise BundleError("a note is not a plain finite value", section=where, actual=repr(value))


@dataclass(frozen=True)
class Section:
    """A run of bytes that can be fetched, checked, loaded and dropped alone.

    Args:
        name: Unique; "programs", "core", "level2", "level2.low", ...
        kind: "program" holds .pte files, "blob" constants, "data" anything.
        offset: From the start of the bundle, bytes; a multiple of 16384.
        size: Bytes.
        sha256: Of these bytes.
        level: Nesting level whose increment a blob holds.
    """

    name: str
    kind: SectionKind
    offset: int
    size: int
    sha256: bytes
    level: int | None = None

    def encoding(self) -> dict[str, object]:
        """Return the entry as CBOR's types."""
        where = f"section {self.name!r}"
        entry: dict[str, object] = {
            "name": check_name(self.name, where),
            "kind": _choice(self.kind, SectionKind, where),
            "offset": _count(self.offset, where),
            "size": _count(self.size, where),
            "sha256": bytes(self.sha256),
        }
        if self.level is not None:
            entry["level"] = _count(self.level, where, bits=32)
        return entry


@dataclass(frozen=True)
class Slot:
    """A tensor that stages read and write.

    Args:
        name: Unique.
        dtype: Element type.
        shape: Dimensions, each at least 1; () is a scalar.
        role: "input" is bound by the caller, "output" read by it, "state" survives runs,
            "internal" lives between two stages.
        append: Index of the state slot whose next rows an internal slot is.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    role: SlotRole
    append: int | None = None

    def encoding(self) -> dict[str, object]:
        """Return the entry as CBOR's types."""
        where = f"slot {self.name!r}"
        entry: dict[str, object] = {
            "name": check_name(self.name, where),
            "dtype": _choice(self.dtype, DType, where),
            "shape": [_count(dim, where, bits=32) for dim in self.shape],
            "role": _choice(self.role, SlotRole, where),
        }
        if self.append is not None:
            entry["append"] = _count(self.append, where, bits=32)
        return entry


@dataclass(frozen=True)
class Constant:
    """Weight bytes that programs ask for by name.

    Args:
        key: Unique; the name that programs ask for unless a stage's binding says otherwise.
        section: Index of a blob section.
        offset: In that section, bytes; a multiple of 64.
        size: Bytes.
        dtype: With `shape`, the layout that ExecuTorch asks for (constants that no delegate took).
        shape: Dimensions; their product times the dtype's size is `size`.
        dim_order: Permutation of the dimensions, outermost in memory first; contiguous by default.
    """

    key: str
    section: int
    offset: int
    size: int
    dtype: DType | None = None
    shape: tuple[int, ...] | None = None
    dim_order: tuple[int, ...] | None = None

    def encoding(self) -> dict[str, object]:
        """Return the entry as CBOR's types."""
        where = f"constant {self.key!r}"
        entry: dict[str, object] = {
            "key": check_name(self.key, where),
            "section": _count(self.section, where, bits=32),
            "offset": _count(self.offset, where),
            "size": _count(self.size, where),
        }
        if (self.dtype is None) != (self.shape is None):
            raise BundleError("a constant has a dtype or a shape, but not both", section=where)
        if self.dtype is not None and self.shape is not None:
            order = self.dim_order or tuple(range(len(self.shape)))
            entry["dtype"] = _choice(self.dtype, DType, where)
            entry["shape"] = [_count(dim, where, bits=32) for dim in self.shape]
            entry["dim_order"] = [_count(dim, where, bits=32) for dim in order]
        return entry


@dataclass(frozen=True)
class Program:
    """A whole .pte file whose weights lie outside of it.

    Args:
        section: Index of a program section.
        offset: In that section, bytes; a multiple of 64.
        size: Bytes as stored.
        method: Name of the method to load.
        unpacked: Bytes of the .pte inside the zlib stream that is stored; None: stored as it is.
        target: What it was lowered for, where that is not the bundle's target.
    """

    section: int
    offset: int
    size: int
    method: str
    unpacked: int | None = None
    target: str | None = None

    def encoding(self) -> dict[str, object]:
        """Return the entry as CBOR's types."""
        where = f"program {self.method!r}"
        entry: dict[str, object] = {
            "section": _count(self.section, where, bits=32),
            "offset": _count(self.offset, where),
            "size": _count(self.size, where),
            "method": check_name(self.method, where),
        }
        if self.unpacked is not None:
            entry["unpacked"] = _count(self.unpacked, where)
        if self.target is not None:
            entry["target"] = check_name(self.target, where)
        return entry


@dataclass(frozen=True)
class Position:
    """A place in the chain that stages fill: the stem, a block, the head.

    Args:
        name: Unique.
        layer: Number of the layer that depth drops as a whole.
        required: Whether every path must cover it; a part: every path that covers what it is
            part of.
        part: Whether it is part of the block that begins at the last position before it that is
            none: then a path covers it only where it covers that one.
    """

    name: str
    layer: int
    required: bool
    part: bool = False

    def encoding(self) -> dict[str, object]:
        """Return the entry as CBOR's types."""
        where = f"position {self.name!r}"
        return {
            "name": check_name(self.name, where),
            "layer": _count(self.layer, where, bits=32),
            "required": bool(self.required),
            **({"part": True} if self.part else {}),
        }


@dataclass(frozen=True)
class Stage:
    """A piece of the model that always runs whole: one method of one program.

    Args:
        name: Unique.
        program: Index of the program.
        first: First position covered.
        last: Last position covered, inclusive.
        level: Nesting level, 0 where the stage has none.
        bits: Bits a weight, 1..64.
        inputs: Slots, in the order of the method's arguments.
        outputs: Slots, in the order of the method's results.
        bindings: Pairs of the name that the program asks for and the index of a constant.
        macs: Multiply-accumulates of one call.
        arena_bytes: Planned activation memory.
    """

    name: str
    program: int
    first: int
    last: int
    level: int
    bits: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    bindings: tuple[tuple[str, int], ...] = ()
    macs: int = 0
    arena_bytes: int = 0

    def encoding(self, keys: Sequence[str]) -> dict[str, object]:
        """Return the entry as CBOR's types.

        Args:
            keys: Keys of all constants: a binding by the constant's own key is stored as its index
                alone.
        """
        where = f"stage {self.name!r}"
        bindings: list[object] = []
        for name, constant in sorted(self.bindings, key=lambda binding: binding[0].encode()):
            if not 0 <= constant < len(keys):
                raise BundleError(
                    "a stage binds a constant that is not there", stage=self.name, actual=constant
                )
            bindings.append(
                constant if name == keys[constant] else [check_name(name, where), constant]
            )
        return {
            "name": check_name(self.name, where),
            "program": _count(self.program, where, bits=32),
            "first": _count(self.first, where, bits=32),
            "last": _count(self.last, where, bits=32),
            "level": _count(self.level, where, bits=32),
            "bits": _count(self.bits, where, bits=32),
            "inputs": [_count(slot, where, bits=32) for slot in self.inputs],
            "outputs": [_count(slot, where, bits=32) for slot in self.outputs],
            "bindings": bindings,
            "macs": _count(self.macs, where),
            "arena_bytes": _count(self.arena_bytes, where),
        }


@dataclass(frozen=True)
class PathEntry:
    """A named path: a subnet that somebody measured.

    Args:
        name: Unique.
        chain: Stages, in order.
        fused: A stage that computes the whole path in one call.
        parameters: Of the subnet.
        macs: Multiply-accumulates of one run.
        weight_bytes: Bytes of all constants that the path uses, each once.
        quality: Metric name -> value.
        cost_us: Where it was measured -> microseconds a run.
    """

    name: str
    chain: tuple[int, ...]
    fused: int | None = None
    parameters: int = 0
    macs: int = 0
    weight_bytes: int = 0
    quality: Mapping[str, float] = field(default_factory=dict)
    cost_us: Mapping[str, float] | None = None

    def encoding(self) -> dict[str, object]:
        """Return the entry as CBOR's types."""
        where = f"path {self.name!r}"
        entry: dict[str, object] = {
            "name": check_name(self.name, where),
            "chain": [_count(stage, where, bits=32) for stage in self.chain],
            "parameters": _count(self.parameters, where),
            "macs": _count(self.macs, where),
            "weight_bytes": _count(self.weight_bytes, where),
            "quality": _figures(self.quality, where),
        }
        if self.fused is not None:
            entry["fused"] = _count(self.fused, where, bits=32)
        if self.cost_us is not None:
            entry["cost_us"] = _figures(self.cost_us, where)
        return entry


@dataclass(frozen=True)
class Manifest:
    """Everything that a bundle says about its bytes.

    Args:
        name: Of the model.
        producer: Program and version that wrote the bundle.
        target: Backend of the programs that name none of their own, such as "xnnpack".
        scheme: Number format of the weights, such as "fp32" or "int8-static".
        family: Model family, such as "vit" or "custom".
        sections: In the order of their bytes.
        slots: See `Slot`.
        constants: In the order of their bytes.
        programs: In the order of their bytes.
        positions: The chain, front to back.
        stages: See `Stage`.
        paths: Ascending by macs, then weight_bytes.
        meta: Free notes.
    """

    name: str
    producer: str
    target: str
    scheme: str
    family: str
    sections: tuple[Section, ...]
    slots: tuple[Slot, ...]
    constants: tuple[Constant, ...]
    programs: tuple[Program, ...]
    positions: tuple[Position, ...]
    stages: tuple[Stage, ...]
    paths: tuple[PathEntry, ...]
    meta: Mapping[str, Note] = field(default_factory=dict)

    @property
    def format_version(self) -> int:
        """The oldest version of the format that can say this."""
        newer = (
            any(program.target is not None for program in self.programs)
            or any(slot.append is not None for slot in self.slots)
            or any(position.part for position in self.positions)
        )
        return 2 if newer else 1

    def encoding(self) -> dict[str, object]:
        """Return the manifest as CBOR's types.

        Raises:
            BundleError: A name, a number or a table is over a limit of the format.
        """
        keys = [constant.key for constant in self.constants]
        tables: dict[str, list[dict[str, object]]] = {
            "sections": [entry.encoding() for entry in self.sections],
            "slots": [entry.encoding() for entry in self.slots],
            "constants": [entry.encoding() for entry in self.constants],
            "programs": [entry.encoding() for entry in self.programs],
            "positions": [entry.encoding() for entry in self.positions],
            "stages": [entry.encoding(keys) for entry in self.stages],
            "paths": [entry.encoding() for entry in self.paths],
        }
        for table, entries in tables.items():
            if len(entries) > TABLE_LIMITS[table]:
                raise BundleError(
                    "a table is too long",
                    section=table,
                    expected=f"at most {TABLE_LIMITS[table]}",
                    actual=len(entries),
                )
        head = {
            member: check_name(getattr(self, member), member)
            for member in ("name", "producer", "target", "scheme", "family")
        }
        notes = {
            check_name(name, "meta"): _note(value, "meta") for name, value in self.meta.items()
        }
        return {**head, **tables, "meta": notes}

    def to_cbor(self) -> bytes:
        """Return the canonical encoding: the one that the reader accepts.

        Raises:
            BundleError: See `encoding`; or the encoding is larger than 64 MiB.
        """
        data = bytes(cbor2.dumps(self.encoding(), canonical=True))
        if len(data) > MANIFEST_LIMIT_BYTES:
            raise BundleError(
                "the manifest is too large", expected=MANIFEST_LIMIT_BYTES, actual=len(data)
            )
        return data
