"""What is lowered: one block at one width, and a whole path in one piece."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from nestling.elastic.supernet import split_stem


class BlockStage(nn.Module):
    """One elastic block at one nesting level, as a sum over the levels below it.

    ``y = post(x + finish(part_1(h) + ... + part_k(h)))`` with ``h = prepare(x)``. Every part owns
    the weights that its level adds, so each becomes a constant that all wider stages share.

    Args:
        prepare: ``(x, *context) -> h``.
        parts: each ``(h, *context) -> `` a summand, level 1 first.
        finish: applied to the sum.
        post: applied after the residual sum.
        residual: whether ``x`` is added.
    """

    def __init__(
        self,
        prepare: nn.Module,
        parts: Sequence[nn.Module],
        finish: nn.Module,
        post: nn.Module,
        *,
        residual: bool,
    ) -> None:
        super().__init__()
        self.prepare = prepare
        self.parts = nn.ModuleList(parts)
        self.finish = finish
        self.post = post
        self.residual = residual

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        """Run the block; the stream keeps its shape unless the block is not residual."""
        h = self.prepare(x, *context)
        y: Tensor = self.parts[0](h, *context)
        for part in list(self.parts)[1:]:
            y = y + part(h, *context)
        y = self.finish(y)
        if self.residual:
            y = x + y
        out: Tensor = self.post(y)
        return out


class FusedPath(nn.Module):
    """A path's stages in one module, so that a compiler sees all of it at once.

    Args:
        stem: ``(*inputs) -> x`` or ``(x, *context)``.
        blocks: each ``(x, *context) -> x``.
        head: ``(x, *context) -> output``.
    """

    def __init__(self, stem: nn.Module, blocks: Sequence[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.stem = stem
        self.blocks = nn.ModuleList(blocks)
        self.head = head

    def forward(self, *inputs: Tensor) -> Tensor:
        """Run the whole path."""
        x, context = split_stem(self.stem(*inputs))
        for block in self.blocks:
            x = block(x, *context)
        y: Tensor = self.head(x, *context)
        return y


class FirstBlock(nn.Module):
    """The first level of a layer, as a stage of its own.

    Args:
        prepare: ``(x, *context) -> h``.
        part: ``(h, *context) -> `` a summand.
        add_input: whether ``x`` is added to the summand here.
        keep_prepared: whether ``h`` is given out too, for the levels that follow.
    """

    def __init__(
        self, prepare: nn.Module, part: nn.Module, *, add_input: bool, keep_prepared: bool
    ) -> None:
        super().__init__()
        self.prepare = prepare
        self.part = part
        self.add_input = add_input
        self.keep_prepared = keep_prepared

    def forward(self, x: Tensor, *context: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return the sum so far, and what later levels start from."""
        h = self.prepare(x, *context)
        total: Tensor = self.part(h, *context)
        if self.add_input:
            total = x + total
        return (total, h) if self.keep_prepared else total


class NextBlock(nn.Module):
    """A further level of a layer, as a stage of its own.

    Args:
        part: ``(h, *context) -> `` a summand.
    """

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, total: Tensor, h: Tensor, *context: Tensor) -> Tensor:
        """Return the sum with this level in it."""
        y: Tensor = total + self.part(h, *context)
        return y


class Closing(nn.Module):
    """What follows the sum over the levels of a layer: ``post(x + finish(total))``.

    Args:
        finish: applied to the sum.
        post: applied last.
    """

    def __init__(self, finish: nn.Module, post: nn.Module) -> None:
        super().__init__()
        self.finish = finish
        self.post = post

    def forward(self, total: Tensor, *x: Tensor) -> Tensor:
        """Close a layer; ``x`` is its input where it is residual, else it is not given."""
        y: Tensor = self.finish(total)
        for residual in x:
            y = residual + y
        out: Tensor = self.post(y)
        return out.clone() if out is total else out  # a program cannot give its input out
