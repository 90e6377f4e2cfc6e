"""A decoder of three layers with random weights, and what eager torch says about it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nestling.elastic.attention import ElasticAttention
from nestling.elastic.families.llama import ElasticLlama
from nestling.elastic.subnet import Subnet
from nestling.partition.decoder import DecoderShape

VOCABULARY = 61
CONTEXT = 40
SHAPE = DecoderShape(context=CONTEXT, chunks=(4,), verify=4)
# `tiny` ends behind the first layer, which all have in common; `slim` differs in width alone.
PATHS = {
    "tiny": Subnet((1, 1, 0, 0, 0, 0)),
    "slim": Subnet((1, 1, 1, 1, 1, 1)),
    "full": Subnet((1, 1, 1, 2, 1, 2)),
}


def make_net() -> ElasticLlama:
    """Two key-value groups of two heads; logits that differ enough to be told apart.

    A row of keys has 256 bytes, so that 16 tokens make a block of whole pages.
    """
    torch.manual_seed(1)
    net = ElasticLlama(
        vocabulary=VOCABULARY,
        dim=128,
        depth=3,
        heads=4,
        groups=2,
        hidden=64,
        positions=CONTEXT,
        widths=(0.5, 1.0),
        heads_widths=(1.0,),
        depths=(1, 1.0),
        early_exit=True,
        core_layers=1,
        core_hidden=32,
    ).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() > 1:
                parameter.mul_(10.0)
    return net.requires_grad_(False)


def full_sequence_logits(net: ElasticLlama, tokens: Sequence[int], path: str) -> Tensor:
    """The model's own forward over the whole sequence, (tokens, vocabulary)."""
    return net(torch.tensor([list(tokens)]), subnet=PATHS[path])[0]


def generate(net: ElasticLlama, prompt: Sequence[int], path: str, count: int) -> list[int]:
    """Greedy tokens, each by a forward over everything before it."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(full_sequence_logits(net, tokens, path)[-1].argmax()))
    return tokens[len(prompt) :]


def mixed_logits(
    net: ElasticLlama, tokens: Sequence[int], paths: Sequence[str], propagate: bool = False
) -> Tensor:
    """Logits of a sequence whose every token has a path of its own, (tokens, vocabulary).

    Layer by layer over the whole sequence: a token whose path leaves a layer out goes on as it is,
    and with `propagate` still gives the layer's attention its keys and values.
    """
    x, mask, cos, sin = net.stem(torch.tensor([list(tokens)]))
    count = len(tokens)
    visible = torch.ones(count, count, dtype=torch.bool)
    for index, block in enumerate(net.chain):
        levels = torch.tensor([PATHS[path].levels[index] for path in paths])
        if isinstance(block, ElasticAttention):
            visible = (levels > 0)[None, :] | torch.eye(count, dtype=torch.bool) | propagate
            seen = mask.masked_fill(~visible, -torch.inf)
            y = x + block.transform(block.norm(x), 1, seen, cos, sin)
            x = torch.where((levels > 0)[None, :, None], y, x)
        else:
            for level in range(1, len(block.widths) + 1):
                y = x + block.transform(block.norm(x), level)
                x = torch.where((levels == level)[None, :, None], y, x)
    return net.head(x)[0]  # type: ignore[no-any-return]
