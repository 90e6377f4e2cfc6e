"""Bundles for the tests: one small one written out, and any number of random ones."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cbor2
from hypothesis import strategies as st

from nestling.bundle import BundleBuilder, Manifest
from nestling.bundle.layout import first_section_offset, prefix_bytes
from nestling.bundle.manifest import DTYPE_BYTES

# (manifest as CBOR's types) -> None, edited in place
Edit = Callable[[dict[str, Any]], None]


def tiny() -> BundleBuilder:
    """A stem, a block that may be skipped, a head; two paths, one of them fused too."""
    builder = BundleBuilder(
        name="tiny", producer="nestling", meta={"metric": "top1", "classes": 2, "note": None}
    )
    image = builder.add_slot("image", "f32", (1, 4), "input")
    x = builder.add_slot("x", "f32", (1, 4))
    logits = builder.add_slot("logits", "f32", (1, 2), "output")
    builder.add_section("programs", "program")
    core = builder.add_constant("core", "w.core", bytes(range(70)), level=1)
    shared = builder.add_constant("core", "w.shared", b"\x05" * 16, "f32", (2, 2), level=1)
    more = builder.add_constant("level2", "w.more", b"\x07" * 40, level=2)
    stem_pte, block_pte, head_pte, fused_pte = (
        builder.add_program(name.encode() * 8) for name in ("stem", "block", "head", "fused")
    )
    for layer, (name, required) in enumerate((("stem", True), ("block", False), ("head", True))):
        builder.add_position(name, layer, required)
    stem = builder.add_stage(
        "stem", program=stem_pte, first=0, inputs=[image], outputs=[x], macs=10
    )
    block = builder.add_stage(
        "block@2",
        program=block_pte,
        first=1,
        inputs=[x],
        outputs=[x],
        bindings=[("w.core", core), ("w.more", more)],
        level=2,
        macs=20,
        arena_bytes=256,
    )
    head = builder.add_stage(
        "head", program=head_pte, first=2, inputs=[x], outputs=[logits], bindings=[("w", shared)]
    )
    fused = builder.add_stage(
        "full",
        program=fused_pte,
        first=0,
        last=2,
        inputs=[image],
        outputs=[logits],
        bindings=[("w.core", core), ("w.more", more), ("w.shared", shared)],
    )
    builder.add_path(
        "full",
        [stem, block, head],
        fused=fused,
        parameters=32,
        macs=30,
        weight_bytes=126,
        quality={"top1": 0.9},
        cost_us={"bench": 12.5},
    )
    builder.add_path(
        "small", [stem, head], parameters=4, macs=10, weight_bytes=16, quality={"top1": 0.5}
    )
    return builder


def written(builder: BundleBuilder) -> tuple[bytes, Manifest]:
    """The file that the builder writes, and what it says about it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.nest"
        manifest = builder.write(path)
        return path.read_bytes(), manifest


def manifest_end(data: bytes) -> int:
    """Where the manifest of a bundle ends."""
    return 64 + int.from_bytes(data[16:24], "little")


def with_manifest(data: bytes, encoded: bytes) -> bytes:
    """The bundle with another manifest and a prefix that fits it; section bytes are left alone."""
    sections = data[first_section_offset(manifest_end(data) - 64) :]
    start = first_section_offset(len(encoded))
    version = int.from_bytes(data[8:12], "little")
    head = prefix_bytes(encoded, 0, start + len(sections), version) + encoded
    return head + bytes(start - len(head)) + sections


def edited(data: bytes, edit: Edit) -> bytes:
    """The bundle with its manifest decoded, edited and encoded again."""
    manifest = cbor2.loads(data[64 : manifest_end(data)])
    edit(manifest)
    return with_manifest(data, cbor2.dumps(manifest, canonical=True))


def with_section(data: bytes, number: int, content: bytes) -> bytes:
    """The bundle with other bytes of the same size in a section, and its hash set right."""
    manifest = cbor2.loads(data[64 : manifest_end(data)])
    entry = manifest["sections"][number]
    assert len(content) == entry["size"]
    start, end = entry["offset"], entry["offset"] + entry["size"]
    data = data[:start] + content + data[end:]

    def edit(manifest: dict[str, Any]) -> None:
        manifest["sections"][number]["sha256"] = hashlib.sha256(content).digest()

    return edited(data, edit)


def two_targets() -> BundleBuilder:
    """The tiny bundle with a second target: stages that stand in for the block and for the head."""
    builder = tiny()

    def program(pte: bytes) -> int:
        return builder.add_program(pte, section="programs@acme", target="acme")

    builder.add_stage(
        "block@2@acme",
        program=program(b"block for acme" * 3),
        first=1,
        inputs=[1],
        outputs=[1],
        bindings=[("w", builder.add_constant("core@acme", "w.acme", b"\x09" * 24))],
        level=2,
        macs=20,
        arena_bytes=64,
    )
    builder.add_stage(
        "head@acme", program=program(b"head for acme" * 3), first=2, inputs=[1], outputs=[2]
    )
    return builder


