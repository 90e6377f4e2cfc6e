"""The space of subnets against its definition."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestling.elastic import BlockSpec, Subnet, SubnetSpace, make_space
from nestling.errors import ModelError, PathError


@st.composite
def chains(draw: st.DrawFn) -> list[BlockSpec]:
    blocks = []
    for layer in range(draw(st.integers(1, 14))):
        skippable = draw(st.booleans())
        for part in range(draw(st.integers(1, 2))):
            widths = draw(st.lists(st.integers(1, 64), min_size=1, max_size=5, unique=True))
            blocks.append(BlockSpec(f"{layer}.{part}", layer, tuple(sorted(widths)), skippable))
    return blocks


@st.composite
def spaces(draw: st.DrawFn) -> SubnetSpace:
    blocks = draw(chains())
    fractions = st.floats(0.5, 1.0).map(lambda value: round(value, 3))
    return make_space(blocks, draw(st.none() | st.lists(fractions, max_size=4)))


@given(spaces())
def test_depths_nest_and_keep_what_must_stay(space: SubnetSpace) -> None:
    layers = sorted({block.layer for block in space.blocks})
    assert space.depths[-1] == tuple(layers)
    for small, large in itertools.pairwise(space.depths):
        assert set(small) < set(large)
    must = {layers[0], layers[-1]} | {b.layer for b in space.blocks if not b.skippable}
    assert all(must <= set(kept) for kept in space.depths)


@given(spaces(), st.integers(0, 2**32))
def test_every_sample_is_legal_and_of_a_depth(space: SubnetSpace, seed: int) -> None:
    subnet = space.sample(random.Random(seed))
    space.check(subnet)
    kept = {b.layer for b, level in zip(space.blocks, subnet.levels, strict=True) if level}
    assert tuple(sorted(kept)) in space.depths
    assert subnet == space.sample(random.Random(seed))


@given(spaces())
def test_uniform_subnets(space: SubnetSpace) -> None:
    subnets = list(space.enumerate_uniform())
    assert len(set(subnets)) == len(subnets)
    assert subnets[0] == space.smallest()
    assert subnets[-1] == space.full()
    for depth, level in itertools.product(range(len(space.depths)), range(1, space.levels + 1)):
        subnet = space.uniform(level, depth)
        assert subnet in subnets
        for block, chosen in zip(space.blocks, subnet.levels, strict=True):
            kept = block.layer in space.depths[depth]
            assert chosen == (min(level, len(block.widths)) if kept else 0)


@given(spaces())
def test_named_subnets_grow(space: SubnetSpace) -> None:
    named = list(space.named.values())
    assert list(space.named)[-1] == "full"
    assert named[-1] == space.full()
    for small, large in itertools.pairwise(named):
        assert all(a <= b for a, b in zip(small.levels, large.levels, strict=True))


def test_count_is_the_number_of_different_samples() -> None:
    blocks = [BlockSpec(f"b{i}", i, (1, 2), skippable=True) for i in range(4)]
    space = make_space(blocks)
    rng = random.Random(0)
    seen = {space.sample(rng) for _ in range(5000)}
    assert len(seen) == space.count() == 2**2 + 2**3 + 2**4


def test_default_depths_of_twelve_layers_spread_what_they_skip() -> None:
    blocks = [BlockSpec(f"b{i}", i, (1, 2, 3, 4), skippable=True) for i in range(12)]
    space = make_space(blocks)
    assert [len(kept) for kept in space.depths] == [6, 9, 12]
    skipped = sorted(set(range(12)) - set(space.depths[1]))
    assert all(b - a >= 2 for a, b in itertools.pairwise(skipped))
    assert list(space.named) == ["tiny", "small", "base", "full"]
    assert space.named["small"] == space.uniform(2, 1)


def test_depths_as_counts_and_as_fractions() -> None:
    blocks = [BlockSpec(f"b{i}", i, (1,), skippable=True) for i in range(8)]
    assert [len(kept) for kept in make_space(blocks, [4, 0.75]).depths] == [4, 6, 8]


@pytest.mark.parametrize("depth", [0, 9, -1, 0.0, 1.5, math.inf])
def test_impossible_depths(depth: float) -> None:
    blocks = [BlockSpec(f"b{i}", i, (1,), skippable=True) for i in range(8)]
    with pytest.raises(ModelError, match="depth"):
        make_space(blocks, [depth])


@pytest.mark.parametrize(
    ("levels", "word"),
    [((1,), "wrong number"), ((3, 1), "no such level"), ((-1, 1), "no such"), ((1, 0), "left out")],
)
def test_illegal_subnets_name_the_block(levels: tuple[int, ...], word: str) -> None:
    blocks = [BlockSpec("a", 0, (1, 2), skippable=True), BlockSpec("b", 1, (4,), skippable=False)]
    space = make_space(blocks)
    with pytest.raises(PathError, match=word):
        space.check(Subnet(levels))


@pytest.mark.parametrize(("level", "depth"), [(0, 0), (3, 0), (1, 5), (1, -5)])
def test_uniform_out_of_range(level: int, depth: int) -> None:
    space = make_space([BlockSpec("a", 0, (1, 2), skippable=True)])
    with pytest.raises(PathError):
        space.uniform(level, depth)


@pytest.mark.parametrize("widths", [(), (0, 1), (2, 1), (1, 1)])
def test_widths_must_rise(widths: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="widths"):
        make_space([BlockSpec("a", 0, widths, skippable=True)])


def test_names_must_differ_and_a_chain_must_not_be_empty() -> None:
    block = BlockSpec("a", 0, (1,), skippable=True)
    with pytest.raises(ModelError, match="same name"):
        make_space([block, block])
    with pytest.raises(ModelError, match="at least one"):
        make_space([])


def test_a_subnet_prints_its_levels() -> None:
    assert str(Subnet((4, 0, 2))) == "402"
    assert str(Subnet((12, 0, 2))) == "12.0.2"


def test_exits_keep_the_first_layers() -> None:
    blocks = [BlockSpec(f"b{i}", i, (1, 2), skippable=i >= 2) for i in range(5)]
    space = make_space(blocks, [1, 3, 1.0], early_exit=True)
    assert space.depths == ((0, 1), (0, 1, 2), (0, 1, 2, 3, 4))
    assert space.smallest().levels == (1, 1, 0, 0, 0)
    free = [BlockSpec(f"b{i}", i, (1, 2), skippable=True) for i in range(3)]
    assert make_space(free, [1], early_exit=True).depths == ((0,), (0, 1, 2))
