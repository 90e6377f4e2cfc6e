"""Which lists of stages are paths: the C core against an independent judge in Python."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from bundle.samples import tiny, written
from core.server import NONE, Reader
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nestling.bundle import BundleBuilder

LEGAL, EMPTY, NO_STAGE, OVERLAP, UNCOVERED, UNWRITTEN, NO_OUTPUT = range(7)
PART = 8


@dataclass(frozen=True)
class Piece:
    """A stage, as far as legality goes."""

    first: int
    last: int
    inputs: frozenset[int]
    outputs: frozenset[int]


@dataclass(frozen=True)
class World:
    """Positions, slots and stages."""

    required: tuple[bool, ...]
    parts: tuple[bool, ...]
    roles: tuple[str, ...]
    pieces: tuple[Piece, ...]

    def is_legal(self, chain: list[int]) -> bool:
        """The five rules, each on its own and over the whole list."""
        if not chain or any(stage >= len(self.pieces) for stage in chain):
            return False
        pieces = [self.pieces[stage] for stage in chain]
        ascending = all(a.last < b.first for a, b in itertools.pairwise(pieces))
        covered = {p for piece in pieces for p in range(piece.first, piece.last + 1)}
        begun = {p: self.begins(p) in covered for p in range(len(self.required))}
        complete = all(
            p in covered or (self.parts[p] and not begun[p])
            for p, required in enumerate(self.required)
            if required
        )
        whole = all(begun[p] for p in covered if self.parts[p])
        given = {slot for slot, role in enumerate(self.roles) if role in ("input", "state")}
        fed = all(
            piece.inputs <= given.union(*(before.outputs for before in pieces[:at]))
            for at, piece in enumerate(pieces)
        )
        answers = any(self.roles[slot] == "output" for piece in pieces for slot in piece.outputs)
        return ascending and complete and whole and fed and answers

    def begins(self, position: int) -> int | None:
        """The position that the block of this one begins at."""
        return next((p for p in range(position, -1, -1) if not self.parts[p]), None)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    positions = draw(st.integers(1, 4))
    roles = [
        "input",
        "output",
        *draw(st.lists(st.sampled_from(["internal", "state", "output"]), max_size=4)),
    ]
    slots = st.integers(0, len(roles) - 1)
    writable = [slot for slot, role in enumerate(roles) if role != "input"]
    pieces = [Piece(0, positions - 1, frozenset({0}), frozenset({1}))]  # something is always legal
    for _ in range(draw(st.integers(1, 6))):
        first = draw(st.integers(0, positions - 1))
        last = draw(st.integers(first, positions - 1))
        inputs = draw(st.frozensets(slots, max_size=2))
        outputs = draw(st.frozensets(st.sampled_from(writable), min_size=1, max_size=2))
        pieces.append(Piece(first, last, inputs, outputs))
    required = draw(st.lists(st.booleans(), min_size=positions, max_size=positions))
    parts = draw(st.lists(st.booleans(), min_size=positions, max_size=positions))
    parts[0] = False  # something is always legal
    return World(tuple(required), tuple(parts), tuple(roles), tuple(pieces))


def bundle_of(world: World) -> bytes:
    builder = BundleBuilder(name="world")
    program = builder.add_program(b"pte")
    for number, role in enumerate(world.roles):
        builder.add_slot(f"slot{number}", "f32", (1,), role)  # type: ignore[arg-type]
    for number, required in enumerate(world.required):
        builder.add_position(f"position{number}", number, required, world.parts[number])
    for number, piece in enumerate(world.pieces):
        builder.add_stage(
            f"stage{number}",
            program=program,
            first=piece.first,
            last=piece.last,
            inputs=sorted(piece.inputs),
            outputs=sorted(piece.outputs),
        )
    builder.add_path("whole", [0])
    return written(builder)[0]


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), world=worlds())
def test_both_judges_agree(reader: Reader, data: st.DataObject, world: World) -> None:
    assert "error" not in reader.open(bundle_of(world))
    chains = data.draw(
        st.lists(st.lists(st.integers(0, len(world.pieces)), max_size=5), min_size=1, max_size=12)
    )
    for chain in [*chains, [0], list(range(len(world.pieces)))]:
        answer = reader.path(chain)
        assert (answer["fault"] == LEGAL) == world.is_legal(chain), (chain, answer)
        assert (answer["error"]["code"] == "NST_OK") == (answer["fault"] == LEGAL)


def judged(reader: Reader, chain: list[int]) -> tuple[int, str, str]:
    answer = reader.path(chain)
    return answer["fault"], answer["error"]["stage"], answer["error"]["message"]


def test_the_reason_is_told(reader: Reader) -> None:
    reader.open(written(tiny())[0])
    stem, block, head, fused = range(4)
    assert judged(reader, [stem, head])[0] == LEGAL
    assert judged(reader, [stem, block, head])[0] == LEGAL
    assert judged(reader, [fused])[0] == LEGAL
    assert judged(reader, []) == (EMPTY, "", "the path has no stage")
    assert judged(reader, [stem, 9, head]) == (NO_STAGE, "", "the bundle has no stage 9")
    assert judged(reader, [stem, stem, head]) == (
        OVERLAP,
        "stem",
        "the stage starts at position 'stem', which the path has already passed",
    )
    assert judged(reader, [block, head]) == (
        UNCOVERED,
        "block@2",
        "the path skips position 'stem', which it needs",
    )
    assert judged(reader, [stem, block]) == (
        UNCOVERED,
        "head",
        "the path skips position 'head', which it needs",
    )
    assert judged(reader, [stem] * 5000)[0] == OVERLAP


def test_the_report_points_at_the_fault(reader: Reader) -> None:
    builder = BundleBuilder(name="gap")
    program = builder.add_program(b"pte")
    image = builder.add_slot("image", "f32", (1,), "input")
    gate = builder.add_slot("gate", "f32", (1,))
    logits = builder.add_slot("logits", "f32", (1,), "output")
    builder.add_position("stem", 0, required=False)
    builder.add_position("head", 1, required=True)
    stem = builder.add_stage("stem", program=program, first=0, inputs=[image], outputs=[gate])
    head = builder.add_stage("head", program=program, first=1, inputs=[gate], outputs=[logits])
    idle = builder.add_stage("idle", program=program, first=1, inputs=[image], outputs=[gate])
    builder.add_path("all", [stem, head])
    reader.open(written(builder)[0])
    answer = reader.path([head])
    assert (answer["fault"], answer["at"], answer["stage"]) == (UNWRITTEN, 0, head)
    assert (answer["slot"], answer["position"]) == (gate, NONE)
    assert answer["error"]["message"] == "the stage reads 'gate', which no stage before it writes"
    assert reader.path([stem, idle])["fault"] == NO_OUTPUT


def test_parts_go_with_their_block(reader: Reader) -> None:
    builder = BundleBuilder(name="blocks")
    program = builder.add_program(b"pte")
    image = builder.add_slot("image", "f32", (1,), "input")
    stream = builder.add_slot("stream", "f32", (1,))
    logits = builder.add_slot("logits", "f32", (1,), "output")
    for name, required, part in (
        ("stem", True, False),
        ("block.b1", False, False),
        ("block.b2", False, True),
        ("block.close", True, True),
        ("head", True, False),
    ):
        builder.add_position(name, 0, required, part)

    def add(name: str, at: int, reads: int, writes: int) -> int:
        return builder.add_stage(name, program=program, first=at, inputs=[reads], outputs=[writes])

    stem = add("stem", 0, image, stream)
    first, second, close = (
        add(name, at, stream, stream) for at, name in enumerate(("b1", "b2", "close"), 1)
    )
    head = add("head", 4, stream, logits)
    builder.add_path("all", [stem, first, second, close, head])
    data, _ = written(builder)
    reader.open(data)
    for legal in ([first, second, close], [first, close], []):
        assert judged(reader, [stem, *legal, head])[0] == LEGAL
    assert judged(reader, [stem, second, head]) == (
        PART,
        "b2",
        "the stage covers position 'block.b2', part of a block that the path leaves out",
    )
    assert judged(reader, [stem, close, head])[0] == PART
    assert judged(reader, [stem, first, second, head]) == (
        UNCOVERED,
        "head",
        "the path skips position 'block.close', which it needs",
    )
