"""Quantised decoders: what the stages themselves compute in eager torch, token by token."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from language_native.tiny_decoder import SHAPE, VOCABULARY
from torch import Tensor

import nestling_runtime
from nestling.decoder_export import export_decoder
from nestling.elastic.families.llama import ElasticLlama
from nestling.partition.decoder import DecoderCut, cut_decoder
from nestling.quantize.schemes import get_scheme


def run_stages(pieces: DecoderCut, path: str, tokens: list[int]) -> Tensor:
    """Run a path's stages token by token, with caches that are appended by hand."""
    slots = {name: slot.example.clone() for name, slot in pieces.slots.items()}
    logits = []
    for position, token in enumerate(tokens):
        slots["tokens"][:] = token
        slots["position"][:] = position
        for name in pieces.paths[path].stages:
            stage = pieces.stages[name]
            given = stage.module(*(slots[slot] for slot in stage.inputs))
            values = given if isinstance(given, tuple) else (given,)
            for slot, value in zip(stage.outputs, values, strict=True):
                state = pieces.slots[slot].append
                if state is None:
                    slots[slot] = value
                else:
                    slots[state][position : position + len(value)] = value
        logits.append(slots["logits"][0, 0])
    return torch.stack(logits)


def test_logits_and_chunks(tmp_path: Path) -> None:
    scheme = "int4-group32"
    torch.manual_seed(2)
    net = ElasticLlama(
        vocabulary=VOCABULARY,
        dim=32,
        depth=1,
        heads=4,
        groups=2,
        hidden=64,
        positions=SHAPE.context,
        widths=(1.0,),
        heads_widths=(1.0,),
        depths=(1.0,),
    ).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() > 1:
                parameter.mul_(10.0)
    paths = {"full": net.space.full()}
    export_decoder(net, tmp_path / "q.nest", scheme=scheme, shape=SHAPE, paths=paths, jobs=1)
    pieces = cut_decoder(net, get_scheme(scheme), SHAPE, paths)
    rng = random.Random(0)
    tokens = [rng.randrange(VOCABULARY) for _ in range(15)]
    with torch.no_grad():
        expected = run_stages(pieces, "full", tokens).numpy()
    with (
        nestling_runtime.open(tmp_path / "q.nest", threads=1) as model,
        model.decoder() as one,
        model.decoder() as chunks,
    ):
        for token, logits in zip(tokens, expected, strict=True):
            one.append([token])
            np.testing.assert_allclose(one.logits("full"), logits, atol=2e-2)
        chunks.append(tokens)  # all at once: chunks of four, then the rest
        np.testing.assert_allclose(chunks.logits("full"), one.logits("full"), atol=1e-3)
