"""Modes: how long and by which paths a model thinks, and by which it answers.

A mode is a text that is put before a turn (a system prefix, or a control token), a budget of tokens
for thinking, and a policy for each of both (ThinkDial, arXiv:2508.18773: high, medium and low).
What opens and closes a thought are texts of the model's own. It can be changed at any token::

    turn = Turn(generator, MODES["high"])
    for step in turn.write("What is 17 * 23?"):
        print(step.piece.text, end="")
        if user_is_impatient():
            turn.mode = MODES["low"]      # from the next token on
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from nestling_runtime.errors import EngineError
from nestling_runtime.generation import Piece
from nestling_runtime.token_policy import Changeable, FixedPath, TokenPolicy

if TYPE_CHECKING:
    from nestling_runtime.decoder import Sampling, Token
    from nestling_runtime.generation import TextGenerator

Phase = Literal["thinking", "answering"]


@dataclass(frozen=True)
class Mode:
    """How a turn is thought about and answered.

    Attributes:
        name: What users call it.
        answering: Policy of the answer; a name: always that path; None: the largest.
        answer_tokens: An answer has at most so many.
        prefix: Text before the turn; written when the mode becomes the conversation's.
        thinking: Policy of the thought; as `answering`.
        thinking_tokens: A thought has at most so many; 0: there is none.
        opening: Text that opens a thought.
        closing: Text that closes it: the model writes it, or it is written when the budget is used.
    """

    name: str
    answering: TokenPolicy | str | None = None
    answer_tokens: int = 128
    prefix: str = ""
    thinking: TokenPolicy | str | None = None
    thinking_tokens: int = 0
    opening: str = ""
    closing: str = ""

    def __post_init__(self) -> None:
        """Refuse a thought that nothing can end, and budgets that are none."""
        if self.answer_tokens < 1 or self.thinking_tokens < 0:
            raise EngineError(f"mode {self.name!r} has a budget that is no number of tokens")
        if self.thinking_tokens and not 1 <= len(self.closing.encode()) <= 64:
            raise EngineError(
                f"mode {self.name!r} thinks, so a text of 1 to 64 bytes must close its thoughts"
            )


@dataclass(frozen=True)
class Step:
    """A piece of a turn.

    Attributes:
        piece: The text; its token is None where it was not made but written.
        phase: What it is part of.
    """

    piece: Piece
    phase: Phase


class Turn:
    """A turn of a conversation, thought and answer, whose mode may change while it is written.

    Args:
        generator: The conversation.
        mode: Of the turn.
        sampling: How to draw; default: the most probable token.
        stop: Texts that end the answer.

    Attributes:
        phase: What is being written, or would be if the turn went on; None: it is finished.
    """

    def __init__(
        self,
        generator: TextGenerator,
        mode: Mode,
        *,
        sampling: Sampling | None = None,
        stop: Sequence[str] = (),
    ) -> None:
        self.generator = generator
        self.sampling = sampling
        self.stop = tuple(stop)
        self.phase: Phase | None = None
        self._lock = threading.Lock()
        self._mode = mode
        self._made = 0  # tokens of this phase
        self._closing = ""  # of the thought that has begun
        self._policy = Changeable(self._policy_of(mode, "answering"))

    @property
    def mode(self) -> Mode:
        """The mode; set it to change budget and policies from the next token on."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        with self._lock:
            self._mode = mode
            self._policy.policy = self._policy_of(mode, self.phase or "answering")

    def write(self, text: str) -> Generator[Step, None, None]:
        """Say a text, think if the mode does, and answer; yields what is written, as it is made.

        Raises:
            ContextError: The text does not fit, or the context is full.
            NestlingError: As `Decoder.generate`.
        """
        mode = self.mode
        self.generator.append(text + (mode.opening if mode.thinking_tokens else ""))
        self.phase = "thinking" if mode.thinking_tokens else "answering"
        self._made = 0
        self._closing = mode.closing
        yield from self.resume()

    def resume(self) -> Generator[Step, None, None]:
        """Go on with a turn that was left, whatever its mode is now; none: nothing happens.

        Raises:
            NestlingError: See `write`.
        """
        if self.phase == "thinking":
            yield from self._think()
        if self.phase == "answering":
            yield from self._go_on("answering", self.stop)
            self.phase = None

    def again(self) -> None:
        """Let `resume` write on behind an answer that is finished, with the budget of another."""
        self.phase = "answering"
        self._made = 0

    def abandon(self) -> None:
        """Forget a turn that was left: `resume` then does nothing."""
        self.phase = None

    def _think(self) -> Iterator[Step]:
        self.generator.last = None
        yield from self._go_on("thinking", [self._closing])
        last = self.generator.last
        if last is None or last.reason != "text":
            self.generator.append(self._closing)
            yield Step(Piece(self._closing, None), "thinking")
        self.phase = "answering"
        self._made = 0

    def _go_on(self, phase: Phase, stop: Sequence[str]) -> Iterator[Step]:
        with self._lock:
            self._policy.policy = self._policy_of(self._mode, phase)
        if self._left(phase) <= 0:
            return
        pieces = self.generator.write(
            policy=self._policy,
            max_tokens=self.generator.decoder.context_tokens,
            sampling=self.sampling,
            stop=stop,
            stop_when=self._count,
        )
        with closing(pieces):
            for piece in pieces:
                yield Step(piece, phase)

    def _count(self, _: Token) -> bool:
        self._made += 1
        return self._left(self.phase or "answering") <= 0

    def _left(self, phase: Phase) -> int:
        mode = self.mode
        budget = mode.thinking_tokens if phase == "thinking" else mode.answer_tokens
        return budget - self._made

    def _policy_of(self, mode: Mode, phase: Phase) -> TokenPolicy:
        chosen = mode.thinking if phase == "thinking" else mode.answering
        if isinstance(chosen, TokenPolicy):
            return chosen
        return FixedPath(chosen or self.generator.decoder.path_names[-1])
