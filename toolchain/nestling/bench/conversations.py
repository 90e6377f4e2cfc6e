"""Several conversations in memory for fewer: what swapping costs, and what sharing saves.

Two pools on one model hold the same conversations, one with memory for a few of them and one with
memory for all. Every turn is taken in both, one right after the other, so that both see the same
machine; conversations take turns in a circle, so that the one whose turn it is has always been
swapped out.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median

import nestling_runtime
from nestling.bench.records import Record, describe_machine, ratio_record
from nestling_runtime import DecoderPool, Model
from nestling_runtime.decoder import Decoder, Token
from nestling_runtime.decoder_pool import PooledDecoder

SWAP_IN_TTFT = "swap_in_ttft_ratio"
SWAP_WRONG_TOKENS = "swap_wrong_tokens"
SHARED_PREFIX_MEMORY = "shared_prefix_memory"


@dataclass(frozen=True)
class Talk:
    """How conversations go.

    Attributes:
        conversations: How many there are.
        in_memory: How many of them have room.
        turns: Of each; the first one is not measured, since nothing is there to swap in.
        said: Tokens that are appended in a turn.
        answered: Tokens that are generated in a turn.
        path: That computes all of it.
    """

    conversations: int = 8
    in_memory: int = 3
    turns: int = 5
    said: int = 32
    answered: int = 16
    path: str = "full"

    @property
    def tokens(self) -> int:
        """Of a conversation in the end."""
        return self.turns * (self.said + self.answered)


@dataclass
class _Times:
    """Nanoseconds to the first token of each turn, of both sides."""

    swapped: list[int] = field(default_factory=list)
    resident: list[int] = field(default_factory=list)


def measure_conversations(
    bundle: Path,
    texts: Sequence[Sequence[int]],
    *,
    talk: Talk | None = None,
    rounds: int = 3,
    threads: int = 1,
) -> list[Record]:
    """Return what swapping costs, whether a token was wrong, and what a shared beginning saves.

    Args:
        bundle: Of a decoder whose context holds a conversation.
        texts: Held-out tokens that the conversations are made of; what is too short is repeated.
        talk: How conversations go.
        rounds: How often everything is repeated.
        threads: That a run may use.
    """
    talk = talk or Talk()
    said = [
        _stretch(texts[i % len(texts)], talk.turns * talk.said, i)
        for i in range(talk.conversations)
    ]
    records = []
    with nestling_runtime.open(bundle, threads=threads) as model:
        expected = [_alone(model, words, talk) for words in said]
        where = (
            f"{describe_machine(threads)}, {talk.conversations} conversations in memory for "
            f"{talk.in_memory}, {talk.turns} turns of {talk.said} tokens said and "
            f"{talk.answered} answered, path {talk.path}, median of turns"
        )
        wrong = 0
        for kind, cold in (("warm", False), ("cold", True)):
            ratios, baselines = [], []
            for _ in range(rounds):
                times, differing = _take_turns(model, said, expected, talk, cold=cold)
                wrong += differing
                ratios.append(median(times.swapped) / median(times.resident))
                baselines.append(median(times.resident))
            files = "files dropped from the system's cache" if cold else "files in its cache"
            records.append(
                ratio_record(
                    SWAP_IN_TTFT,
                    ratios,
                    baseline=mean(baselines),
                    model=kind,
                    where=f"{where}, {files}",
                )
            )
        records.append(Record(SWAP_WRONG_TOKENS, float(wrong), "1", None, None, None, "all", where))
        records.append(_measure_sharing(model, texts, talk, threads))
    return records


def _stretch(tokens: Sequence[int], count: int, start: int) -> list[int]:
    """Return `count` tokens of a text from `start` on, going round."""
    return [tokens[(start + i) % len(tokens)] for i in range(count)]


def _turn(decoder: Decoder, words: Sequence[int], talk: Talk) -> tuple[list[int], int]:
    """Say and be answered; returns the answer and the nanoseconds to its first token."""
    first: list[int] = []

    def note(_: Token) -> None:
        if not first:
            first.append(time.perf_counter_ns())

    decoder.append(words)
    begin = time.perf_counter_ns()
    made = decoder.generate(talk.path, max_tokens=talk.answered, on_token=note)
    return made.token_ids, first[0] - begin


def _part(words: Sequence[int], turn: int, talk: Talk) -> Sequence[int]:
    return words[turn * talk.said : (turn + 1) * talk.said]


def _alone(model: Model, words: Sequence[int], talk: Talk) -> list[list[int]]:
    """Return the answers of a conversation that is in no pool."""
    with model.decoder() as decoder:
        return [_turn(decoder, _part(words, turn, talk), talk)[0] for turn in range(talk.turns)]


def _take_turns(
    model: Model,
    said: Sequence[Sequence[int]],
    expected: Sequence[Sequence[Sequence[int]]],
    talk: Talk,
    *,
    cold: bool,
) -> tuple[_Times, int]:
    """Let all conversations go on in a circle, in both pools; returns times and wrong tokens."""
    times = _Times()
    wrong = 0
    with tempfile.TemporaryDirectory() as folder, model.decoder_pool(1 << 32, share=False) as roomy:
        block_tokens, block_bytes = roomy.state().block_tokens, roomy.state().block_bytes
        budget = talk.in_memory * -(-talk.tokens // block_tokens) * block_bytes
        with model.decoder_pool(budget, folder=folder, share=False) as tight:
            pairs = [(tight.decoder(), roomy.decoder()) for _ in range(talk.conversations)]
            for turn in range(talk.turns):
                for number, sides in enumerate(pairs):
                    if cold:
                        _drop_from_cache(Path(folder))
                    words = _part(said[number], turn, talk)
                    order = (0, 1) if (turn + number) % 2 else (1, 0)
                    spent = [0, 0]
                    for side in order:
                        made, spent[side] = _turn(sides[side], words, talk)
                        wrong += sum(
                            a != b for a, b in zip(made, expected[number][turn], strict=True)
                        )
                    if turn > 0:
                        times.swapped.append(spent[0])
                        times.resident.append(spent[1])
    return times, wrong


def _drop_from_cache(folder: Path) -> None:
    """Let the system forget the swap files' pages, so that reading them is reading storage."""
    for file in folder.glob("*/*.swap"):
        descriptor = os.open(file, os.O_RDWR)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def _measure_sharing(
    model: Model, texts: Sequence[Sequence[int]], talk: Talk, threads: int
) -> Record:
    """Return the memory of conversations with one beginning, shared against not shared."""
    beginning = _stretch(texts[0], talk.tokens - talk.said, 0)

    def used(pool: DecoderPool) -> int:
        decoders: list[PooledDecoder] = [pool.decoder() for _ in range(talk.conversations)]
        for number, decoder in enumerate(decoders):
            decoder.append([*beginning, *_stretch(texts[0], talk.said // 2, number)])
            decoder.generate(talk.path, max_tokens=1)
        return pool.state().used_bytes

    with model.decoder_pool(1 << 32) as pool:
        shared, computed = used(pool), pool.state().adopted_tokens
    with model.decoder_pool(1 << 32, share=False) as pool:
        apart = used(pool)
    return Record(
        SHARED_PREFIX_MEMORY,
        shared / apart,
        "1",
        float(apart),
        shared / apart,
        None,
        "all",
        f"{describe_machine(threads)}, {talk.conversations} conversations with the same first "
        f"{len(beginning)} tokens, {computed} tokens not computed again",
    )
