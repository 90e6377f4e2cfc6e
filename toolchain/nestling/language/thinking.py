"""Steps that feed a mean of embeddings instead of a token: soft thinking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nestling.elastic import Subnet, Supernet
from nestling.language.decoder import EagerDecoder, measure_logits
from nestling.language.policies import SoftThinking


@dataclass(frozen=True)
class Thought:
    """One step.

    Attributes:
        token: The likeliest, which was fed or would have been.
        soft: Whether the mean was fed instead.
        entropy_bits: Of the distribution.
    """

    token: int
    soft: bool
    entropy_bits: float


class SoftSwitch:
    """Decides for each step whether it is soft.

    Args:
        policy: Its parameters.
    """

    def __init__(self, policy: SoftThinking) -> None:
        self._policy = policy
        self._soft = True
        self._reference: float | None = None
        self._stay = 0
        self.switches = 0

    def decide(self, entropy_bits: float, confidence: float) -> bool:
        """Return whether the step that follows from this distribution is soft."""
        if not self._policy.trend:
            return confidence >= self._policy.confidence
        if self._reference is None:
            self._reference = entropy_bits
            return self._soft
        self._stay += 1
        most = self._policy.most_switches
        locked = most is not None and self.switches >= most
        falls = self._soft and entropy_bits < self._reference
        rises = not self._soft and entropy_bits > self._reference
        if falls or (rises and self._stay >= self._policy.dwell and not locked):
            self.switches += int(falls)
            self._soft = not self._soft
            self._reference, self._stay = entropy_bits, 0
        return self._soft


def soft_embedding(logits: Tensor, embedding: Tensor, top: int) -> Tensor:
    """Return the mean embedding of the `top` likeliest tokens, weighted by their probabilities.

    Args:
        logits: (..., vocabulary).
        embedding: (vocabulary, dim).
        top: How many; their probabilities are brought to a sum of 1.

    Returns:
        (..., dim).
    """
    best = torch.softmax(logits.float(), dim=-1).topk(min(top, logits.shape[-1]), dim=-1)
    weights = best.values / best.values.sum(dim=-1, keepdim=True)
    return (weights[..., None] * embedding[best.indices]).sum(dim=-2)


@torch.inference_mode()
def think(
    supernet: Supernet,
    prompt: Sequence[int],
    path: Subnet,
    policy: SoftThinking,
    count: int,
) -> list[Thought]:
    """Continue a prompt with soft and ordinary steps, the ordinary ones greedy.

    Raises:
        PathError: The context is full.
    """
    decoder = EagerDecoder(supernet)
    table: Tensor = supernet.stem.embedding.weight  # type: ignore[union-attr, assignment]
    switch = SoftSwitch(policy)
    logits = decoder.feed(torch.tensor([list(prompt)]), path)[0, -1]
    thoughts: list[Thought] = []
    while len(thoughts) < count:
        entropy, confidence, _ = (float(value) for value in measure_logits(logits))
        soft = switch.decide(entropy, confidence)
        token = int(logits.argmax())
        thoughts.append(Thought(token, soft, entropy))
        if len(thoughts) < count:
            fed = soft_embedding(logits, table, policy.top) if soft else table[token]
            logits = decoder.feed_stream(fed[None, None], path)[0, -1]
    return thoughts
