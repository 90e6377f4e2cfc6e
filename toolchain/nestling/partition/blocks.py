"""Cut a supernet at block grain: a stage is what one nesting level adds to the stream.

For compilers that bury weights in an opaque binary. At layer grain such a binary would hold the
first level's weights once for every width. Here each level's weights are in one stage alone, and a
path of width k runs the first k of them.

A layer computes ``post(x + finish_k(part_1(h) + ... + part_k(h)))`` with ``h = prepare(x)``, and
comes in one of two forms:

- *in the stream*, where nothing follows the sum (transformers with the norm first). The first stage
  prepares, adds its part to the stream, and keeps ``h``; each further one adds its own::

      x, h = x + part_1(prepare(x)), prepare(x)        x = x + part_2(h)        ...

- *beside the stream*, where something does (per-level statistics of batch norm, a norm that comes
  last). Parts gather in a slot of their own and a closing stage, which has next to no weights, adds
  the sum to the stream::

      s = part_1(prepare(x))        s = s + part_2(h)        ...        x = post(x + finish_k(s))

  Without a residual the next stream itself is that slot, and the full level needs no closing.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nestling.elastic.block import ElasticBlock, WithContext
from nestling.elastic.subnet import Subnet
from nestling.elastic.supernet import Supernet, split_stem
from nestling.partition.cut import (
    Cut,
    StageKey,
    StageMaker,
    end_positions,
    model_ends,
    no_levels,
    plain_supernet,
    start_wires,
)
from nestling.partition.modules import Closing, FirstBlock, NextBlock
from nestling.partition.wires import Position, Wires
from nestling.quantize.schemes import Scheme


@dataclass(frozen=True)
class LayerPositions:
    """Where the stages of one elastic block stand in the chain.

    Attributes:
        parts: of level 1, 2, ...
        closing: of the closing stage; ``None``: the block is summed in the stream.
        closed: levels that have a closing stage; a path at another level runs none.
        one_closing: whether all levels share the closing stage of level 1.
    """

    parts: tuple[int, ...]
    closing: int | None
    closed: frozenset[int]
    one_closing: bool

    def stages(self, level: int, bits: int) -> list[StageKey]:
        """Stages that compute the block at a level."""
        keys = [StageKey(at, k, bits) for k, at in enumerate(self.parts[:level], 1)]
        if self.closing is not None and level in self.closed:
            keys.append(StageKey(self.closing, 1 if self.one_closing else level, bits))
        return keys


@dataclass(frozen=True)
class BlockCut(Cut):
    """A supernet in pieces, each position of the chain one level of a block: block grain.

    Attributes:
        layers: of each elastic block, where its stages stand.
        wired: see :meth:`wires`.
    """

    layers: tuple[LayerPositions, ...]
    wired: Wires

    def chain(self, subnet: Subnet, bits: int) -> list[StageKey]:
        """Keys of the stages that compute ``subnet`` one after the other."""
        chosen = [
            key
            for layer, level in zip(self.layers, subnet.levels, strict=True)
            for key in layer.stages(level, bits)
        ]
        return [StageKey(0, 1, bits), *chosen, StageKey(len(self.positions) - 1, 1, bits)]

    def wires(self) -> Wires:
        """Slots between the stages: streams, what a layer prepared, and sums beside the stream."""
        return self.wired


def cut_blocks(supernet: Supernet, scheme: Scheme) -> BlockCut:
    """Cut ``supernet`` into the stages of ``scheme``, one for each level of each block.

    Raises:
        ModelError: a block cannot be cut, or the scheme finds nothing to quantise; names it.
    """
    supernet = plain_supernet(supernet, scheme)
    inputs = tuple(supernet.example_inputs())
    ends = model_ends(supernet)
    maker = StageMaker(scheme)
    with torch.no_grad():
        x, context = split_stem(supernet.stem(*inputs))
        named = dict(zip(supernet.context_names, context, strict=True))
        output = _run_rest(supernet, x, context)
        wires, names = start_wires(ends, named, output)
        chain = _Chain(maker, wires, context, names)
        stream = wires.share_slot("x", x)
        maker.add(0, 1, "stem", supernet.plain_stem(), inputs)
        chain.connect(0, tuple(ends.inputs), (stream, *names))
        streams, layers = [x], []
        for block in supernet.chain:
            layer, x, stream = chain.add_block(block, x, stream)
            layers.append(layer)
            streams.append(x)
        head = 1 + len(chain.positions)
        maker.add(head, 1, "head", supernet.plain_head(), (x, *context))
        chain.connect(head, (stream, *names), (ends.output_name,))
    return BlockCut(
        maker.stages,
        tuple(streams),
        named,
        output,
        end_positions(chain.positions),
        ends,
        tuple(layers),
        wires,
    )


class _Chain:
    """Adds the stages of one elastic block after the other."""

    def __init__(
        self,
        maker: StageMaker,
        wires: Wires,
        context: tuple[Tensor, ...],
        context_names: tuple[str, ...],
    ) -> None:
        self.positions: list[Position] = []
        self._maker = maker
        self._wires = wires
        self._context = context
        self._names = context_names

    def add_block(
        self, block: ElasticBlock, x: Tensor, stream: str
    ) -> tuple[LayerPositions, Tensor, str]:
        """Add a block's stages.

        Args:
            block: at any level.
            x: an example of the stream that enters it.
            stream: the slot that ``x`` is in.

        Returns:
            Where the stages are, the stream behind the block at full width, and its slot.
        """
        try:
            prepare = block.prepare()
            levels = range(1, len(block.widths) + 1)
            parts = [block.part(k) for k in levels]
            finishes = [block.finish(k) for k in levels]
        except NotImplementedError as error:
            raise no_levels(block, error) from error
        post = copy.deepcopy(block.post).eval()
        h = prepare(x, *self._context)
        example = parts[0](h, *self._context)
        bare = isinstance(post, nn.Identity)
        plain = bare and all(isinstance(f, nn.Identity) for f in finishes)
        prepared = _prepares(prepare)
        # Added to the stream, x would be gone where later levels still start from it.
        in_stream = block.residual and plain and (prepared or len(parts) == 1)
        after, total = self._slots(block, example, stream, in_stream)
        source = self._wires.share_slot("h", h) if prepared and len(parts) > 1 else stream
        at = self._add_parts(block, prepare, parts, x, h, in_stream, (stream, source, total))
        closed = set() if in_stream else set(levels)
        if total == after and not in_stream:  # no residual: closed where there is something to do
            closed = {k for k in levels if not (bare and isinstance(finishes[k - 1], nn.Identity))}
        one = all(isinstance(f, nn.Identity) for f in finishes)
        closing = None
        if closed:
            kept = {k: finishes[k - 1] for k in sorted(closed)[: 1 if one else None]}
            residual = ((x, stream),) if block.residual else ()
            closing = self._add_closing(block, kept, post, (example, total), residual, after, one)
        block.level = len(block.widths)
        layer = LayerPositions(at, closing, frozenset(closed), one)
        return layer, block(x, *self._context), after

    def connect(self, position: int, reads: tuple[str, ...], writes: tuple[str, ...]) -> None:
        """Wire all stages at a position."""
        for key in self._maker.stages:
            if key.position == position:
                self._wires.connect(key, reads, writes)

    def _slots(
        self, block: ElasticBlock, example: Tensor, stream: str, in_stream: bool
    ) -> tuple[str, str]:
        """Return the slot of the stream behind a block, and the one that its parts gather in."""
        after = stream if block.residual else self._wires.share_slot("x", example)
        if in_stream or after != stream:
            return after, after
        return after, self._wires.share_slot("s", example)

    def _add_parts(
        self,
        block: ElasticBlock,
        prepare: nn.Module,
        parts: list[nn.Module],
        x: Tensor,
        h: Tensor,
        in_stream: bool,
        slots: tuple[str, str, str],
    ) -> tuple[int, ...]:
        """Add one stage a level."""
        stream, source, total = slots
        keep = source != stream
        first = FirstBlock(prepare, parts[0], add_input=in_stream, keep_prepared=keep)
        at = self._add_position(block, "b1", not block.skippable)
        self._maker.add(at, 1, f"{block.name}.b1", first, (x, *self._context))
        self.connect(at, (stream, *self._names), (total, source) if keep else (total,))
        places = [at]
        so_far = first(x, *self._context)[0] if keep else first(x, *self._context)
        for level, part in enumerate(parts[1:], 2):
            following = NextBlock(part)
            at = self._add_position(block, f"b{level}", False, part=True)
            name = f"{block.name}.b{level}"
            self._maker.add(at, level, name, following, (so_far, h, *self._context))
            self.connect(at, (total, source, *self._names), (total,))
            so_far = following(so_far, h, *self._context)
            places.append(at)
        return tuple(places)

    def _add_closing(
        self,
        block: ElasticBlock,
        finishes: dict[int, nn.Module],
        post: nn.Module,
        total: tuple[Tensor, str],
        residual: tuple[tuple[Tensor, str], ...],
        after: str,
        one: bool,
    ) -> int:
        """Add the stages that close a block, one for each level that has one of its own."""
        always = len(finishes) == (1 if one else len(block.widths))
        at = self._add_position(block, "close", always, part=True)
        examples = (total[0], *(tensor for tensor, _ in residual))
        for level, finish in finishes.items():
            name = f"{block.name}.close" if len(finishes) == 1 else f"{block.name}.close{level}"
            self._maker.add(at, level, name, Closing(finish, post), examples)
        self.connect(at, (total[1], *(name for _, name in residual)), (after,))
        return at

    def _add_position(
        self, block: ElasticBlock, suffix: str, required: bool, *, part: bool = False
    ) -> int:
        self.positions.append(Position(f"{block.name}.{suffix}", block.layer, required, part))
        return len(self.positions)  # the stem stands before them


def _prepares(prepare: nn.Module) -> bool:
    """Whether a block does anything to its input before its levels."""
    inner = prepare.module if isinstance(prepare, WithContext) else prepare
    return not isinstance(inner, nn.Identity)


def _run_rest(supernet: Supernet, x: Tensor, context: tuple[Tensor, ...]) -> Tensor:
    supernet.select(supernet.space.full())
    for block in supernet.blocks:
        x = block(x, *context)
    output: Tensor = supernet.head(x, *context)
    return output
