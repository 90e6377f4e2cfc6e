"""Hit rates of every eviction policy on one recorded trace, and the most that there is to hit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

import nestling_runtime
from nestling.bench.experts_running import OURS, POLICIES, Setting, experts_of
from nestling.bench.records import Record
from nestling_runtime.expert_replay import Trace, optimum, replay

HIT_RATE = "hit_rate"
BOUND = "belady"

SHARES = (0.125, 0.25, 0.5)


def record_trace(bundle: Path, windows: Tensor) -> Trace:
    """Read text token by token, every window a request of its own, and record its routers.

    Args:
        bundle: Of a decoder of experts.
        windows: int64, (windows, length).
    """
    with nestling_runtime.open(bundle, threads=1) as model, model.decoder() as decoder:
        Setting().apply(model)
        path = decoder.path_names[-1]
        layers = len(experts_of(model).layers)
        experts_of(model).record(windows.numel() * layers)
        for window in windows.tolist():
            decoder.rewind(0)
            for token in window:
                decoder.append([token])
                decoder.logits(path)
        calls = experts_of(model).recorded()
        return Trace(
            layers=np.array([call.layer for call in calls]),
            # A conversation that was rewound to its start is another request.
            requests=np.arange(len(calls)) // (layers * windows.shape[1]),
            probabilities=np.stack([call.probabilities for call in calls]),
            top_k=experts_of(model).layers[0].top_k,
        )


def measure_hit_rates(bundle: Path, windows: Tensor) -> list[Record]:
    """Replay one trace through the real cache under every policy, and under Belady's.

    `model` is the policy and the share of the experts that there is room for; the baseline is
    LRU's hit rate with the same room.
    """
    trace = record_trace(bundle, windows)
    layers = int(trace.layers.max()) + 1
    total = layers * trace.experts
    records = []
    for share in SHARES:
        slots = round(share * total)
        rates: dict[str, float] = {
            policy: replay(trace, slots, eviction=policy).hit_rate for policy in POLICIES
        }
        rates[BOUND] = optimum(trace, slots).hit_rate
        base = rates["lru"]
        for policy, rate in rates.items():
            says = {OURS: "ours", BOUND: "the optimum, which looks ahead"}.get(policy, policy)
            where = (
                f"look-ups that hit, of {len(trace.layers):,} visits of {layers} layers, room for "
                f"{slots} of {total} experts, no prefetch, the trace of held-out text replayed "
                f"through the cache of the runtime; {says}; baseline: LRU"
            )
            records.append(
                Record(
                    HIT_RATE,
                    rate,
                    "1",
                    base,
                    rate / base if base else None,
                    None,
                    f"{policy} {share:g}",
                    where,
                )
            )
    return records
