"""Self-speculation: draft with a small path, verify with a large one, say what the large one says.

Sources: Draft & Verify, arXiv 2309.08168; LayerSkip, arXiv 2404.16710; M2R2, arXiv 2502.02040.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from nestling.elastic import Subnet, Supernet
from nestling.language.decoder import EagerDecoder, measure_logits
from nestling.language.policies import Speculative


@dataclass
class SpeculationCounts:
    """What happened.

    Attributes:
        tokens: That were said.
        drafted: That were drafted.
        accepted: Drafted tokens that were said.
        verified: Tokens in each run of the verifying path.
        by_draft_token: Whether each token that was said was drafted.
    """

    tokens: list[int] = field(default_factory=list)
    drafted: int = 0
    accepted: int = 0
    verified: list[int] = field(default_factory=list)
    by_draft_token: list[bool] = field(default_factory=list)

    @property
    def acceptance(self) -> float:
        """Share of drafted tokens that were said."""
        return self.accepted / max(1, self.drafted)


def speculate(
    supernet: Supernet,
    prompt: Sequence[int],
    paths: Sequence[Subnet],
    policy: Speculative,
    count: int,
) -> SpeculationCounts:
    """Continue a prompt with the verifying path's greedy tokens.

    A draft never gets past the context's end. Verification feeds the token before the draft and the
    draft itself in one run, which also leaves the verifying path's state of all of them; what was
    refused is forgotten by moving the position back.

    Args:
        supernet: A decoder.
        prompt: At least one token.
        paths: What the policy's numbers mean.
        policy: Its parameters.
        count: Tokens to say.
    """
    draft, verify = paths[policy.draft], paths[policy.verify]
    decoder = EagerDecoder(supernet)
    if len(prompt) > 1:
        decoder.feed(torch.tensor([prompt[:-1]]), verify)
    counts = SpeculationCounts()
    token = prompt[-1]
    while len(counts.tokens) < count:
        start = decoder.position
        room = min(policy.tokens, count - len(counts.tokens) - 1, decoder.capacity - start - 1)
        drafted: list[int] = []
        following = token
        while len(drafted) < room:
            logits = decoder.feed(torch.tensor([[following]]), draft)[0, -1]
            following = int(logits.argmax())
            drafted.append(following)
            if float(measure_logits(logits)[1]) < policy.confidence:
                break
        decoder.rewind(start)
        said = decoder.feed(torch.tensor([[token, *drafted]]), verify)[0].argmax(dim=-1).tolist()
        right = next(
            (
                i
                for i, (ours, theirs) in enumerate(zip(drafted, said, strict=False))
                if ours != theirs
            ),
            len(drafted),
        )
        decoder.rewind(start + right + 1)
        counts.tokens += said[: right + 1]
        counts.by_draft_token += [True] * right + [False]
        counts.drafted += len(drafted)
        counts.accepted += right
        counts.verified.append(len(drafted) + 1)
        token = said[right]
    return counts
