"""A language model with room for some of its experts: how fast it writes, and what it loads."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

import nestling_runtime
from nestling.bench.experts_plot import MemoryPoint
from nestling.bench.experts_running import OURS, POLICIES, STORAGES, Setting, experts_of
from nestling.bench.records import Record, describe_machine, ratio_record, summarise
from nestling_runtime import Decoder, Model, Sampling
from nestling_runtime.expert_replay import Trace, optimum

RESIDENT_QUARTER_SPEED = "resident_quarter_speed"
RESIDENT_QUARTER_BOUND = "resident_quarter_bound"
EARLY_ALIGNMENT_SPEEDUP = "early_alignment_speedup"

SHARES = (0.125, 0.25, 0.5, 1.0)
_WARM_TOKENS = 32

Prompts = Sequence[Sequence[int]]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Writing:
    """What writing under one setting gave.

    Attributes:
        token_s: Seconds of a token.
        hit_rate: Share of look-ups that found their slice ready.
        token_bytes: Loaded for a token.
    """

    token_s: float
    hit_rate: float
    token_bytes: float


@dataclass(frozen=True)
class Workload:
    """What is measured: prompts, and whether text is drawn behind them or read on.

    Attributes:
        prompts: Tokens; when they are read, the last `tokens` of each are timed one by one.
        tokens: Timed tokens of each prompt.
        write: Whether tokens are drawn (temperature 1, a fixed seed) or the prompt's own are read.
    """

    prompts: Prompts
    tokens: int
    write: bool = True

    def run(self, decoder: Decoder, index: int, tokens: int) -> float:
        """Take the prompt of a number, and return the seconds of its timed tokens."""
        prompt = list(self.prompts[index])
        decoder.rewind(0)
        if self.write:
            decoder.append(prompt)
            how = Sampling(temperature=1.0, seed=index + 1)
            return decoder.generate(max_tokens=tokens, sampling=how).generate_ns / 1e9
        path = decoder.path_names[-1]
        first = len(prompt) - tokens
        decoder.append(prompt[:first])
        decoder.logits(path)
        began = time.perf_counter()
        for token in prompt[first:]:
            decoder.append([token])
            decoder.logits(path)
        return time.perf_counter() - began


def measure_turns(
    bundle: Path, work: Workload, sides: Mapping[str, Setting], rounds: int
) -> dict[str, list[Writing]]:
    """Measure all settings in turn, so that all see the same machine; one entry a round each.

    A round before them does not count: pages and caches are touched for the first time.
    """
    found: dict[str, list[Writing]] = {name: [] for name in sides}
    with nestling_runtime.open(bundle, threads=1) as model, model.decoder() as decoder:
        decoder.load()
        for _ in range(rounds + 1):
            for name, setting in sides.items():
                found[name].append(_measure(model, decoder, work, setting))
    return {name: measured[1:] for name, measured in found.items()}


def _measure(model: Model, decoder: Decoder, work: Workload, setting: Setting) -> Writing:
    setting.apply(model)
    work.run(decoder, 0, min(_WARM_TOKENS, work.tokens))
    seconds = 0.0
    before = experts_of(model).statistics()
    for index in range(len(work.prompts)):
        seconds += work.run(decoder, index, work.tokens)
    after = experts_of(model).statistics()
    hits = after.hits - before.hits
    lookups = hits + after.late - before.late + after.misses - before.misses
    tokens = work.tokens * len(work.prompts)
    return Writing(
        seconds / tokens,
        hits / max(1, lookups),
        (after.loaded_bytes - before.loaded_bytes) / tokens,
    )


def measure_quarter(
    bundle: Path, work: Workload, experts: int, *, rounds: int = 7, prefix: str = "", note: str = ""
) -> list[Record]:
    """Compare writing with room for a quarter of the experts with all of them resident.

    Args:
        bundle: Of a decoder.
        work: What is written.
        experts: Of all layers.
        rounds: How often.
        prefix: Of the records' `model`.
        note: On the model.
    """
    ways = {
        "": Setting(),
        " lru": Setting(eviction="lru", predictor="none"),
        " low-bits": Setting(on_miss="low_bits"),
        " second-choice": Setting(on_miss="second_choice"),
    }
    says = {
        "": f"{OURS}, router ahead, waiting for what is missing: the output of all resident",
        " lru": "LRU, no prefetch, waiting",
        " low-bits": f"{OURS}, router ahead, 4 bits where the other 4 are missing",
        " second-choice": f"{OURS}, router ahead, a resident expert where its weight allows",
    }
    sides = {
        f"{storage}{way}": replace(setting, room=experts // 4, storage=speed)
        for storage, speed in STORAGES.items()
        for way, setting in ways.items()
    }
    turns = measure_turns(bundle, work, {"all": Setting(), **sides}, rounds)
    base = turns.pop("all")
    records = []
    for name, found in turns.items():
        ratios = [b.token_s / f.token_s for b, f in zip(base, found, strict=True)]
        hits = summarise([one.hit_rate for one in found]).median
        loaded = summarise([one.token_bytes for one in found]).median
        way = name[len(name.split(" ")[0]) :]
        records.append(
            ratio_record(
                RESIDENT_QUARTER_SPEED,
                ratios,
                baseline=1.0 / summarise([one.token_s for one in base]).median,
                model=f"{prefix}{name}",
                where=f"{_where(work)}; {note}room for {experts // 4} of {experts} experts; "
                f"{says[way]}; {hits:.1%} of look-ups hit, {loaded:,.0f} bytes a token, its "
                "prompt counted; baseline: tokens a second with all resident",
            )
        )
    return records


def measure_bound(
    bundle: Path, work: Workload, experts: int, *, prefix: str = "", note: str = ""
) -> list[Record]:
    """Say how fast any policy could be with room for a quarter of the experts.

    The timed tokens' routers are recorded, and Belady's cache, which sees what comes, replays them
    from the best start that there is. Each miss is a read at the storage's full speed, under way
    while everything else is computed: no policy that waits for 8 bits is faster.
    """
    room = experts // 4
    with nestling_runtime.open(bundle, threads=1) as model, model.decoder() as decoder:
        held = experts_of(model)
        Setting().apply(model)
        work.run(decoder, 0, min(_WARM_TOKENS, work.tokens))
        calls = work.tokens + max(map(len, work.prompts))
        held.record(len(work.prompts) * calls * len(held.layers))
        seconds = sum(work.run(decoder, i, work.tokens) for i in range(len(work.prompts)))
        visits = [call for call in held.recorded() if call.tokens == 1]
        layers = held.layers
    trace = Trace(
        layers=np.array([call.layer for call in visits]),
        requests=np.zeros(len(visits), np.int64),
        probabilities=np.stack([call.probabilities for call in visits]),
        top_k=layers[0].top_k,
    )
    tokens = len(visits) / len(layers)
    misses = max(0, optimum(trace, room).misses - room) / tokens
    computed = seconds / (work.tokens * len(work.prompts))
    loaded = misses * sum(layers[0].slice_bytes)
    records = []
    for storage, speed in STORAGES.items():
        bound = min(1.0, computed / (loaded / speed)) if loaded else 1.0
        where = (
            f"{_where(work)}; {note}room for {room} of {experts} experts; the most that is "
            f"possible at 8 bits: {loaded:,.0f} bytes a token are read even by Belady's cache, "
            f"{1e3 * loaded / speed:.2f} ms at full speed, beside {1e3 * computed:.2f} ms of "
            "computing; baseline: tokens a second with all resident"
        )
        model_name = f"{prefix}{storage}"
        records.append(
            Record(RESIDENT_QUARTER_BOUND, bound, "1", 1 / computed, bound, None, model_name, where)
        )
    return records


def measure_alignment(
    bundle: Path,
    work: Workload,
    experts: int,
    top_k: int,
    *,
    rounds: int = 5,
    prefix: str = "",
    note: str = "",
) -> list[Record]:
    """Compare the router ahead with loading on demand, at 200 MB/s.

    On demand means that an expert's load begins when its own router has chosen it. It is measured
    without any reuse (memory for the experts of one layer of one token), and with an LRU cache.
    """
    speed = STORAGES["200MBps"]
    quarter = experts // 4
    sides = {
        "ours": Setting(room=quarter, storage=speed),
        "demand": Setting(room=top_k, storage=speed, eviction="lru", predictor="none"),
        "cached": Setting(room=quarter, storage=speed, eviction="lru", predictor="none"),
        "cached-ahead": Setting(room=quarter, storage=speed, eviction="lru"),
        "small": Setting(room=2 * top_k, storage=speed, eviction="lru", predictor="none"),
        "small-ahead": Setting(room=2 * top_k, storage=speed, eviction="lru"),
    }
    turns = measure_turns(bundle, work, sides, rounds)
    pairs = {
        "200MBps": (
            "demand",
            "ours",
            f"no reuse (memory for {top_k} experts), over {OURS} and router ahead with memory for "
            f"{quarter}",
        ),
        "200MBps lru": (
            "cached",
            "ours",
            f"LRU cache of {quarter} experts, over {OURS} and router ahead in the same memory",
        ),
        "200MBps prefetch-alone": (
            "cached",
            "cached-ahead",
            f"LRU cache of {quarter} experts, over the same with router ahead",
        ),
        "200MBps two-layers": (
            "small",
            "small-ahead",
            f"memory for {2 * top_k} experts, over the same with router ahead",
        ),
    }
    records = []
    for name, (slow, fast, said) in pairs.items():
        ratios = [a.token_s / b.token_s for a, b in zip(turns[slow], turns[fast], strict=True)]
        records.append(
            ratio_record(
                EARLY_ALIGNMENT_SPEEDUP,
                ratios,
                baseline=1e3 * summarise([one.token_s for one in turns[slow]]).median,
                model=f"{prefix}{name}",
                where=f"{_where(work)}; {note}time of a token on demand: {said}; baseline: "
                "milliseconds of a token on demand",
            )
        )
    return records


def measure_memory_points(
    bundle: Path, work: Workload, experts: int, *, rounds: int = 2, say: Say = lambda text: None
) -> list[MemoryPoint]:
    """Measure every policy, with prefetch and without, with room for an eighth to all."""
    points = []
    for storage, speed in STORAGES.items():
        for share in SHARES:
            say(f"writing with room for {share:.1%} of the experts, {storage}")
            room = None if share == 1.0 else round(share * experts)
            sides = {
                f"{policy} {predictor}": Setting(
                    room=room, storage=speed, eviction=policy, predictor=predictor
                )
                for policy in POLICIES
                for predictor in ("router", "none")
            }
            for name, found in measure_turns(bundle, work, sides, rounds).items():
                policy, _, predictor = name.partition(" ")
                points.append(
                    MemoryPoint(
                        storage,
                        policy,
                        predictor == "router",
                        share,
                        1.0 / summarise([one.token_s for one in found]).median,
                        summarise([one.hit_rate for one in found]).median,
                    )
                )
    return points


def point_records(points: Sequence[MemoryPoint], where: str) -> list[Record]:
    """Return the picture's points as records."""
    records = []
    for point in points:
        ahead = "ahead" if point.ahead else "no-prefetch"
        model = f"{point.storage} {point.policy} {ahead} {point.share:g}"
        for metric, value, unit in (
            ("experts_speed", point.tokens_per_s, "tokens/s"),
            ("experts_hit_rate", point.hit_rate, "1"),
        ):
            records.append(Record(metric, value, unit, None, None, None, model, where))
    return records


def _where(work: Workload) -> str:
    how = "written at temperature 1" if work.write else "read one by one"
    return (
        f"{describe_machine(1)} and one for storage, {len(work.prompts)} prompts, "
        f"{work.tokens} tokens each, {how}"
    )


def machine_note(work: Workload) -> str:
    """Return what somebody needs to take the points again."""
    return _where(work)


def read_bits(bundle: Path, windows: torch.Tensor, setting: Setting) -> torch.Tensor:
    """Read text under a setting and return all logits.

    Args:
        bundle: Of a decoder.
        windows: int64, (windows, length).
        setting: How experts are held.

    Returns:
        float32, (windows, length, vocabulary).
    """
    with nestling_runtime.open(bundle, threads=1) as model, model.decoder() as decoder:
        setting.apply(model)
        path = decoder.path_names[-1]
        rows = []
        for window in windows.tolist():
            decoder.rewind(0)
            for token in window:
                decoder.append([token])
                rows.append(decoder.logits(path))
    return torch.from_numpy(np.stack(rows)).reshape(*windows.shape, -1)
