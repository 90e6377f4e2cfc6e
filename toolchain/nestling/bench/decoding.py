"""Decoding on the native runtime in time: switching at every token, policies, a second path.

All sides of a comparison take turns in one process and continue the same prompts, so that they see
the same machine. What is compared is the time from the prompt's last token to the last new one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import nestling_runtime
from nestling.bench.records import Record, describe_machine, ratio_record
from nestling.decoder_export import export_decoder
from nestling.elastic.families.llama import ElasticLlama
from nestling.elastic.subnet import Subnet
from nestling.partition.decoder import DecoderShape
from nestling_runtime import (
    ConfidenceExit,
    CustomPolicy,
    Decoder,
    FixedPath,
    Generation,
    SelfSpeculation,
    TokenPolicy,
)
from nestling_runtime.token_policy import Signals

ALTERNATING_OVERHEAD = "alternating_overhead"
SECOND_PATH_MEMORY = "second_path_memory"
SPEEDUP = "speedup"

Prompts = Sequence[Sequence[int]]


def measure_decoder(
    supernet: ElasticLlama,
    bundle: Path,
    prompts: Prompts,
    *,
    thresholds: Sequence[float] = (0.9,),
    tokenizer: bytes | None = None,
    shape: DecoderShape | None = None,
    tokens: int = 64,
    rounds: int = 5,
    threads: int = 1,
    jobs: int = 2,
) -> list[Record]:
    """Export a trained decoder and take all figures of it that are time or memory.

    Args:
        supernet: Trained, with `tiny` an exit of `full`.
        bundle: Where to write it; one that is there is used.
        prompts: Held-out tokens to go on from.
        thresholds: Of the confidence exit, one for each of its paths but the last: `tiny` and
            `full`, or all named paths where there are more.
        tokenizer: `tokenizer.json` for the bundle.
        shape: See `export_decoder`.
        tokens: To generate behind each prompt.
        rounds: How often everything is repeated.
        threads: That a run may use.
        jobs: Processes that lower at once.
    """
    named = dict(supernet.space.named)
    full = named["full"]
    # Of the same layers as the full path, so that switching keeps the cache.
    paths = {**named, "narrow": Subnet(tuple(1 for _ in full.levels))}
    if not bundle.exists():
        bundle.parent.mkdir(parents=True, exist_ok=True)
        export_decoder(supernet, bundle, shape=shape, paths=paths, tokenizer=tokenizer, jobs=jobs)
    ladder = tuple(named) if len(thresholds) == len(named) - 1 else ("tiny", "full")
    policies: dict[str, TokenPolicy] = {
        "confidence": ConfidenceExit(ladder, tuple(thresholds)),
        "speculative": SelfSpeculation("tiny", "full"),
    }
    how: dict[str, Any] = {"tokens": tokens, "rounds": rounds, "threads": threads}
    return [
        measure_alternating(bundle, prompts, "narrow", "full", **how),
        measure_second_path(bundle, "full", "tiny", threads=threads),
        *measure_speedups(bundle, prompts, policies, **how),
    ]


class Alternating(CustomPolicy):
    """Two paths in turn: the worst case for whoever pays for switching.

    Args:
        paths: Their names.
    """

    def __init__(self, *paths: str) -> None:
        self.paths = paths

    def choose(self, last: Signals) -> str:
        """See `CustomPolicy`."""
        return self.paths[last.generated % len(self.paths)]


class Always(CustomPolicy):
    """One path, asked for through Python as `Alternating` is: what that costs is on both sides.

    Args:
        path: Its name.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def choose(self, last: Signals) -> str:
        """See `CustomPolicy`."""
        return self.path


