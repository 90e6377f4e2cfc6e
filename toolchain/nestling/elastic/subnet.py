"""Subnets, and the space of all subnets of one supernet.

Pure data without torch: training samples from it, the exporter enumerates it, the command line
names places in it.

A supernet is a chain of blocks. A block has nesting levels 1..L, level k being its first
`widths[k-1]` units; level 0 means that the block is left out. Blocks that are left out together
form a *layer* (the attention and the feed-forward block of one transformer layer, or one inverted
residual), and a *depth* is a set of layers that is kept.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from nestling.errors import ModelError, PathError

DEFAULT_DEPTHS: tuple[float, ...] = (0.5, 0.75, 1.0)
FULL = "full"
_SMALLER_NAMES = ("tiny", "small", "base")


@dataclass(frozen=True)
class Subnet:
    """One choice along every axis.

    Attributes:
        levels: One entry for each block of the chain; 0 = left out, k = the first k nesting levels.
    """

    levels: tuple[int, ...]

    def __str__(self) -> str:
        """Return the levels as digits, `4402` for (4, 4, 0, 2); with dots if one has two digits."""
        return ("" if max(self.levels, default=0) < 10 else ".").join(map(str, self.levels))


@dataclass(frozen=True)
class BlockSpec:
    """What the space has to know about one block.

    Attributes:
        name: Unique within the chain.
        layer: Index of the layer that this block belongs to.
        widths: Units at level 1, 2, ..., strictly increasing.
        skippable: Whether level 0 is legal.
    """

    name: str
    layer: int
    widths: tuple[int, ...]
    skippable: bool

    @property
    def levels(self) -> int:
        """Number of nesting levels, level 0 not counted."""
        return len(self.widths)


@dataclass(frozen=True)
class SubnetSpace:
    """All subnets of one supernet.

    Attributes:
        blocks: One entry for each block, in the order of the chain.
        depths: Each the sorted layers that it keeps; fewest layers first, the last keeps all.
            A smaller depth keeps a subset of what a larger one keeps.
        named: Subnets with names, small to large; the last is `full`.
    """

    blocks: tuple[BlockSpec, ...]
    depths: tuple[tuple[int, ...], ...]
    named: dict[str, Subnet] = field(hash=False)

    def __post_init__(self) -> None:
        """Reject a space that contradicts itself."""
        _check_blocks(self.blocks)
        _check_depths(self.blocks, self.depths)
        if not self.named or list(self.named)[-1] != FULL or self.named[FULL] != self.full():
            raise ModelError("the last named subnet must be the full one", expected=FULL)
        for subnet in self.named.values():
            self.check(subnet)

    @property
    def levels(self) -> int:
        """The largest number of levels of any block."""
        return max(block.levels for block in self.blocks)

    def full(self) -> Subnet:
        """Return the subnet with every block at its highest level."""
        return Subnet(tuple(block.levels for block in self.blocks))

    def smallest(self) -> Subnet:
        """Return the subnet with the fewest layers, each at level 1."""
        return self.uniform(1, 0)

    def uniform(self, level: int, depth: int = -1) -> Subnet:
        """Return the subnet with the same level everywhere.

        Args:
            level: 1..`levels`; a block with fewer levels takes its highest.
            depth: Index into `depths`; 0 keeps the fewest layers, -1 all of them.

        Raises:
            PathError: The level or the depth does not exist.
        """
        if not 1 <= level <= self.levels:
            raise PathError("no such level", expected=f"1..{self.levels}", actual=level)
        if not -len(self.depths) <= depth < len(self.depths):
            raise PathError("no such depth", expected=f"0..{len(self.depths) - 1}", actual=depth)
        kept = self.depths[depth]
        return Subnet(tuple(min(level, b.levels) if b.layer in kept else 0 for b in self.blocks))

    def enumerate_uniform(self) -> Iterator[Subnet]:
        """Yield every level at every depth once, depths outside, small to large."""
        seen: set[Subnet] = set()
        for depth in range(len(self.depths)):
            for level in range(1, self.levels + 1):
                subnet = self.uniform(level, depth)
                if subnet not in seen:
                    seen.add(subnet)
                    yield subnet

    def sample(self, rng: random.Random) -> Subnet:
        """Draw a depth uniformly, then a level for every block that is kept, independently."""
        kept = self.depths[rng.randrange(len(self.depths))]
        return Subnet(
            tuple(rng.randint(1, b.levels) if b.layer in kept else 0 for b in self.blocks)
        )

    def count(self) -> int:
        """Return how many different subnets `sample` can draw."""
        return sum(
            math.prod(b.levels for b in self.blocks if b.layer in kept) for kept in self.depths
        )

    def check(self, subnet: Subnet) -> None:
        """Check that a subnet exists, which any mix of legal levels does.

        Raises:
            PathError: Wrong number of levels, a level out of range, or a block left out that must
            run.
        """
        if len(subnet.levels) != len(self.blocks):
            raise PathError(
                "the subnet has the wrong number of levels",
                expected=len(self.blocks),
                actual=len(subnet.levels),
            )
        for block, level in zip(self.blocks, subnet.levels, strict=True):
            if level == 0 and not block.skippable:
                raise PathError("the block cannot be left out", stage=block.name)
            if not 0 <= level <= block.levels:
                raise PathError(
                    "the block has no such level",
                    stage=block.name,
                    expected=f"0..{block.levels}" if block.skippable else f"1..{block.levels}",
                    actual=level,
                )


def make_space(
    blocks: Sequence[BlockSpec],
    depths: Sequence[float | int] | None = None,
    named: Mapping[str, Subnet] | None = None,
    *,
    early_exit: bool = False,
) -> SubnetSpace:
    """Make the space of a chain of blocks.

    Args:
        blocks: The chain.
        depths: How many layers to keep, as fractions of all layers (float) or as counts (int). The
            layers to leave out are spread evenly over those that can be left out; the first and
            the last layer always stay. Default: half, three quarters, all.
        early_exit: A depth keeps the first layers and leaves out all after them, so that the head
            follows an early layer. A depth that would leave out a layer that must run keeps it.
        named: Subnets with names, small to large. Default: `tiny`, `small`, `base`, `full`, which
            pair level k with the depth in proportion (4 levels and 3 depths: 1/0, 2/1, 3/2, 4/2).

    Raises:
        ModelError: No blocks, or a depth below one layer or above all.
    """
    chain = tuple(blocks)
    _check_blocks(chain)
    kept = nested_depths(chain, DEFAULT_DEPTHS if depths is None else depths, early_exit=early_exit)
    full = Subnet(tuple(block.levels for block in chain))
    space = SubnetSpace(chain, kept, {FULL: full})
    if named is None:
        return SubnetSpace(chain, kept, _default_names(space))
    return SubnetSpace(chain, kept, dict(named))


def nested_depths(
    blocks: Sequence[BlockSpec], depths: Sequence[float | int], *, early_exit: bool = False
) -> tuple[tuple[int, ...], ...]:
    """Choose the layers that each depth keeps, so that smaller depths nest in larger ones.

    Args:
        blocks: The chain.
        depths: See `make_space`.
        early_exit: See `make_space`.

    Raises:
        ModelError: A depth is below one layer or above all.
    """
    layers = sorted({block.layer for block in blocks})
    inner = [
        layer
        for layer in layers[1:-1]
        if all(block.skippable for block in blocks if block.layer == layer)
    ]
    must_run = [block.layer for block in blocks if not block.skippable]
    most = len(inner)
    if early_exit:
        most = len(layers) - (1 + layers.index(max(must_run)) if must_run else 1)
    drops = {0}
    for depth in depths:
        exact = depth if isinstance(depth, int) else depth * len(layers)
        count = math.floor(exact + 0.5) if 0 < exact <= len(layers) else 0
        if count < 1:
            raise ModelError(
                "a depth keeps between one layer and all of them",
                expected=f"1..{len(layers)} layers, or a fraction of them",
                actual=depth,
            )
        drops.add(min(len(layers) - count, most))
    if early_exit:
        return tuple(tuple(layers[: len(layers) - drop]) for drop in sorted(drops, reverse=True))
    kept = []
    dropped = inner
    for drop in sorted(drops, reverse=True):
        # Chosen among what the smaller depth drops: what it keeps stays kept.
        dropped = _spread(dropped, drop)
        kept.append(tuple(layer for layer in layers if layer not in dropped))
    return tuple(kept)


def _spread(items: Sequence[int], count: int) -> list[int]:
    """Return `count` of the items, evenly spread."""
    return [items[(2 * i + 1) * len(items) // (2 * count)] for i in range(count)]


def _default_names(space: SubnetSpace) -> dict[str, Subnet]:
    levels, last_depth = space.levels, len(space.depths) - 1
    named: dict[str, Subnet] = {}
    for level in range(1, levels):
        depth = math.ceil((level - 1) * last_depth / (levels - 1))
        known = levels - 1 <= len(_SMALLER_NAMES)
        named[_SMALLER_NAMES[level - 1] if known else f"level{level}"] = space.uniform(level, depth)
    named[FULL] = space.full()
    return named


def _check_blocks(blocks: Sequence[BlockSpec]) -> None:
    if not blocks:
        raise ModelError("a supernet needs at least one elastic block")
    names = [block.name for block in blocks]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ModelError("two blocks have the same name", module=twice)
    for block in blocks:
        rising = all(a < b for a, b in pairwise(block.widths))
        if not block.widths or block.widths[0] < 1 or not rising:
            raise ModelError(
                "the widths of a block must be positive and increase",
                module=block.name,
                actual=block.widths,
            )


def _check_depths(blocks: Sequence[BlockSpec], depths: Sequence[tuple[int, ...]]) -> None:
    layers = tuple(sorted({block.layer for block in blocks}))
    if not depths or tuple(depths[-1]) != layers:
        raise ModelError("the last depth must keep every layer", expected=layers)
    for small, large in pairwise(depths):
        if not set(small) < set(large):
            raise ModelError("a smaller depth must keep a subset", expected=large, actual=small)
    for block in blocks:
        if not block.skippable and block.layer not in depths[0]:
            raise ModelError("a depth leaves out a block that must run", module=block.name)