# ---- random bundles ----

NAME_CHARACTERS = st.characters(
    codec="utf-8", categories=("L", "M", "N", "P", "S", "Zs"), include_characters="/.@_-"
)
names = st.text(NAME_CHARACTERS, min_size=1, max_size=24).filter(
    lambda name: len(name.encode()) <= 127
)
u64 = st.integers(0, 2**64 - 1) | st.integers(0, 300)
u32 = st.integers(0, 2**32 - 1) | st.integers(0, 300)
finite = st.floats(allow_nan=False, allow_infinity=False)
notes = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | finite | st.text(max_size=40)


@st.composite
def builders(draw: st.DrawFn) -> BundleBuilder:
    """Any small bundle that the format allows: a chain of positions with a stage or two each."""
    builder = BundleBuilder(
        name=draw(names),
        producer=draw(names),
        target=draw(names),
        scheme=draw(names),
        family=draw(names),
        meta=draw(st.dictionaries(names, notes, max_size=4)),
    )
    for number in range(draw(st.integers(0, 3))):
        builder.add_section(f"blob{number}", "blob", draw(st.none() | u32))
    constants: dict[str, int] = {}
    for key in draw(st.lists(names, unique=True, max_size=6)):
        shape = tuple(draw(st.lists(st.integers(1, 4), max_size=4)))
        dtype = draw(st.sampled_from(sorted(DTYPE_BYTES)))
        size = DTYPE_BYTES[dtype]
        for dim in shape:
            size *= dim
        layout: dict[str, Any] = {}
        if draw(st.booleans()):
            order = draw(st.permutations(range(len(shape))))
            layout = {"dtype": dtype, "shape": shape, "dim_order": order}
        # Few distinct contents, so that some are shared.
        data = bytes([draw(st.integers(0, 2))]) * size
        section = f"blob{draw(st.integers(0, 3))}"
        constants[key] = builder.add_constant(section, key, data, **layout)

    steps = draw(st.integers(1, 5))
    image = builder.add_slot("image", "f32", (1, 4), "input")
    x = builder.add_slot("x", "i8", (1,))
    memory = builder.add_slot("memory", "f16", (), "state")
    logits = builder.add_slot(
        "logits", "f32", tuple(draw(st.lists(st.integers(1, 9), max_size=16))), "output"
    )
    chains: list[list[int]] = [[]]
    for step in range(steps):
        required = step in (0, steps - 1) or draw(st.booleans())
        builder.add_position(f"p{step}", draw(u32), required)
        first_step, last_step = step == 0, step == steps - 1
        choices = []
        for option in range(draw(st.integers(1, 2))):
            asked = (
                draw(st.lists(st.sampled_from(sorted(constants)), unique=True)) if constants else []
            )
            renamed = draw(st.lists(names, unique=True, min_size=len(asked), max_size=len(asked)))
            own = draw(st.booleans())
            bindings = [
                (key if own else new, constants[key])
                for key, new in zip(asked, renamed, strict=True)
            ]
            outputs = [logits, memory] if last_step else [x]
            choices.append(
                builder.add_stage(
                    f"s{step}.{option}",
                    program=builder.add_program(
                        bytes([step, option % 2]) * draw(st.integers(1, 99)),
                        packed=draw(st.booleans()),
                    ),
                    first=step,
                    inputs=[image] if first_step else [x, memory],
                    outputs=outputs,
                    bindings=bindings,
                    level=draw(u32),
                    bits=draw(st.integers(1, 64)),
                    macs=draw(u64),
                    arena_bytes=draw(u64),
                )
            )
        kept = [[*chain, stage] for chain in chains for stage in choices]
        chains = (kept if required else chains + kept)[:16]
    for number, chain in enumerate(draw(st.lists(st.sampled_from(chains), min_size=1, max_size=4))):
        builder.add_path(
            f"path{number}",
            chain,
            parameters=draw(u64),
            macs=draw(u64),
            weight_bytes=draw(u64),
            quality=draw(st.dictionaries(names, finite, max_size=3)),
            cost_us=draw(
                st.none() | st.dictionaries(names, st.floats(0, allow_infinity=False), max_size=3)
            ),
        )
    others = names.filter(lambda name: name != builder.target)
    for target in draw(st.lists(others, unique=True, max_size=3)):
        for step in draw(st.lists(st.integers(0, steps - 1), unique=True)):
            builder.add_stage(
                f"extra{step}@{target}",
                program=builder.add_program(
                    target.encode() + bytes([step]), section="others", target=target
                ),
                first=step,
                inputs=[image] if step == 0 else [x, memory],
                outputs=[logits, memory] if step == steps - 1 else [x],
                macs=draw(u64),
            )
    if draw(st.booleans()):
        builder.add_data("labels", draw(st.binary(min_size=1, max_size=99)))
    return builder
