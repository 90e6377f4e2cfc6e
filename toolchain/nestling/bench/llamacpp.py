"""A decoder of 100 M parameters with random weights, against llama.cpp.

Same architecture, same bits a weight (int8 rows against Q8_0, groups of 32 in 4 bits against Q4_0),
same threads, one token after the other. llama.cpp comes from the package llama-cpp-python in an
environment of its own, because it is built from source (scripts/setup_llamacpp.sh). Without it the
record says so.

The two sides take turns, round by round.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

import nestling_runtime
from nestling.bench.records import Record, describe_machine, missing_record, ratio_record
from nestling.decoder_export import export_decoder
from nestling.elastic.families.llama import ElasticLlama
from nestling.errors import NestlingError
from nestling.partition.decoder import DecoderShape
from nestling.targets.description import environment_python

DECODE_VS_LLAMACPP = "decode_vs_llamacpp"
FORMATS = {"int8-dynamic": "Q8_0", "int4-group32": "Q4_0"}
PROMPT_TOKENS = 64
NEW_TOKENS = 64

_WORKER = Path(__file__).with_name("llamacpp_worker.py")
_SHAPE = DecoderShape(context=256, chunks=(4, 32), verify=4)
_CONFIG: dict[str, Any] = {
    "vocabulary": 32000,
    "dim": 768,
    "depth": 12,
    "heads": 12,
    "groups": 4,
    "hidden": 2048,
}


def make_decoder() -> ElasticLlama:
    """Return the decoder: 100 M parameters, two widths, the embedding tied to the head."""
    torch.manual_seed(0)
    return ElasticLlama(
        **_CONFIG,
        positions=PROMPT_TOKENS,
        widths=(0.5, 1.0),
        heads_widths=(1.0,),
        depths=(1.0,),
        tied=True,
    ).eval()


def measure_llamacpp(
    folder: Path,
    *,
    schemes: Sequence[str] = tuple(FORMATS),
    rounds: int = 5,
    threads: int = 1,
    jobs: int = 2,
) -> list[Record]:
    """Compare tokens a second; above 1 is faster than llama.cpp.

    Args:
        folder: Where to keep the bundles; those that are there are used.
        schemes: Of our weights.
        rounds: How often the sides take turns.
        threads: For both.
        jobs: Processes that lower at once.

    Raises:
        NestlingError: llama.cpp failed.
    """
    python = environment_python("llamacpp")
    if not (python.parent.parent / "complete").exists():
        reason = "llama.cpp is not there; run scripts/setup_llamacpp.sh"
        return [missing_record(DECODE_VS_LLAMACPP, "1", scheme, reason) for scheme in schemes]
    records = []
    for scheme in schemes:
        bundle = folder / f"decoder-100m-{scheme}.nest"
        if not bundle.exists():
            folder.mkdir(parents=True, exist_ok=True)
            export_decoder(make_decoder(), bundle, scheme=scheme, shape=_SHAPE, jobs=jobs)
        ours, theirs = [], []
        for _ in range(rounds):
            ours.append(_time_ours(bundle, threads))
            theirs.append(_time_theirs(python, FORMATS[scheme], threads))
        records.append(
            ratio_record(
                DECODE_VS_LLAMACPP,
                [b / a for a, b in zip(ours, theirs, strict=True)],
                baseline=1e9 / median(theirs),
                model=scheme,
                where=f"{describe_machine(threads)}; tokens {PROMPT_TOKENS} to "
                f"{PROMPT_TOKENS + NEW_TOKENS}, llama.cpp {FORMATS[scheme]}; baseline in tokens/s",
            )
        )
    return records


def _time_ours(bundle: Path, threads: int) -> float:
    prompt = np.random.default_rng(0).integers(0, _CONFIG["vocabulary"], PROMPT_TOKENS)
    with nestling_runtime.open(bundle, threads=threads) as model, model.decoder() as decoder:
        decoder.load("full")
        decoder.append(prompt)
        decoder.generate("full", max_tokens=4)
        decoder.rewind(PROMPT_TOKENS)
        made = decoder.generate("full", max_tokens=NEW_TOKENS)
    return made.generate_ns / NEW_TOKENS


def _time_theirs(python: Path, quantisation: str, threads: int) -> float:
    job = {
        **_CONFIG,
        "format": quantisation,
        "context": _SHAPE.context,
        "prompt": PROMPT_TOKENS,
        "tokens": NEW_TOKENS,
        "threads": threads,
        "rounds": 2,
    }
    done = subprocess.run(
        [str(python), str(_WORKER), json.dumps(job)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        message = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise NestlingError("llama.cpp cannot be measured", actual=message)
    times: list[float] = json.loads(done.stdout.splitlines()[-1])["token_ns"]
    return times[-1]  # the first one reads the file's pages