def measure_alternating(
    bundle: Path,
    prompts: Prompts,
    small: str,
    large: str,
    *,
    tokens: int = 64,
    rounds: int = 5,
    threads: int = 1,
) -> Record:
    """Compare changing the path at every token with the mean of staying on either.

    Args:
        bundle: Of a decoder.
        prompts: Tokens to go on from.
        small: A path of the same layers as `large`, so that the cache is kept.
        large: A path.
        tokens: To generate behind each prompt.
        rounds: How often everything is repeated.
        threads: That a run may use.
    """
    policies = {
        "alternating": Alternating(small, large),
        small: Always(small),
        large: Always(large),
    }
    times = _take_turns(bundle, prompts, policies, tokens, rounds, threads)
    ratios = [turn["alternating"] / mean((turn[small], turn[large])) for turn in times]
    return ratio_record(
        ALTERNATING_OVERHEAD,
        ratios,
        baseline=mean(mean((turn[small], turn[large])) for turn in times),
        model=f"{small} and {large}",
        where=f"{describe_machine(threads)}, {len(prompts)} prompts, {tokens} tokens each",
    )


def measure_speedups(
    bundle: Path,
    prompts: Prompts,
    policies: Mapping[str, TokenPolicy],
    *,
    large: str = "full",
    tokens: int = 64,
    rounds: int = 5,
    threads: int = 1,
) -> list[Record]:
    """Compare the time of policies with that of a path alone, for the same number of tokens.

    Args:
        bundle: Of a decoder.
        prompts: Tokens to go on from.
        policies: By the name that becomes the record's `model`.
        large: The path alone.
        tokens: To generate behind each prompt.
        rounds: How often everything is repeated.
        threads: That a run may use.

    Returns:
        One record a policy; `where` says how much of the output is the large path's.
    """
    sides = {**policies, large: FixedPath(large)}
    outputs: dict[str, list[list[int]]] = {}
    times = _take_turns(bundle, prompts, sides, tokens, rounds, threads, outputs)
    records = []
    for name in policies:
        same = mean(
            a == b for a, b in zip(_flat(outputs[name]), _flat(outputs[large]), strict=True)
        )
        output = "output identical" if same == 1.0 else f"{same:.1%} of the output identical"
        records.append(
            ratio_record(
                SPEEDUP,
                [turn[large] / turn[name] for turn in times],
                baseline=mean(turn[large] for turn in times),
                model=name,
                where=f"{describe_machine(threads)}, {len(prompts)} prompts, {tokens} tokens each, "
                f"{output}",
            )
        )
    return records


def measure_second_path(bundle: Path, first: str, second: str, *, threads: int = 1) -> Record:
    """Return the memory that a second path adds to that of the first, as a share of the first's."""
    with nestling_runtime.open(bundle, threads=threads) as model, model.decoder() as decoder:
        decoder.load(first)
        alone = model.memory().resident_bytes
        decoder.load(second)
        both = model.memory().resident_bytes
    ratio = (both - alone) / alone
    where = f"weights and records of loaded stages, all sizes of a run; {first}, then {second}"
    return Record(SECOND_PATH_MEMORY, ratio, "1", float(alone), ratio, None, second, where)


def _take_turns(
    bundle: Path,
    prompts: Prompts,
    policies: Mapping[str, TokenPolicy],
    tokens: int,
    rounds: int,
    threads: int,
    outputs: dict[str, list[list[int]]] | None = None,
) -> list[dict[str, float]]:
    """Return for each round the nanoseconds a token of each policy."""
    times: list[dict[str, float]] = []
    with nestling_runtime.open(bundle, threads=threads) as model, model.decoder() as decoder:
        decoder.load()
        for turn in range(rounds + 1):
            totals = dict.fromkeys(policies, 0.0)
            for prompt in prompts:
                for name, policy in policies.items():
                    made = _continue(decoder, prompt, policy, tokens)
                    totals[name] += made.generate_ns
                    if turn == 0 and outputs is not None:
                        outputs.setdefault(name, []).append(made.token_ids)
            times.append({name: ns / (tokens * len(prompts)) for name, ns in totals.items()})
    return times[1:]  # the first round pays for pages that are touched for the first time


def _continue(
    decoder: Decoder, prompt: Sequence[int], policy: TokenPolicy, tokens: int
) -> Generation:
    decoder.rewind(0)
    decoder.append(prompt)
    return decoder.generate(policy, max_tokens=tokens)


def _flat(rows: Sequence[Sequence[int]]) -> list[int]:
    return [token for row in rows for token in row]
