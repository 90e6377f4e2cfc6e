"""What switching at every token is worth: each policy's quality against the compute it takes.

Everything is measured in eager torch on held-out text, with thresholds that were fitted on other
text. Compute is counted in multiply-accumulates; what it is in time, the native runtime says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from nestling.bench.language_fit import (
    fit_confidence,
    fit_entropy,
    fit_entropy_ahead,
    some_windows,
)
from nestling.bench.language_plot import ColoredText
from nestling.bench.language_records import (
    STATE_SHARE,
    LanguageResult,
    PolicyRow,
    SpeculationRow,
)
from nestling.elastic import Subnet, Supernet
from nestling.language.bits import Windows, bits_per_byte, cut_windows, score_subnet, token_bits
from nestling.language.corpus import KINDS, Kind, Split, load_corpus
from nestling.language.costs import TokenCosts
from nestling.language.decoder import StateRule
from nestling.language.policies import (
    ConfidenceExit,
    EntropyAdaptive,
    Fixed,
    RandomMix,
    Speculative,
    TokenPolicy,
)
from nestling.language.router import (
    list_routes,
    pick_routes,
    random_routes,
    score_routes,
    train_router,
)
from nestling.language.running import (
    PathTable,
    PolicyRun,
    follow_exits,
    follow_text,
    read_paths,
    write_greedily,
)
from nestling.language.speculation import speculate
from nestling.language.tokenizer import encode_stream, token_bytes

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LENGTH = 256
FULL_SHARE = 0.43
LOSS_RATIO = 1.01
# Fitted a little inside of what is judged, so that other text stays inside too.
_FITTED_LOSS_RATIO = 1.0 + 0.8 * (LOSS_RATIO - 1.0)
# What needs a loop over tokens is fitted on fewer.
_WINDOWS_LOOPED = 12


class LanguageBench:
    """The model, its text, and what tiny and full make of it.

    Args:
        supernet: Trained; its smallest subnet is a prefix of all others.
        tokenizer: Its tokenizer.
        windows: Windows of each kind, for fitting and for judging.
        say: Told what is being done.
    """

    def __init__(
        self,
        supernet: Supernet,
        tokenizer: Tokenizer,
        *,
        windows: int = 24,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.supernet = supernet.eval()
        self.tokenizer = tokenizer
        self.say = say
        self.paths = list(supernet.space.named.values())
        self.names = list(supernet.space.named)
        self.tiny, self.full = 0, len(self.paths) - 1
        self.table = PathTable(supernet, self.paths)
        self.costs = TokenCosts(supernet)
        self.fitting = self._windows("validation", windows)
        self.judging = self._windows("held-out", windows)
        self._loss = {
            path: self._bits_per_byte(score_subnet(supernet, self.paths[path], self.judging)[0])
            for path in (self.tiny, self.full)
        }
        self.result = LanguageResult(
            full_macs=float(self.costs.token(self.paths[self.full])),
            where=(
                f"eager torch, teacher-forced, {self.judging.tokens.numel():,} held-out tokens "
                f"({' and '.join(KINDS)}) in windows of {LENGTH}"
            ),
        )

    def _windows(self, split: Split, count: int) -> Windows:
        documents = load_corpus(split)
        texts = {kind: encode_stream(self.tokenizer, documents, kind) for kind in KINDS}
        sizes = token_bytes(self.tokenizer)
        return cut_windows(texts, sizes, length=LENGTH, count=count)

    @cached_property
    def entropy(self) -> EntropyAdaptive:
        """The rolling entropy, fitted to `FULL_SHARE`."""
        return fit_entropy_ahead(
            self.supernet, self.fitting, self.paths, self.tiny, self.full, FULL_SHARE
        )

    @cached_property
    def confidence(self) -> ConfidenceExit:
        """The exit by confidence, fitted to `LOSS_RATIO`."""
        return fit_confidence(
            self.supernet, self.fitting, self.paths, self.tiny, self.full, _FITTED_LOSS_RATIO
        )

    def measure(self) -> LanguageResult:
        """Measure everything."""
        self.measure_policies()
        self.measure_states()
        self.measure_routes()
        self.measure_speculation()
        return self.result

    def measure_policies(self) -> None:
        """Fixed paths, then every policy beside a random mix of the same share."""
        supernet, paths, tiny, full = self.supernet, self.paths, self.tiny, self.full
        for path, name in enumerate(self.names):
            self.say(f"path {name}")
            self._follow(name, Fixed(path))
        self.say("entropy")
        ahead = self.entropy
        run = self._follow(
            "entropy", ahead, f"threshold {ahead.threshold_bits:.2f} bits, window {ahead.window}"
        )
        self._follow("random", RandomMix(tiny, full, run.share(full)), "share of entropy")
        self._follow(
            "entropy-recompute",
            ahead,
            "as entropy, skipped layers recomputed in batches",
            partial(follow_exits, rule=StateRule.RECOMPUTE),
        )
        self.say("entropy, of tokens before")
        few = some_windows(self.fitting, _WINDOWS_LOOPED)
        paper = fit_entropy(supernet, few, paths, tiny, full, FULL_SHARE)
        self._follow(
            "entropy-past",
            paper,
            f"threshold {paper.threshold_bits:.2f} bits, window {paper.window}",
            follow_text,
        )
        self.say("confidence")
        threshold = self.confidence.thresholds[0]
        self._follow("confidence", self.confidence, f"threshold {threshold:.3f}")

    def measure_states(self) -> None:
        """What is lost by having switched, at tokens on the full path, for every state rule."""
        self.say("state rules")
        windows, supernet = self.judging, self.supernet
        space, full = supernet.space, self.paths[self.full]
        generator = torch.Generator().manual_seed(0)
        on_full = torch.rand(windows.tokens.shape, generator=generator) < STATE_SHARE
        never = score_subnet(supernet, full, windows)[1]
        narrow = space.uniform(1)
        skipped = len(full.levels) // 2 - sum(
            level > 0 for level in self.paths[self.tiny].levels[::2]
        )
        full_tail = float(self.table.blocks[self.full] - self.table.blocks[self.tiny])
        cases: list[tuple[str, Subnet, StateRule, float]] = [
            ("keep", narrow, StateRule.PROPAGATE, 0.0),
            (
                "propagate",
                self.paths[self.tiny],
                StateRule.PROPAGATE,
                skipped * self.costs.propagate,
            ),
            ("share", self.paths[self.tiny], StateRule.SHARE, 0.0),
            ("recompute", self.paths[self.tiny], StateRule.RECOMPUTE, full_tail),
        ]
        for name, other, rule, macs in cases:
            logits = read_paths(supernet, windows, [other, full], on_full.long(), rule)[on_full]
            reference = never[on_full]
            divergence = F.kl_div(
                F.log_softmax(logits, -1),
                F.log_softmax(reference, -1),
                reduction="batchmean",
                log_target=True,
            )
            agreement = (logits.argmax(-1) == reference.argmax(-1)).double().mean()
            self.result.states[name] = (
                float(divergence) / math.log(2.0),
                float(agreement),
                float(macs),
            )

    def measure_routes(self) -> None:
        """Duo-LLM: random routes, the router's, and the oracle's, at the same mean compute."""
        self.say("routes")
        supernet = self.supernet
        routes = list_routes(supernet)
        table = PathTable(supernet, routes)
        costs = (table.blocks + table.state + table.head).double()
        router = train_router(score_routes(supernet, self.fitting))
        judged = self.judging
        scores = score_routes(supernet, judged)
        mean_cost = float(0.5 * (costs[0] + costs[-1]))
        shape = judged.tokens.shape
        picks = {
            "routes-random": random_routes(costs, mean_cost, judged.tokens.numel()),
            "routes-router": pick_routes(
                router(scores.streams).detach(), costs, mean_cost - router.macs
            )[0],
            "routes-oracle": pick_routes(scores.expected_bits, costs, mean_cost)[0],
            "routes-answers": pick_routes(scores.bits, costs, mean_cost)[0],
        }
        ends = {
            path: bits_per_byte(score_subnet(supernet, routes[path], judged)[0], judged.sizes)
            for path in (0, len(routes) - 1)
        }
        for name, route in picks.items():
            logits = read_paths(supernet, judged, routes, route.reshape(shape))
            loss = bits_per_byte(token_bits(logits, judged.targets), judged.sizes)
            first, last = ends[0], ends[len(routes) - 1]
            self.result.routes.append(
                PolicyRow(
                    name,
                    loss,
                    float((route == len(routes) - 1).double().mean()),
                    (first - loss) / (first - last),
                    float(costs[route].mean()) + (router.macs if name == "routes-router" else 0),
                    f"{len(routes)} routes, {len(route):,} tokens",
                )
            )

    def measure_speculation(
        self, prompts: int = 6, prompt_tokens: int = 64, count: int = 96, draft_tokens: int = 4
    ) -> None:
        """Continue held-out text greedily, with drafts and without."""
        policy = Speculative(self.tiny, self.full, draft_tokens)
        draft = float(self.table.blocks[self.tiny] + self.table.head)
        for kind in KINDS:
            self.say(f"speculation, {kind}")
            rows = self._rows(kind)[:prompts]
            drafted = accepted = runs = said = verified = 0
            identical = True
            for row in rows:
                prompt = self.judging.tokens[row, :prompt_tokens].tolist()
                counts = speculate(self.supernet, prompt, self.paths, policy, count)
                greedy = write_greedily(self.supernet, prompt, self.paths, Fixed(self.full), count)
                identical &= counts.tokens == [one.token for one in greedy]
                drafted += counts.drafted
                accepted += counts.accepted
                runs += len(counts.verified)
                said += len(counts.tokens)
                verified += sum(counts.verified)
            # What the draft has computed of the full path is not computed again.
            shared = float(self.table.blocks[self.tiny])
            spent = drafted * draft + verified * self.result.full_macs - drafted * shared
            self.result.speculation.append(
                SpeculationRow(
                    kind,
                    accepted / max(1, drafted),
                    said / runs,
                    identical,
                    said * self.result.full_macs / spent,
                )
            )

    def _rows(self, kind: Kind) -> list[int]:
        return [row for row, one in enumerate(self.judging.kinds) if one == kind]

    def prompts(self, count: int = 3, length: int = 64) -> list[list[int]]:
        """Return the beginnings of held-out texts, `count` of each kind, `length` tokens each."""
        return [
            self.judging.tokens[row, :length].tolist()
            for kind in KINDS
            for row in self._rows(kind)[:count]
        ]

    def color_text(self, length: int = 600) -> list[ColoredText]:
        """Read a held-out text of each kind under `entropy`, for the picture."""
        texts = []
        for kind in KINDS:
            rows = self._rows(kind)
            row = rows[len(rows) // 2]
            part = slice(row, row + 1)
            one = Windows(
                self.judging.tokens[part],
                self.judging.targets[part],
                self.judging.sizes[part],
                (kind,),
            )
            run = follow_exits(self.supernet, one, self.paths, self.entropy)
            pieces = [self.tokenizer.decode([token]) for token in one.targets[0].tolist()]
            on_full = (run.path[0] == self.full).tolist()
            texts.append(ColoredText(kind, pieces[:length], on_full[:length]))
        return texts

    def _follow(
        self,
        name: str,
        policy: TokenPolicy,
        detail: str = "",
        follow: Callable[[Supernet, Windows, Sequence[Subnet], TokenPolicy], PolicyRun] = (
            follow_exits
        ),
    ) -> PolicyRun:
        run = follow(self.supernet, self.judging, self.paths, policy)
        self.result.rows.append(self._row(name, run.bits, run.share(self.full), run.macs, detail))
        return run

    def _row(self, name: str, bits: Tensor, share: float, macs: Tensor, detail: str) -> PolicyRow:
        loss, tiny, full = self._bits_per_byte(bits), self._loss[self.tiny], self._loss[self.full]
        return PolicyRow(
            name, loss, share, (tiny - loss) / (tiny - full), float(macs.double().mean()), detail
        )

    def _bits_per_byte(self, bits: Tensor) -> float:
        return bits_per_byte(bits, self.judging.sizes)
