"""What a language model of experts says: at 8 bits and at 4, and against eager torch."""

from __future__ import annotations

import copy
import time
from pathlib import Path

import torch
from torch import Tensor, nn

import nestling_runtime
from nestling.bench.experts_language import read_bits
from nestling.bench.experts_running import Setting, experts_of
from nestling.bench.records import Record
from nestling.elastic import ElasticLlama
from nestling.experts.routing import expert_layers
from nestling.experts.slices import ExpertFormat, QuantizedExperts
from nestling.language.bits import Windows, bits_per_byte, token_bits

LOW_BITS_QUALITY = "low_bits_quality"
UPGRADE_BYTES = "upgrade_bytes"
LANGUAGE_PARITY = "language_parity"

_IDLE_S = 0.1


class ReferenceExperts(nn.Module):
    """Stands in for a layer's experts and computes as the device does."""

    def __init__(self, experts: nn.Module, form: ExpertFormat) -> None:
        super().__init__()
        self.experts = experts.experts
        self.top_k = experts.top_k
        self.renormalise = experts.renormalise
        self._run = QuantizedExperts(experts, form)  # type: ignore[arg-type]

    def forward(self, hidden: Tensor, scores: Tensor) -> Tensor:
        """See `ExpertBank.forward`."""
        return self._run(hidden, scores)


def measure_quality(
    supernet: ElasticLlama, bundle: Path, windows: Windows, form: ExpertFormat
) -> list[Record]:
    """Compare answers of 4 bits with those of 8, and those with eager torch's.

    Args:
        supernet: What the bundle was made of.
        bundle: Of it, its experts as nibbles.
        windows: Held-out text.
        form: Of the bundle's experts.
    """
    whole = read_bits(bundle, windows.tokens, Setting())
    low = read_bits(bundle, windows.tokens, Setting(bits=4))
    scores = [
        bits_per_byte(token_bits(logits, windows.targets), windows.sizes) for logits in (low, whole)
    ]
    tokens = windows.tokens.numel()
    where = (
        f"bits per byte of {tokens:,} held-out tokens, native, experts answering with their first "
        "4 bits; baseline: with all 8"
    )
    return [
        Record(
            LOW_BITS_QUALITY,
            scores[0],
            "bit",
            scores[1],
            scores[0] / scores[1],
            None,
            "4-bit",
            where,
        ),
        _upgrade(bundle, windows.tokens[:1]),
        _parity(supernet, whole, windows.tokens, form),
    ]


def _upgrade(bundle: Path, windows: Tensor) -> Record:
    """Answer at low bits while the low halves come, and count what came for them."""
    with nestling_runtime.open(bundle, threads=1) as model, model.decoder() as decoder:
        experts = experts_of(model)
        # Room for all, given so that nothing is loaded before it is asked for.
        room = sum(layer.experts for layer in experts.layers)
        Setting(room, predictor="none", on_miss="low_bits").apply(model)
        experts.record(windows.numel() * len(experts.layers))
        path = decoder.path_names[-1]
        for token in windows[0].tolist():
            decoder.append([token])
            decoder.logits(path)
        used = {(call.layer, expert) for call in experts.recorded() for expert in call.chosen}
        found, before = experts.statistics(), -1
        while found.loads != before:  # the loader is still at it
            before = found.loads
            time.sleep(_IDLE_S)
            found = experts.statistics()
        first, second = experts.layers[0].slice_bytes
    moved, wanted = found.loaded_bytes - len(used) * first, len(used) * second
    where = (
        f"bytes loaded for {len(used)} experts beyond their first halves, {found.low_bits} answers "
        "at 4 bits while the others came; baseline: bytes of their second halves"
    )
    return Record(
        UPGRADE_BYTES, float(moved), "bytes", float(wanted), moved / wanted, None, "4-bit", where
    )


@torch.inference_mode()
def _parity(supernet: ElasticLlama, native: Tensor, windows: Tensor, form: ExpertFormat) -> Record:
    reference = copy.deepcopy(supernet).eval()
    for layer in expert_layers(reference):
        layer.bank = ReferenceExperts(layer.bank, form)  # type: ignore[assignment]
    eager = torch.cat([reference(part) for part in torch.split(windows, 8)])
    difference = float((native - eager).abs().max() / eager.abs().max())
    agreement = float((native.argmax(-1) == eager.argmax(-1)).double().mean())
    where = (
        "largest difference of a logit from eager torch with the experts' arithmetic of the "
        f"device, of the largest logit; {agreement:.2%} of most probable tokens agree"
    )
    return Record(LANGUAGE_PARITY, difference, "1", None, None, None, "expert-language", where)
