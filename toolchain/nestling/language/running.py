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
from nestling.language.decoder import EagerDecoder, Signals, StateRule
from nestling.language.policies import ACCEPT, Controller, TokenPolicy
from nestling.language.scoring import logits_each


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
    cost = table.blocks[path] + table.state[path] + heads * table.head
    return logits, now, cost


@torch.inference_mode()
def read_mixed(
    supernet: Supernet, windows: Windows, paths: Sequence[Subnet], path: Tensor, batch: int = 16
) -> Tensor:
    """Return the bits of targets when it is known beforehand which token takes which path.

    The same as `follow_text` with PROPAGATE, without the loop over positions.

    Args:
        supernet: A decoder.
        windows: The text.
        paths: What the numbers mean.
        path: int64, (windows, length).
        batch: Windows at once.
    """
    table = torch.tensor([one.levels for one in paths])
    parts = [
        token_bits(logits_each(supernet.eval(), tokens, table[chosen]), targets)
        for tokens, targets, chosen in zip(
            torch.split(windows.tokens, batch),
            torch.split(windows.targets, batch),
            torch.split(path, batch),
            strict=True,
        )
    ]
    return torch.cat(parts)


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
