"""Decoders whose tokens visit the same layers again and again (Mixture-of-Recursions).

Source: Bae et al., "Mixture-of-Recursions: learning dynamic recursive depths for adaptive
token-level computation", arXiv 2507.10524. Of its ways to share layers this is the cycle behind
first layers of their own. Layers of their own at the end would stand between an exit and the head,
and an exit would be no prefix of what goes on behind it.

A path is a number of visits, so choosing it for each token is what every policy does. Differences
from the paper: a router's score is not multiplied into the stream, so that what a path computes
does not depend on who chose it; and a token that stops early leaves rows in the caches of visits
that it does not make as a state rule says, where the paper leaves a hole.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from nestling.elastic.attention import ElasticAttention
from nestling.elastic.block import ElasticBlock
from nestling.elastic.families.llama import ElasticLlama
from nestling.elastic.families.recursive_blocks import AttentionVisit, FeedForwardVisit, KeptState
from nestling.elastic.feed_forward import ElasticFeedForward
from nestling.elastic.subnet import FULL, Subnet, make_space
from nestling.errors import ModelError

VISIT_NAMES = ("once", "twice", "thrice")


class VisitRouter(nn.Module):
    """Says for a token how often it visits the shared layers, from the stream behind the first.

    Token-choice: each token is judged by itself. The paper's other kind, expert-choice, lets each
    visit pick the best tokens of a whole sequence. Whether a token is among them depends on tokens
    behind it, which do not exist yet when a decoder must decide.

    Args:
        dim: Width of the stream.
        visits: The most.
        hidden: Neurons.
    """

    def __init__(self, dim: int, visits: int, hidden: int = 64) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(dim, elementwise_affine=False)
        self.hidden = nn.Linear(dim, hidden)
        self.output = nn.Linear(hidden, visits)

    def forward(self, stream: Tensor) -> Tensor:
        """Return scores, (..., visits), of (..., dim); a token takes the largest."""
        scores: Tensor = self.output(F.silu(self.hidden(self.norm(stream))))
        return scores


class RecursiveLlama(ElasticLlama):
    """An `ElasticLlama` whose last layers are visits of the same ones.

    The chain is `first_layers` layers, then `shared_layers` layers `visits` times. First layers and
    first visit always run; attention has one level, so that caches do for all paths.

    Args:
        first_layers: Layers of their own, visited once.
        shared_layers: Layers of the group that is visited.
        visits: The most.
        shares_state: Whether later visits attend to the first visit's keys and values (the paper's
            recursive sharing: one cache, and no state rule is needed) instead of their own (its
            recursion-wise caching: one cache for each visit).
        **llama: What `ElasticLlama` takes, but for what decides depth, core and heads' widths.

    Attributes:
        router: Trained with the network, see `nestling.language.recursion`.
        visits: The most.
        shared: Blocks before the shared layers, and of one visit.

    Raises:
        ModelError: Nothing is shared, or nothing visited twice.
    """

    def __init__(
        self,
        *,
        first_layers: int = 1,
        shared_layers: int = 1,
        visits: int = 3,
        shares_state: bool = False,
        **llama: Any,
    ) -> None:
        if first_layers < 0 or shared_layers < 1 or visits < 2:
            raise ModelError(
                "recursion needs a shared layer that is visited twice at least",
                expected="first_layers >= 0, shared_layers >= 1, visits >= 2",
                actual=(first_layers, shared_layers, visits),
            )
        depth = first_layers + shared_layers * visits
        super().__init__(**llama, depth=depth, heads_widths=(1.0,), early_exit=True)
        self.visits = visits
        self.shared = (2 * first_layers, 2 * shared_layers)
        chain, kept = self.chain, [KeptState() for _ in range(shared_layers)]
        first, count = self.shared
        for index, block in enumerate(chain):
            block.skippable = index >= first + count
            if index >= first:
                source = chain[first + (index - first) % count]
                visit = 1 + (index - first) // count
                state = kept[(index - first) % count // 2] if shares_state else None
                self.blocks[index] = _visit(source, visit, block, state)
        specs = [block.spec for block in self.chain]
        depths = [first_layers + shared_layers * visit for visit in range(1, visits + 1)]
        self.space = make_space(specs, depths, self._named(last=FULL), early_exit=True)
        self.select(self.space.full())
        self.router = VisitRouter(self.stem.embedding.embedding_dim, visits)  # type: ignore[union-attr, arg-type]
        self.family = "recursive_llama"
        self.config = {
            "family": self.family,
            "first_layers": first_layers,
            "shared_layers": shared_layers,
            "visits": visits,
            "shares_state": shares_state,
            **llama,
        }

    def visit_paths(self) -> dict[str, Subnet]:
        """Return the paths by number of visits: `once`, `twice`, `thrice`, `visits4`, ..."""
        return self._named(last=_visit_name(self.visits))

    def _named(self, last: str) -> dict[str, Subnet]:
        first, count = self.shared
        full = [block.spec.levels for block in self.chain]
        named = {}
        for visit in range(1, self.visits + 1):
            end = first + count * visit
            name = last if visit == self.visits else _visit_name(visit)
            named[name] = Subnet((*full[:end], *(0 for _ in full[end:])))
        return named


def _visit_name(visit: int) -> str:
    return VISIT_NAMES[visit - 1] if visit <= len(VISIT_NAMES) else f"visits{visit}"


def _visit(
    source: ElasticBlock, visit: int, place: ElasticBlock, kept: KeptState | None
) -> ElasticBlock:
    """Return a visit of a block that takes another one's place."""
    name = source.name if visit == 1 else f"{source.name}.visit{visit}"
    if isinstance(source, ElasticAttention):
        return AttentionVisit(
            source, visit, name=name, layer=place.layer, skippable=place.skippable, kept=kept
        )
    assert isinstance(source, ElasticFeedForward)
    return FeedForwardVisit(source, visit, name=name, layer=place.layer, skippable=place.skippable)
