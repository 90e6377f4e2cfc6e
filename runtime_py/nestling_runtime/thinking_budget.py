"""Thinking with a budget, then answering, in one generation: a mode as the native loop runs it.

`nestling_runtime.modes` is the same for conversations in text, with prefixes and stop texts.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import byref
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nestling_runtime import decoder_abi, native
from nestling_runtime.errors import EngineError
from nestling_runtime.token_policy import NativePolicy, TokenPolicy, as_policy, use

if TYPE_CHECKING:
    from nestling_runtime.decoder import Decoder


@dataclass(frozen=True)
class ThinkingBudget(TokenPolicy):
    """One policy while the model thinks, another while it answers (ThinkDial, arXiv:2508.18773).

    A generation begins in the midst of a thought. It is closed by the model, which writes the
    closing tokens, or when the budget is used: then they are forced. A thought is not drafted.

    Args:
        closing: Tokens that close a thought, at least one.
        tokens: Of a thought at most, closing tokens aside; 0 closes it at once.
        thinking: Policy of the thought; a name: always that path; None: the largest.
        answering: As `thinking`, of what follows.
    """

    closing: Sequence[int]
    tokens: int
    thinking: TokenPolicy | str | None = None
    answering: TokenPolicy | str | None = None

    def prepare(self, decoder: Decoder) -> None:
        """See `TokenPolicy`."""
        for policy in (self.thinking, self.answering):
            as_policy(policy, decoder).prepare(decoder)

    def bind(self, decoder: Decoder) -> NativePolicy:
        """See `TokenPolicy`."""
        if not all(0 <= token < decoder.vocabulary_size for token in self.closing):
            raise EngineError(
                "the tokens that close a thought are not the model's",
                expected=f"0..{decoder.vocabulary_size - 1}",
                actual=list(self.closing),
            )
        thinking = as_policy(self.thinking, decoder).bind(decoder)
        answering = as_policy(self.answering, decoder).bind(decoder)
        closing = (ctypes.c_uint32 * len(self.closing))(*self.closing)
        raw = decoder_abi.ModePolicy(
            thinking.raw, answering.raw, max(0, self.tokens), len(closing), closing
        )
        accepted = self.tokens >= 0 and native.library().nst_mode_policy_init(byref(raw))
        bound = use("nst_mode_policy_use", raw, accepted, thinking, answering)
        bound.keep.append(closing)
        return bound
