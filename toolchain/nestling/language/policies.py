"""Which path makes the next token: the policies, their parameters and where they come from.

A policy answers two questions, the same as in `firmware/core/token_policy.h`. Before a token:
`choose` names a path. Behind its exit: `accept` sees the logits and takes them, or names a path on
which the token goes on. Paths are numbered, small to large. Here a policy answers for many
conversations at once, so every answer is a tensor with one entry a row.

A policy of your own is a class with a method `start`, which returns what answers::

    @dataclass(frozen=True)
    class FullWhereItWasUnsure:
        full: int
        exit_logits = False             # accept() needs no head behind the path of choose()

        def start(self, rows):
            return _Unsure(self.full, rows)

    class _Unsure(TakeAll):             # accept() takes every token as it is
        def __init__(self, full, rows):
            self.full, self.rows = full, rows

        def choose(self, last, position):
            if last is None:
                return torch.full((self.rows,), self.full)
            return torch.where(last.confidence < 0.5, self.full, 0)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from nestling.errors import PathError
from nestling.language.decoder import Signals

ACCEPT = -1
"""What `accept` answers for a row whose logits it takes."""


class Controller(Protocol):
    """A policy at work on some rows; what it remembers is its own."""

    def choose(self, last: Signals | None, position: int) -> Tensor:
        """Return the path that each row's next token starts on: int64, (rows,).

        Args:
            last: What the tokens before were drawn from; None at first.
            position: Of the token that is about to be computed, from 0.
        """
        ...

    def accept(self, now: Signals) -> Tensor:
        """Return `ACCEPT`, or a larger path to go on with: int64, (rows,)."""
        ...


class TokenPolicy(Protocol):
    """Parameters of a policy.

    Attributes:
        exit_logits: Whether the head must run behind the path that `choose` named for `accept` to
            decide; it then costs once more where the token goes on.
    """

    @property
    def exit_logits(self) -> bool:
        """See the class."""
        ...

    def start(self, rows: int) -> Controller:
        """Return what decides for `rows` conversations."""
        ...


class TakeAll:
    """Base of controllers that decide before a token alone."""

    def accept(self, now: Signals) -> Tensor:
        """Take every token as it is."""
        return torch.full_like(now.path, ACCEPT)


class AskOnce(ABC):
    """Base of controllers that start on path 0 and choose behind it where a token goes on."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._asked = False

    def choose(self, last: Signals | None, position: int) -> Tensor:
        """Start on path 0."""
        self._asked = False
        return torch.zeros(self._rows, dtype=torch.int64)

    @torch.inference_mode()
    def accept(self, now: Signals) -> Tensor:
        """Name the path that `pick` picks, once a token; 0 takes the token as it is."""
        if self._asked:
            return torch.full_like(now.path, ACCEPT)
        self._asked = True
        path = self.pick(now)
        return torch.where(path == 0, ACCEPT, path)

    @abstractmethod
    def pick(self, now: Signals) -> Tensor:
        """Return the path of each row: int64, (rows,)."""


@dataclass(frozen=True)
class Fixed:
    """Always the same path.

    Attributes:
        path: Which.
    """

    path: int
    exit_logits: ClassVar[bool] = False

    def start(self, rows: int) -> Controller:
        """Return it."""
        return _Listed([self.path], rows)


@dataclass(frozen=True)
class Alternating:
    """Two paths in turn: the most switching that there can be."""

    small: int
    large: int
    exit_logits: ClassVar[bool] = False

    def start(self, rows: int) -> Controller:
        """Return it."""
        return _Listed([self.small, self.large], rows)


class _Listed(TakeAll):
    def __init__(self, paths: Sequence[int], rows: int) -> None:
        self._paths, self._rows = paths, rows

    def choose(self, last: Signals | None, position: int) -> Tensor:
        return torch.full((self._rows,), self._paths[position % len(self._paths)])


@dataclass(frozen=True)
class RandomMix:
    """The large path for a share of the tokens, drawn without looking: what others must beat.

    Attributes:
        small: Path of the other tokens.
        large: Path of the share.
        large_share: Probability of the large path.
        seed: Of the draws.
    """

    small: int
    large: int
    large_share: float
    seed: int = 0
    exit_logits: ClassVar[bool] = False

    def start(self, rows: int) -> Controller:
        """Return it, with a generator of its own."""
        return _Random(self, rows)


