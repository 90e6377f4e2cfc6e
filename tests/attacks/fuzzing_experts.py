"""Seeds for the fuzzer of expert indexes; scripts/fuzz.sh runs it for longer."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from attacks.fuzz_runs import fuzz_for_long, run_fuzzer
from runtime.expert_samples import ExpertLayer, sections


def seed_bytes(layers: list[ExpertLayer]) -> bytes:
    """The sizes of both sections of slices, then the index."""
    parts = sections(layers)
    sizes = (len(parts["experts.0"]), len(parts.get("experts.1", b"")))
    return struct.pack("<QQ", *sizes) + parts["experts"]


def seeds() -> list[bytes]:
    """Every format and flag, with and without predictors."""
    plain = [ExpertLayer(dim=4, hidden=6, experts=3, seed=1)]
    nibbles = [
        ExpertLayer(dim=8, hidden=12, experts=3, group=4, predicted_layer=1, biases=True),
        ExpertLayer(dim=6, hidden=4, experts=2, top_k=1, gated=False, renormalise=True),
        ExpertLayer(dim=32, hidden=64, experts=2, group=32, activation="gelu", predicted_layer=0),
    ]
    for layer, experts in ((nibbles[0], 2), (nibbles[2], 3)):
        layer.predictor = (
            np.ones((experts, layer.dim), np.float32),
            np.zeros(experts, np.float32),
        )
    return [seed_bytes(plain), seed_bytes(nibbles)]


def fuzz(folder: Path, runs: int, seed: int) -> Any:
    """Fuzz from these seeds; see `run_fuzzer`."""
    files = []
    for number, data in enumerate(seeds()):
        path = folder / f"index{number}.bin"
        path.write_bytes(data)
        files.append(path)
    return run_fuzzer("nestling_fuzz_experts", files, folder, runs, seed)


if __name__ == "__main__":
    fuzz_for_long(fuzz, 200_000)
