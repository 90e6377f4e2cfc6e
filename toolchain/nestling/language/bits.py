"""Quality of a language model that does not depend on its tokens: bits per byte of text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from nestling.elastic import Subnet, Supernet
from nestling.language.corpus import KINDS, Kind


@dataclass(frozen=True)
class Windows:
    """Text to be scored, in windows that do not overlap.

    Attributes:
        tokens: int64, (windows, length).
        targets: The token after each of them, int64, (windows, length).
        sizes: Bytes of text that each target stands for, int64, (windows, length).
        kinds: Of each window.
    """

    tokens: Tensor
    targets: Tensor
    sizes: Tensor
    kinds: tuple[Kind, ...]


def cut_windows(texts: Mapping[Kind, Tensor], sizes: Tensor, *, length: int, count: int) -> Windows:
    """Return `count` windows of each kind, evenly spread over its text.

    Args:
        texts: Tokens of each kind, (tokens,).
        sizes: Bytes of each token of the vocabulary.
        length: Tokens of a window.
        count: How many of each kind; fewer where the text is shorter.
    """
    rows, kinds = [], []
    for kind in KINDS:
        text = texts[kind]
        possible = (len(text) - 1) // length
        taken = min(count, possible)
        for index in range(taken):
            start = index * possible // taken * length
            rows.append(text[start : start + length + 1])
            kinds.append(kind)
    stacked = torch.stack(rows)
    targets = stacked[:, 1:]
    return Windows(stacked[:, :-1], targets, sizes[targets], tuple(kinds))


def token_bits(logits: Tensor, targets: Tensor) -> Tensor:
    """Return -log2 of the probability of each target: float32, the shape of `targets`."""
    nats = F.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="none")
    return nats.reshape(targets.shape) / math.log(2.0)


def bits_per_byte(bits: Tensor, sizes: Tensor) -> float:
    """Return the mean over the bytes of the text."""
    return float(bits.double().sum() / sizes.sum())


@torch.inference_mode()
def score_subnet(
    supernet: Supernet, subnet: Subnet, windows: Windows, batch: int = 16
) -> tuple[Tensor, Tensor]:
    """Return bits of each target, and the logits, of one subnet for all tokens.

    Returns:
        float32, (windows, length) and (windows, length, vocabulary).
    """
    was_training = supernet.training
    supernet.eval()
    before = supernet.active
    parts = torch.split(windows.tokens, batch)
    logits = torch.cat([supernet(part, subnet=subnet) for part in parts])
    supernet.select(before)
    supernet.train(was_training)
    return token_bits(logits, windows.targets), logits