class _Random(TakeAll):
    def __init__(self, policy: RandomMix, rows: int) -> None:
        self._policy, self._rows = policy, rows
        self._generator = torch.Generator().manual_seed(policy.seed)

    def choose(self, last: Signals | None, position: int) -> Tensor:
        large = torch.rand(self._rows, generator=self._generator) < self._policy.large_share
        return torch.where(large, self._policy.large, self._policy.small)


@dataclass(frozen=True)
class EntropyAdaptive:
    """Entropy Adaptive Decoding (Simonds, arXiv 2502.06833).

    ``H_t = -sum p log2 p`` of the distribution before any temperature; the mean of the last
    `window` of them is compared with the threshold: above it the large path, else the small one.
    A path that was just taken stays for `minimum_stay` tokens.

    The paper runs two models and so knows the entropy of tokens that are drawn already. With nested
    paths the small one's exit lies on the way of the large one: with `ahead`, the token at hand
    starts on the small path, its own entropy enters the mean, and if the mean is too high the same
    token goes on to the large path. What that costs is the head behind the small path.

    Attributes:
        small: Where the text is easy; with `ahead` a prefix of `large`.
        large: Where it is not.
        threshold_bits: tau; the paper sweeps it.
        window: w, tokens in the mean (5 in the paper).
        minimum_stay: Tokens on a path before it may change; 1 allows a change at every token.
        ahead: Whether the entropy of the token at hand is looked at before it is drawn.
    """

    small: int
    large: int
    threshold_bits: float
    window: int = 5
    minimum_stay: int = 1
    ahead: bool = False

    @property
    def exit_logits(self) -> bool:
        """With `ahead`."""
        return self.ahead

    def start(self, rows: int) -> Controller:
        """Return it with no entropies; the first token takes the large path (`ahead`: small)."""
        return _Entropy(self, rows)


class _Entropy:
    def __init__(self, policy: EntropyAdaptive, rows: int) -> None:
        self._policy = policy
        self._entropies: list[Tensor] = []
        self._path = torch.full((rows,), policy.small if policy.ahead else policy.large)
        self._stay = torch.full((rows,), policy.minimum_stay)

    def choose(self, last: Signals | None, position: int) -> Tensor:
        if self._policy.ahead:
            return torch.full_like(self._path, self._policy.small)
        if last is not None:
            self._decide(last.entropy_bits)
        return self._path

    def accept(self, now: Signals) -> Tensor:
        policy = self._policy
        if not policy.ahead:
            return torch.full_like(now.path, ACCEPT)
        large = now.path == policy.large
        # Asked again about the rows that went on, it has decided already.
        if not bool(large.any()):
            self._decide(now.entropy_bits)
        return torch.where((self._path == policy.large) & ~large, policy.large, ACCEPT)

    def _decide(self, entropy_bits: Tensor) -> None:
        policy = self._policy
        self._entropies = [*self._entropies, entropy_bits][-policy.window :]
        mean = torch.stack(self._entropies).mean(dim=0)
        wanted = torch.where(mean > policy.threshold_bits, policy.large, policy.small)
        change = (wanted != self._path) & (self._stay >= policy.minimum_stay)
        self._path = torch.where(change, wanted, self._path)
        self._stay = torch.where(change, 1, self._stay + 1)


@dataclass(frozen=True)
class ConfidenceExit:
    """Exit at the first depth that is sure (Sorted LLaMA, arXiv 2309.08968).

    A token climbs a ladder of paths, each a prefix of the next; behind each but the last, it exits
    if the largest probability is at least the threshold, or, if given, if the stream hardly changed
    across the last layer (the cosine is at least `similarity`: MuE, Tang et al., arXiv 2211.11152).

    Attributes:
        ladder: Paths from small to large.
        thresholds: Least confidence for each path but the last.
        similarity: Least cosine; None: the second criterion is not used.
    """

    ladder: tuple[int, ...]
    thresholds: tuple[float, ...]
    similarity: float | None = None
    exit_logits: ClassVar[bool] = True

    def start(self, rows: int) -> Controller:
        """Return it; there is nothing to remember."""
        return _Ladder(self, rows)


