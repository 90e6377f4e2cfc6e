"""Cut a decoder into stages that compute a few tokens behind those that are cached.

Every stage comes in several sizes: for one token, and for a chunk of them (prompts, verification).
All sizes of a stage have the same weights. A path of the bundle is a list of stages of one size;
its name says which::

    full             one token
    full.t64         64 tokens, of which the last valid one gets logits
    full.all4        4 tokens with all their logits
    full.from2.t64   the same from layer 2 on, behind an exit that has kept its streams
    tiny.fill        also fills the caches of the layers that it leaves out (PROPAGATE)

A block that is visited again (`nestling.elastic.families.recursive`) has a stage for each visit.
Those that do the same have one program and the same weights, and differ in their places and caches.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeGuard

import torch
from torch import nn

from nestling.elastic.attention import ElasticAttention
from nestling.elastic.block import ElasticBlock
from nestling.elastic.families.llama import DecoderHead, DecoderStem, ElasticLlama
from nestling.elastic.families.recursive_blocks import AttentionVisit, Visit
from nestling.elastic.families.recursive_feed_forward import VersatileFeedForward
from nestling.elastic.subnet import Subnet
from nestling.errors import ModelError
from nestling.experts.layer import ExpertFeedForward
from nestling.partition.chain import Chain
from nestling.partition.cut import block_stage, plain_supernet
from nestling.partition.decoder_modules import (
    AttentionStage,
    BorrowingAttentionStage,
    EmbedStage,
    KeepStage,
    KeyValueStage,
    ResumeStage,
    RotaryRows,
    TakeStage,
)
from nestling.quantize.schemes import Scheme


@dataclass(frozen=True)
class DecoderShape:
    """How many tokens a decoder takes.

    Attributes:
        context: tokens that a session can hold.
        chunks: sizes of a run beside one token, ascending.
        verify: the one of them whose runs can give the logits of all their tokens.
    """

    context: int = 256
    chunks: tuple[int, ...] = (4, 32)
    verify: int = 4

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.context < 2:
            raise ModelError("a context has two tokens at least", actual=self.context)
        if list(self.chunks) != sorted(set(self.chunks)) or min(self.chunks, default=0) < 2:
            raise ModelError("chunks must ascend from 2", actual=self.chunks)
        if self.verify not in self.chunks:
            raise ModelError("verify must be a chunk", expected=self.chunks, actual=self.verify)

    @property
    def sizes(self) -> tuple[int, ...]:
        """All sizes of a run, 1 first."""
        return (1, *self.chunks)

    @property
    def rows(self) -> int:
        """Rows of a cache: a chunk that is not full writes behind the context's end."""
        return self.context + max(self.chunks)


@dataclass
class DecoderCut(Chain):
    """A decoder in pieces, all by name.

    Attributes:
        shape: how many tokens.
    """

    shape: DecoderShape = field(default_factory=DecoderShape)


def cut_decoder(
    supernet: ElasticLlama,
    scheme: Scheme,
    shape: DecoderShape | None = None,
    paths: Mapping[str, Subnet] | None = None,
) -> DecoderCut:
    """Cut a decoder into stages of every size and level.

    Args:
        supernet: left unchanged.
        scheme: fp32, or one with dynamic activations; bits are not nested here.
        shape: how many tokens; default `DecoderShape()`.
        paths: named subnets, small to large; default `supernet.space.named`.

    Raises:
        ModelError: the model is not such a decoder, or was made for fewer tokens, or the scheme
            needs calibration.
    """
    out = DecoderCut(scheme, shape=shape or DecoderShape())
    if supernet.longest is not None and out.shape.context > supernet.longest:
        raise ModelError(
            "the context is longer than the model's positions or its sliding window",
            expected=f"at most {supernet.longest}",
            actual=out.shape.context,
        )
    named = dict(paths or supernet.space.named)
    for subnet in named.values():
        supernet.space.check(subnet)
    supernet = plain_supernet(supernet, scheme)
    with torch.no_grad():
        return _Cutter(supernet, out, named).cut()


