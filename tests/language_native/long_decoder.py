"""A decoder whose caches have blocks: rows of 256 bytes, so that a block has 16 tokens."""

from __future__ import annotations

import torch

from nestling.elastic.families.llama import ElasticLlama
from nestling.elastic.subnet import Subnet
from nestling.partition.decoder import DecoderShape

VOCABULARY = 61
CONTEXT = 88
BLOCK = 16
SHAPE = DecoderShape(context=CONTEXT, chunks=(4, 16), verify=4)
PATHS = {"tiny": Subnet((1, 1, 0, 0)), "full": Subnet((1, 1, 1, 1))}


def make_net() -> ElasticLlama:
    """Two layers, two heads; logits that differ enough to be told apart."""
    torch.manual_seed(3)
    net = ElasticLlama(
        vocabulary=VOCABULARY,
        dim=64,
        depth=2,
        heads=2,
        groups=2,
        hidden=64,
        positions=CONTEXT,
        widths=(1.0,),
        heads_widths=(1.0,),
        depths=(1, 1.0),
        early_exit=True,
        core_layers=1,
        core_hidden=32,
    ).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() > 1:
                parameter.mul_(7.0)
        net.head.classifier.weight.mul_(2.0)  # type: ignore[union-attr]
    return net.requires_grad_(False)