class _Ladder:
    def __init__(self, policy: ConfidenceExit, rows: int) -> None:
        self._policy, self._rows = policy, rows

    def choose(self, last: Signals | None, position: int) -> Tensor:
        return torch.full((self._rows,), self._policy.ladder[0])

    def accept(self, now: Signals) -> Tensor:
        policy = self._policy
        answer = torch.full_like(now.path, ACCEPT)
        steps = zip(policy.ladder, policy.ladder[1:], policy.thresholds, strict=False)
        for path, following, threshold in steps:
            sure = now.confidence >= threshold
            if policy.similarity is not None:
                sure = sure | (now.similarity >= policy.similarity)
            answer = torch.where((now.path == path) & ~sure, following, answer)
        return answer


@dataclass(frozen=True)
class Speculative:
    """Self-speculation (Draft & Verify, arXiv 2309.08168; LayerSkip, arXiv 2404.16710).

    The small path drafts greedily; the large one verifies all of a draft in one run, takes the
    longest prefix that it would have said itself, and adds one token of its own: the output is the
    large path's greedy output. See `nestling.language.speculation`.

    Attributes:
        draft: Path that drafts; a prefix of `verify`, so that nothing of it is computed twice.
        verify: Path whose output it is.
        tokens: Longest draft.
        confidence: A draft ends behind a token of less confidence than this; 0: never.
    """

    draft: int
    verify: int
    tokens: int = 4
    confidence: float = 0.0


@dataclass(frozen=True)
class SoftThinking:
    """Steps that feed an embedding instead of a token, while the model is unsure.

    A soft step feeds the mean of the `top` likeliest tokens' embeddings, weighted by their
    probabilities. Two switches are known:

    - by confidence (ThinkRouter, arXiv 2602.11683): a token where the largest probability is below
      `confidence`, a soft step where it is not;
    - by entropy's trend (SwiReasoning, arXiv 2510.05069): a phase begins with the entropy of its
      first step as reference; soft steps end at once when the entropy falls below it, and begin
      again when it rises above it, after at least `dwell` tokens.

    Attributes:
        trend: Whether the trend switches; otherwise the confidence does.
        confidence: Of ThinkRouter, its tau (a parameter there too, by task).
        dwell: Least tokens between the end of soft steps and the next (512 in SwiReasoning).
        most_switches: Soft phases at most; None: no limit (SwiReasoning's switch count).
        top: Tokens in the mean (10 in Soft Thinking, arXiv 2505.15778).
    """

    trend: bool = False
    confidence: float = 0.5
    dwell: int = 512
    most_switches: int | None = None
    top: int = 10


@dataclass(frozen=True)
class Mode:
    """What a name such as `high` stands for (ThinkDial, arXiv 2508.18773; Star Elastic 2605.07182).

    Attributes:
        name: As users say it.
        thinking_path: Path while thinking.
        answer_path: Path of the answer.
        thinking_tokens: Most tokens of thinking; 0 answers at once.
        prefix: Text that is put before a prompt: a system prompt, or a control token.
    """

    name: str
    thinking_path: int
    answer_path: int
    thinking_tokens: int
    prefix: str = ""


@dataclass(frozen=True)
class Moded:
    """Paths as the mode says; the mode may change in the midst of a generation.

    Attributes:
        modes: To choose from.
        first: Name of the mode at the beginning.
    """

    modes: tuple[Mode, ...]
    first: str
    exit_logits: ClassVar[bool] = False

    def start(self, rows: int) -> ModeSwitch:
        """Return it; `set_mode` changes the mode."""
        return ModeSwitch(self, rows)


class ModeSwitch(TakeAll):
    """`Moded` at work: it counts the tokens of thinking."""

    def __init__(self, policy: Moded, rows: int) -> None:
        self._policy, self._rows = policy, rows
        self._thought = 0
        self.set_mode(policy.first)

    def set_mode(self, name: str) -> None:
        """Change the mode from the next token on; what was thought already counts.

        Raises:
            PathError: There is no such mode.
        """
        named = {mode.name: mode for mode in self._policy.modes}
        if name not in named:
            raise PathError("no such mode", expected=", ".join(named), actual=name)
        self.mode = named[name]

    def answer(self) -> None:
        """End the thinking: the model said so."""
        self._thought = max(mode.thinking_tokens for mode in self._policy.modes)

    def choose(self, last: Signals | None, position: int) -> Tensor:
        """Return the path of thinking until its tokens are used up, then that of the answer."""
        thinking = self._thought < self.mode.thinking_tokens
        self._thought += 1
        path = self.mode.thinking_path if thinking else self.mode.answer_path
        return torch.full((self._rows,), path)
