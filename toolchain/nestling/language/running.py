"""Policies at work: on text that is given, and on text that the model writes itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nestling.elastic import Subnet, Supernet
from nestling.errors import PathError
from nestling.language.bits import Windows, token_bits
from nestling.language.costs import TokenCosts
from nestling.language.decoder import EagerDecoder, Signals, StateRule, measure_logits
from nestling.language.policies import ACCEPT, Controller, TokenPolicy


@dataclass(frozen=True)
class PolicyRun:
    """What a policy did on windows of text; every tensor is (windows, length).

    Attributes:
        bits: -log2 of the probability of each target, float32.
        path: Path that each token was drawn from, int64.
        macs: Multiply-accumulates of each token: blocks, every head that ran, state propagated.
    """

    bits: Tensor
    path: Tensor
    macs: Tensor

    def share(self, path: int) -> float:
        """Return the share of tokens on a path."""
        return float((self.path == path).double().mean())


class PathTable:
    """Paths by number, and what they cost.

    Args:
        supernet: A decoder.
        paths: Small to large.
    """

    def __init__(self, supernet: Supernet, paths: Sequence[Subnet]) -> None:
        for path in paths:
            supernet.space.check(path)
        self.levels = torch.tensor([path.levels for path in paths])
        costs = TokenCosts(supernet)
        self.blocks = costs.blocks(self.levels)
        self.state = costs.state(self.levels)
        self.head = costs.head
        self._all_layers = costs.blocks(torch.tensor(supernet.space.full().levels))

    def macs(self, path: Tensor, heads: Tensor, rule: StateRule) -> Tensor:
        """Return the multiply-accumulates of tokens, int64, the shape of `path`.

        Args:
            path: That each token was drawn from.
            heads: How often the head ran for it.
            rule: What skipped layers leave in the cache.
        """
        if rule is StateRule.RECOMPUTE:
            # Sooner or later every token runs through all layers, only not one at a time.
            blocks = self._all_layers
        elif rule is StateRule.SHARE:
            blocks = self.blocks[path]
        else:
            blocks = self.blocks[path] + self.state[path]
        return blocks + heads * self.head

    def check(self, path: Tensor) -> None:
        """Check what a policy answered.

        Raises:
            PathError: There is no such path.
        """
        if bool(((path < 0) | (path >= len(self.levels))).any()):
            raise PathError(
                "the policy names a path that there is not",
                expected=f"0..{len(self.levels) - 1}",
                actual=path.tolist(),
            )


def follow_text(
    supernet: Supernet,
    windows: Windows,
    paths: Sequence[Subnet],
    policy: TokenPolicy,
    rule: StateRule = StateRule.PROPAGATE,
) -> PolicyRun:
    """Read windows token by token, every one on the path that the policy picks.

    Args:
        supernet: A decoder.
        windows: The text; its windows are the rows of one batch.
        paths: What the policy's numbers mean.
        policy: See `nestling.language.policies`.
        rule: What skipped layers leave in the cache.

    Raises:
        PathError: The policy names a path that there is not.
    """
    table = PathTable(supernet, paths)
    rows, length = windows.tokens.shape
    decoder = EagerDecoder(supernet, rows, length, rule)
    controller = policy.start(rows)
    bits, chosen, macs = [], [], []
    last: Signals | None = None
    for position in range(length):
        tokens = windows.tokens[:, position : position + 1]
        logits, last, cost = next_token(decoder, controller, table, policy, tokens, last)
        bits.append(token_bits(logits, windows.targets[:, position]))
        chosen.append(last.path)
        macs.append(cost)
    return PolicyRun(torch.stack(bits, 1), torch.stack(chosen, 1), torch.stack(macs, 1))


def next_token(
    decoder: EagerDecoder,
    controller: Controller,
    table: PathTable,
    policy: TokenPolicy,
    tokens: Tensor,
    last: Signals | None,
) -> tuple[Tensor, Signals, Tensor]:
    """Feed one token a row, going on to larger paths for as long as the controller asks.

    Returns:
        Logits (rows, vocabulary), their signals, and the multiply-accumulates, int64, (rows,).
    """
    path = controller.choose(last, decoder.position)
    table.check(path)
    logits = decoder.feed(tokens, table.levels[path][:, None])[:, -1]
    now = decoder.signals(logits, path)
    heads = torch.ones_like(path)
    for _ in table.levels:
        answer = controller.accept(now)
        on = answer != ACCEPT
        if not bool(on.any()):
            break
        path = torch.where(on, answer, path)
        table.check(path)
        logits = decoder.go_on(table.levels[path][:, None], on)[:, -1]
        now = decoder.signals(logits, path)
        heads = heads + on * int(policy.exit_logits)
    return logits, now, table.macs(path, heads, decoder.rule)


@torch.inference_mode()
def read_paths(
    supernet: Supernet,
    windows: Windows,
    paths: Sequence[Subnet],
    path: Tensor,
    rule: StateRule = StateRule.PROPAGATE,
    batch: int = 16,
) -> Tensor:
    """Return logits when it is known beforehand which token takes which path.

    The same as `follow_text`, without the loop over positions.

    Args:
        supernet: A decoder.
        windows: The text.
        paths: What the numbers mean.
        path: int64, (windows, length).
        rule: What skipped layers leave in the cache.
        batch: Windows at once.

    Returns:
        float32, (windows, length, vocabulary).
    """
    table = torch.tensor([one.levels for one in paths])
    parts = zip(torch.split(windows.tokens, batch), torch.split(path, batch), strict=True)
    return torch.cat(
        [
            EagerDecoder(supernet, len(tokens), tokens.shape[1], rule).feed(tokens, table[chosen])
            for tokens, chosen in parts
        ]
    )


@torch.inference_mode()
def follow_exits(
    supernet: Supernet,
    windows: Windows,
    paths: Sequence[Subnet],
    policy: TokenPolicy,
    rule: StateRule = StateRule.PROPAGATE,
) -> PolicyRun:
    """Do what `follow_text` does, for policies that look at no more than the first path's exit.

    The first path must be a prefix of all others (the core): what is known behind it does not
    depend on what was decided before, so neither loop nor batch order is needed.

    Args:
        supernet: A decoder.
        windows: The text.
        paths: What the policy's numbers mean.
        policy: Starts every token on the first path, or decides without looking at text.
        rule: What skipped layers leave in the cache.

    Raises:
        PathError: The policy names a path that there is not.
    """
    table = PathTable(supernet, paths)
    rows, length = windows.tokens.shape
    parts = []
    for tokens in torch.split(windows.tokens, 16):
        decoder = EagerDecoder(supernet, len(tokens), tokens.shape[1])
        logits = decoder.feed(tokens, paths[0])
        parts.append((*measure_logits(logits), decoder.similarity(), decoder.stream()))
    entropy, confidence, margin, similarity, stream = map(torch.cat, zip(*parts, strict=True))
    controller = policy.start(rows)
    chosen = []
    for position in range(length):
        path = controller.choose(None, position)
        now = Signals(
            entropy[:, position],
            confidence[:, position],
            margin[:, position],
            similarity[:, position],
            path,
            stream[:, position],
        )
        answer = torch.where(path == 0, controller.accept(now), ACCEPT)
        path = torch.where(answer == ACCEPT, path, answer)
        table.check(path)
        chosen.append(path)
    path = torch.stack(chosen, 1)
    logits = read_paths(supernet, windows, paths, path, rule)
    heads = 1 + (path > 0) * int(policy.exit_logits)
    return PolicyRun(token_bits(logits, windows.targets), path, table.macs(path, heads, rule))


@dataclass(frozen=True)
class Written:
    """One token that the model wrote.

    Attributes:
        token: Its number.
        path: That it was drawn from.
        entropy_bits: Of the distribution that it was drawn from.
        macs: That it took.
    """

    token: int
    path: int
    entropy_bits: float
    macs: int


def write_greedily(
    supernet: Supernet,
    prompt: Sequence[int],
    paths: Sequence[Subnet],
    policy: TokenPolicy,
    count: int,
    rule: StateRule = StateRule.PROPAGATE,
) -> Iterator[Written]:
    """Continue a prompt, always with the likeliest token.

    The prompt is read on the last path, all but its last token, which is the policy's first.

    Raises:
        PathError: The context is full, or the policy names a path that there is not.
    """
    table = PathTable(supernet, paths)
    decoder = EagerDecoder(supernet, 1, None, rule)
    controller = policy.start(1)
    if len(prompt) > 1:
        decoder.feed(torch.tensor([prompt[:-1]]), table.levels[-1])
    token = prompt[-1]
    last: Signals | None = None
    for _ in range(count):
        fed = torch.tensor([[token]])
        logits, last, cost = next_token(decoder, controller, table, policy, fed, last)
        token = int(logits.argmax())
        yield Written(token, int(last.path), float(last.entropy_bits), int(cost))
