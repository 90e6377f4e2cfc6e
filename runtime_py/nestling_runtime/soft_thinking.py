"""Soft thinking: steps that feed the mean of likely tokens in the place of one."""

from __future__ import annotations

from ctypes import byref
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nestling_runtime import decoder_abi, native
from nestling_runtime.errors import EngineError
from nestling_runtime.token_policy import NativePolicy, TokenPolicy, as_policy, use

if TYPE_CHECKING:
    from nestling_runtime.decoder import Decoder


@dataclass(frozen=True)
class SoftThinking(TokenPolicy):
    """Another policy, and steps that feed a mean of embeddings (Soft Thinking, arXiv:2505.15778).

    Two switches are known:

    - by confidence (ThinkRouter, arXiv:2602.11683): a soft step where the largest probability is at
      least `confidence`, the token itself where it is not;
    - by entropy's trend (SwiReasoning, arXiv:2510.05069): soft steps at first. The entropy behind
      which a phase began is its reference; soft steps end at once when the entropy falls below it,
      and begin again when it rises above it, `dwell` tokens after they ended at the earliest.

    A token that follows a soft step tells so in `Token.soft_tokens`; what stands in the
    conversation is the token that was drawn. The first token of a generation is never behind a soft
    step.

    Args:
        inner: Picks the paths; a name: always that path; None: the largest.
        trend: Whether the trend switches; otherwise the confidence does.
        confidence: Of ThinkRouter: its tau; above 1: never soft.
        dwell: Least tokens between the end of soft steps and the next (512 in SwiReasoning).
        most_switches: Ends of soft phases before there are no more; None: no limit.
        top: Tokens in a mean, 1 to 16 (10 in Soft Thinking).
    """

    inner: TokenPolicy | str | None = None
    trend: bool = False
    confidence: float = 0.5
    dwell: int = 512
    most_switches: int | None = None
    top: int = 10

    def prepare(self, decoder: Decoder) -> None:
        """See `TokenPolicy`."""
        as_policy(self.inner, decoder).prepare(decoder)

    def bind(self, decoder: Decoder) -> NativePolicy:
        """See `TokenPolicy`."""
        if not 1 <= self.top <= decoder_abi.SOFT_MAX:
            raise EngineError(
                "a mean cannot have so many tokens",
                expected=f"1..{decoder_abi.SOFT_MAX}",
                actual=self.top,
            )
        if not self.confidence >= 0:
            raise EngineError(
                "a confidence is not negative", expected="at least 0", actual=self.confidence
            )
        inner = as_policy(self.inner, decoder).bind(decoder)
        raw = decoder_abi.SoftPolicy(
            decides=decoder_abi.SOFT_SWITCHES.index("trend" if self.trend else "confidence"),
            confidence=self.confidence,
            dwell=self.dwell,
            most_switches=0xFFFF_FFFF if self.most_switches is None else self.most_switches,
            tokens=self.top,
        )
        accepted = native.library().nst_soft_policy_init(byref(raw), byref(inner.raw))
        return use("nst_soft_policy_use", raw, accepted, inner)
