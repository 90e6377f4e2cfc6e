"""What is measured of a language model and its policies, and how it becomes records."""

from __future__ import annotations

from dataclasses import dataclass, field

from nestling.bench.records import Record
from nestling.language.corpus import Kind

STATE_SHARE = 0.5
"""Share of tokens on the full path where state rules are compared."""


@dataclass(frozen=True)
class PolicyRow:
    """One policy on the held-out text.

    Attributes:
        policy: Its name.
        bits_per_byte: Of the text.
        full_share: Share of tokens drawn from the full path; of routes, of whole compute.
        gap_recovered: (loss of tiny - loss of policy) / (loss of tiny - loss of full).
        macs: Multiply-accumulates for a token, on average.
        detail: Parameters.
    """

    policy: str
    bits_per_byte: float
    full_share: float
    gap_recovered: float
    macs: float
    detail: str = ""


@dataclass(frozen=True)
class SpeculationRow:
    """Self-speculation on prompts of one kind.

    Attributes:
        kind: Of the prompts.
        acceptance: Share of drafted tokens that the full path would have said.
        tokens_per_run: Tokens for each run of the full path.
        identical: Whether the output was the full path's greedy output, token by token.
        mac_speedup: Of tokens, if a verification of n tokens took n times one token's work: what
            compute alone would say; runs of many tokens are cheaper than that.
    """

    kind: Kind
    acceptance: float
    tokens_per_run: float
    identical: bool
    mac_speedup: float


@dataclass
class LanguageResult:
    """All that was measured.

    Attributes:
        rows: Policies.
        routes: Duo-LLM's three rows: random, router, oracle.
        states: State rule -> (divergence in bits, agreement, macs for a skipped token).
        speculation: By kind.
        full_macs: Of a token on the full path.
        where: What somebody needs to measure it again.
    """

    rows: list[PolicyRow] = field(default_factory=list)
    routes: list[PolicyRow] = field(default_factory=list)
    states: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    speculation: list[SpeculationRow] = field(default_factory=list)
    full_macs: float = 0.0
    where: str = ""


def language_records(result: LanguageResult) -> list[Record]:
    """Return the result as records; `model` is the policy."""
    records: list[Record] = []

    def add(
        metric: str,
        value: float,
        unit: str,
        model: str,
        baseline: float | None = None,
        ratio: float | None = None,
        note: str = "",
    ) -> None:
        where = f"{result.where}; {note}" if note else result.where
        records.append(Record(metric, value, unit, baseline, ratio, None, model, where))

    full = next(row for row in result.rows if row.policy == "full")
    for row in [*result.rows, *result.routes]:
        loss = row.bits_per_byte
        add(
            "bits_per_byte",
            loss,
            "bit",
            row.policy,
            full.bits_per_byte,
            loss / full.bits_per_byte,
            row.detail,
        )
        add("full_share", row.full_share, "1", row.policy, ratio=row.full_share, note=row.detail)
        add(
            "gap_recovered",
            row.gap_recovered,
            "1",
            row.policy,
            ratio=row.gap_recovered,
            note=row.detail,
        )
        add(
            "mac_speedup",
            result.full_macs / row.macs,
            "1",
            row.policy,
            result.full_macs,
            result.full_macs / row.macs,
            "multiply-accumulates of a token, full over policy",
        )
    for rule, (divergence, agreement, macs) in result.states.items():
        note = f"tokens on full, the others ({STATE_SHARE:.0%}) on the small path"
        add("state_divergence", divergence, "bit", rule, note=note)
        add("state_agreement", agreement, "1", rule, note=note)
        add(
            "state_macs",
            macs,
            "1",
            rule,
            result.full_macs,
            macs / result.full_macs,
            "multiply-accumulates of the rule for a skipped token",
        )
    for drafts in result.speculation:
        model = f"speculative-{drafts.kind}"
        add("acceptance", drafts.acceptance, "1", model)
        add("tokens_per_run", drafts.tokens_per_run, "1", model)
        add("identical", float(drafts.identical), "1", model)
        add(
            "mac_speedup",
            drafts.mac_speedup,
            "1",
            model,
            ratio=drafts.mac_speedup,
            note="as if n tokens in one run took n times the work of one",
        )
    return records