@dataclass(frozen=True)
class _Exit:
    """A depth behind which some path ends.

    Attributes:
        depth: layers before it.
        levels: of their blocks.
    """

    depth: int
    levels: tuple[int, ...]


class _Cutter:
    """Makes the pieces one after the other."""

    def __init__(
        self,
        supernet: ElasticLlama,
        out: DecoderCut,
        named: Mapping[str, Subnet],
    ) -> None:
        stem, head = supernet.stem, supernet.head
        if not isinstance(stem, DecoderStem) or not isinstance(head, DecoderHead):
            raise ModelError("not a decoder", actual=type(supernet).__name__)
        self.stem, self.head, self.named, self.out = stem, head, named, out
        self.parameters = {name: supernet.count_parameters(s) for name, s in named.items()}
        self.blocks = supernet.chain
        self.layers = supernet.layers()
        self.cos, self.sin = stem.rotary(torch.arange(out.shape.rows))
        self.dim = stem.embedding.embedding_dim
        self.head_dim = self.cos.shape[1]
        self.exits = self._find_exits()
        # (first visit's block, kind of stage, tokens, whether it borrows) -> name of the stage
        self.visited: dict[tuple[str, str, int, bool], str] = {}

    def cut(self) -> DecoderCut:
        """Return everything."""
        self._add_positions()
        self._add_states()
        for tokens in self.out.shape.sizes:
            self._add_slots(tokens)
            self._add_ends(tokens)
            for block in self.blocks:
                self._add_block(block, tokens)
        for name, subnet in self.named.items():
            self._add_paths(name, subnet)
        return self.out

    def _find_exits(self) -> list[_Exit]:
        """Depths at which named paths end before the last layer, and whose streams are kept."""
        exits: dict[int, _Exit] = {}
        for subnet in self.named.values():
            depth = self._exit_depth(subnet)
            if depth is not None:
                levels = subnet.levels[: self._blocks_before(depth)]
                exits.setdefault(depth, _Exit(depth, levels))
        return sorted(exits.values(), key=lambda e: e.depth)

    def _blocks_before(self, depth: int) -> int:
        return sum(len(layer) for layer in self.layers[:depth])

    def _exit_depth(self, subnet: Subnet) -> int | None:
        """Number of layers of a path that leaves out all layers from some on, else None."""
        used = max(i for i, level in enumerate(subnet.levels) if level)
        depth = 1 + list(dict.fromkeys(b.layer for b in self.blocks)).index(self.blocks[used].layer)
        return depth if depth < len(self.layers) else None

    def _add_positions(self) -> None:
        add = self.out.add_position
        first, last = self.blocks[0].layer, self.blocks[-1].layer
        add("stem", first)
        for depth, layer in enumerate(self.layers, 1):
            for block in layer:
                add(block.name, block.layer, not block.skippable)
                if isinstance(block, VersatileFeedForward):
                    for visit in range(2, block.visits + 1):
                        add(f"{block.name}.visit{visit}", block.layer, False)
            if any(e.depth == depth for e in self.exits):
                add(f"exit{depth}", layer[0].layer, False)
        add("take", last, False)
        add("head", last)

    def _add_states(self) -> None:
        rows = self.out.shape.rows
        for block in self._attention():
            width = block.units * block.head_dim
            for kind in ("keys", "values"):
                self.out.add_slot(f"{block.name}.{kind}", torch.zeros(rows, width), "state")
        for point in self.exits:
            self.out.add_slot(f"exit{point.depth}", torch.zeros(rows, self.dim), "state")
        self.out.add_slot("position", torch.zeros(1, dtype=torch.int64), "input")

    def _attention(self) -> list[ElasticAttention]:
        """Attention blocks that have a cache."""
        return [
            block
            for block in self.blocks
            if isinstance(block, ElasticAttention) and not _borrows(block)
        ]

    def _add_slots(self, tokens: int) -> None:
        add, end = self.out.add_slot, _size(tokens)
        long = torch.int64
        add(f"tokens{end}", torch.zeros(1, tokens, dtype=long), "input")
        add(f"x{end}", torch.randn(1, tokens, self.dim))
        for name, table in (("cos", self.cos), ("sin", self.sin)):
            add(f"{name}{end}", table[:tokens, None].clone())
        if tokens > 1:
            add(f"row{end}", torch.zeros(1, dtype=long), "input")
        vocabulary = self.head.classifier.out_features
        if tokens in (1, self.out.shape.verify):
            add(f"logits{end}", torch.zeros(1, tokens, vocabulary), "output")
        for block in self._attention():
            width = block.units * block.head_dim
            for kind in ("keys", "values"):
                state = f"{block.name}.{kind}"
                add(f"{state}.t{tokens}", torch.zeros(tokens, width), append=state)
        for point in self.exits:
            state = f"exit{point.depth}"
            add(f"{state}.t{tokens}", torch.zeros(tokens, self.dim), append=state)

    def _add_ends(self, tokens: int) -> None:
        end = _size(tokens)
        stream = (f"x{end}", f"cos{end}", f"sin{end}")
        rotary = RotaryRows(self.cos, self.sin, tokens)
        embed = EmbedStage(self.stem.embedding, rotary)
        self.out.add_stage(f"stem{end}", embed, (f"tokens{end}", "position"), stream, "stem")
        for point in self.exits:
            kept = f"exit{point.depth}"
            rows = (f"{kept}.t{tokens}",)
            self.out.add_stage(f"{kept}{end}", KeepStage(), stream[:1], rows, kept)
            resume = ResumeStage(rotary)
            self.out.add_stage(
                f"from{point.depth}{end}", resume, (kept, "position"), stream, "stem", kept
            )
        if tokens > 1:
            take = TakeStage()
            self.out.add_stage(f"take{end}", take, (stream[0], f"row{end}"), ("x",), "take")
        if f"logits{end}" in self.out.slots:
            head = nn.Sequential(self.head.norm.scaled(1.0), self.head.classifier)
            self.out.add_stage(f"head{end}", head, stream[:1], (f"logits{end}",), "head")

    def _add_block(self, block: ElasticBlock, tokens: int) -> None:
        for level in range(1, len(block.widths) + 1):
            if isinstance(block, ElasticAttention):
                self._add_attention(block, level, tokens)
            elif isinstance(block, ExpertFeedForward):
                name, stream = f"{block.name}.w{level}{_size(tokens)}", f"x{_size(tokens)}"
                self.out.add_expert_stage(name, block, stream, block.name, level=level)
            elif isinstance(block, VersatileFeedForward):
                self._add_versatile(block, level, tokens)
            else:
                make = functools.partial(block_stage, block, level)
                stream = f"x{_size(tokens)}"
                self._add_stage(block, level, f"w{level}", tokens, make, (stream,), (stream,))

    def _add_attention(self, block: ElasticAttention, level: int, tokens: int) -> None:
        stream, *rotary = (f"{name}{_size(tokens)}" for name in ("x", "cos", "sin"))
        make: Callable[[], nn.Module] = functools.partial(AttentionStage, block, level)
        owner, rows = block.name, tuple(self._rows(block, tokens))
        if _borrows(block):
            make = functools.partial(BorrowingAttentionStage, block, level, tokens)
            owner, rows = block.first_name, ()
        inputs = (stream, *rotary, "position", f"{owner}.keys", f"{owner}.values")
        self._add_stage(block, level, f"w{level}", tokens, make, inputs, (stream, *rows))
        if level == 1 and self.exits and block.skippable and rows:
            make = functools.partial(KeyValueStage, block)
            self._add_stage(block, level, "fill", tokens, make, (stream, *rotary), rows)

    def _add_versatile(self, block: VersatileFeedForward, level: int, tokens: int) -> None:
        """Add what a level has more than the ones below: slices, a width, or a further visit."""
        end, stream = _size(tokens), f"x{_size(tokens)}"
        visits, inner = block.visits_at(level)
        name = f"{block.name}.w{inner}"
        if isinstance(block.wide, ExpertFeedForward) and visits == 0:
            wide = f"{block.name}.wide{end}"
            self.out.add_expert_stage(wide, block.wide, stream, block.name)
        elif visits == 1:
            stage = block_stage(block.inner, inner)
            self.out.add_stage(f"{name}{end}", stage, (stream,), (stream,), block.name, level=level)
        else:
            place = f"{block.name}.visit{visits}"
            again = f"{place}.w{inner}{end}"
            self.out.add_visit(again, f"{name}{end}", (stream,), (stream,), place)

    def _stages(self, block: ElasticBlock, level: int, tokens: int) -> list[str]:
        """Names of the stages that compute a block at a level."""
        if not isinstance(block, VersatileFeedForward):
            return [f"{block.name}.w{level}{_size(tokens)}"]
        visits, inner = block.visits_at(level)
        if visits == 0:
            return [f"{block.name}.wide{_size(tokens)}"]
        further = [f"{block.name}.visit{visit}" for visit in range(2, visits + 1)]
        return [f"{place}.w{inner}{_size(tokens)}" for place in (block.name, *further)]

    def _add_stage(
        self,
        block: ElasticBlock,
        level: int,
        kind: str,
        tokens: int,
        make: Callable[[], nn.Module],
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
    ) -> None:
        """Add a stage of a block; of all visits that do the same, the first one is made."""
        name, key = f"{block.name}.{kind}{_size(tokens)}", None
        if isinstance(block, Visit):
            key = (block.first_name, kind, tokens, _borrows(block))
        made = None if key is None else self.visited.setdefault(key, name)
        if made is None or made == name:
            self.out.add_stage(name, make(), inputs, outputs, block.name, level=level)
        else:
            self.out.add_visit(name, made, inputs, outputs, block.name)

    def _rows(self, block: ElasticAttention, tokens: int) -> list[str]:
        """Names of the slots that a block's new rows go into."""
        return [f"{block.name}.{kind}.t{tokens}" for kind in ("keys", "values")]

    def _add_paths(self, name: str, subnet: Subnet) -> None:
        used = zip(self.blocks, subnet.levels, strict=True)
        skipped = [block for block, level in used if not level]
        fills = self._exit_depth(subnet) is not None and any(
            block in skipped for block in self._attention()
        )
        for tokens in self.out.shape.sizes:
            for start in (None, *self.exits):
                if start is not None and not self._passes(subnet, start):
                    continue
                for fill in (False, True) if fills and start is None else (False,):
                    self._add_path(name, subnet, tokens, start, fill)

    def _passes(self, subnet: Subnet, point: _Exit) -> bool:
        """Whether a path computes what the exit keeps, and goes on behind it."""
        behind = subnet.levels[len(point.levels) :]
        return subnet.levels[: len(point.levels)] == point.levels and any(behind)

    def _add_path(
        self, name: str, subnet: Subnet, tokens: int, start: _Exit | None, fill: bool
    ) -> None:
        end = _size(tokens)
        first = 0 if start is None else len(start.levels)
        stages = [f"stem{end}" if start is None else f"from{start.depth}{end}"]
        for block, level in list(zip(self.blocks, subnet.levels, strict=True))[first:]:
            if level:
                stages.extend(self._stages(block, level, tokens))
            elif fill and isinstance(block, ElasticAttention) and not _borrows(block):
                stages.append(f"{block.name}.fill{end}")
        depth = self._exit_depth(subnet)
        if any(e.depth == depth and e.levels == subnet.levels[: len(e.levels)] for e in self.exits):
            after = 1 + max(i for i, s in enumerate(stages) if ".fill" not in s)
            stages.insert(after, f"exit{depth}{end}")
        parameters = self.parameters[name]
        name += ".fill" if fill else ""
        name += f".from{start.depth}" if start is not None else ""
        if tokens == 1:
            self.out.add_path(name, (*stages, "head"), parameters)
            return
        taken = (*stages, f"take{end}", "head")
        self.out.add_path(f"{name}.t{tokens}", taken, parameters)
        if tokens == self.out.shape.verify:
            self.out.add_path(f"{name}.all{tokens}", (*stages, f"head{end}"), parameters)


def _borrows(block: ElasticBlock) -> TypeGuard[AttentionVisit]:
    """Whether a block attends to the cache of another one."""
    return isinstance(block, AttentionVisit) and block.borrows


def _size(tokens: int) -> str:
    return "" if tokens == 1 else f".t{tokens}"
