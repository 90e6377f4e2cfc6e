"""A decoder whose feed-forward layers are small experts, trained and at hand.

It learned from the same text as `nestling.recipes.language`, Python's manual and library, with the
same tokenizer. Beside this file: `supernet.pt` in half precision, and the log of the runs that made
it, `train.jsonl`. `scripts/train_experts.py` makes them anew, in four runs, each from the weights
of the last (`--start`):

1. A decoder with a shared expert, by an older loss (neighbours' probabilities were to be alike, and
   became all equal): the shared expert learned everything.
2. Upcycled: parts of the shared expert became the routed ones, which carry each layer alone.
3. `--balance 0.1`: after it all experts are used, but few of them twice in a row.
4. `--balance 0.03 --lasting 0.1`: neighbours share six of ten experts again, and about half of the
   experts of a layer do nearly all of its work.

Each of the four layers has 32 experts, of which a token takes two. They hold nine tenths of the
weights: what is always needed is small, what is needed now and then is not.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from nestling.elastic import load
from nestling.elastic.feed_forward import FeedForward
from nestling.errors import ModelError
from nestling.experts.bank import StackedExperts
from nestling.experts.decoder import ExpertLlama
from nestling.experts.routing import expert_layers
from nestling.language.training import LanguageTraining
from nestling.recipes import language as dense
from nestling.recipes.experts.language.training import ExpertTraining

NAME = "expert-language"
FOLDER = Path(__file__).parent
SUPERNET_NAME = "supernet.pt"
TOKENIZER = dense.FOLDER / dense.TOKENIZER_NAME

DIM = 128
LAYERS = 4
EXPERTS = 32
TOP_K = 2
EXPERT_HIDDEN = 32
SHARED_HIDDEN = 64
GROUP = 32
"""Weights of an expert that share a scale, where experts are stored as nibbles."""

TRAINING = ExpertTraining(
    LanguageTraining(steps=2000, windows=8, prose_share=0.5, lr=0.008), group=GROUP
)


def build(shared_hidden: int = 0) -> ExpertLlama:
    """Return the untrained decoder, or the one with a shared expert that it begins from."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(TRAINING.schedule.seed)
        return make_decoder(
            dim=DIM,
            layers=LAYERS,
            heads=4,
            groups=2,
            experts=EXPERTS,
            top_k=TOP_K,
            hidden=EXPERT_HIDDEN,
            shared_hidden=shared_hidden,
        )


def make_decoder(
    *,
    dim: int,
    layers: int,
    heads: int,
    groups: int,
    experts: int,
    top_k: int,
    hidden: int,
    shared_hidden: int = 0,
) -> ExpertLlama:
    """Return a decoder of bytes with expert layers and random weights."""
    supernet = ExpertLlama(
        vocabulary=dense.VOCABULARY,
        dim=dim,
        depth=layers,
        heads=heads,
        groups=groups,
        positions=dense.POSITIONS,
        widths=(1.0,),
        tied=True,
        experts=experts,
        top_k=top_k,
        expert_hidden=hidden,
        shared_hidden=shared_hidden,
        renormalise=True,
    )
    _initialise(supernet)
    return supernet


def _initialise(supernet: ExpertLlama) -> None:
    """Let the stream begin as the token alone, as `nestling.recipes.language` does."""
    for name, module in supernet.blocks.named_modules():
        if isinstance(module, nn.Linear):
            if name.rpartition(".")[2] in ("o", "down"):
                nn.init.zeros_(module.weight)
            else:
                nn.init.normal_(module.weight, std=0.6 * module.in_features**-0.5)
    for layer in expert_layers(supernet):
        bank = layer.bank
        assert isinstance(bank, StackedExperts) and bank.gate is not None
        nn.init.zeros_(bank.down)
        for stack in (bank.gate, bank.up):
            nn.init.normal_(stack, std=0.6 * bank.dim**-0.5)
    nn.init.normal_(supernet.stem.embedding.weight, std=dense.EMBEDDING_SCALE)  # type: ignore[union-attr, arg-type]
    nn.init.constant_(supernet.head.norm.weight, 0.02 / dense.EMBEDDING_SCALE)  # type: ignore[union-attr, arg-type]


def upcycle(supernet: ExpertLlama, dense_net: ExpertLlama) -> None:
    """Begin where a decoder with shared experts stands, with its shared neurons as routed experts.

    The shared neurons are cut into parts of an expert's size; a group of experts, one a part,
    computes what the shared expert did, and a token first takes one group whole (virtual groups; He
    et al., arXiv 2410.07524). All else is taken over.

    Args:
        supernet: Without shared experts; changed in place.
        dense_net: With them, `top_k` experts wide; of the same shape otherwise. Its routed experts
            do not count.
    """
    parts = (".bank.", ".routers.", ".shared.")
    kept = {n: v for n, v in dense_net.state_dict().items() if not any(p in n for p in parts)}
    supernet.load_state_dict(kept, strict=False)
    for layer, source in zip(expert_layers(supernet), expert_layers(dense_net), strict=True):
        bank, shared = layer.bank, source.shared
        assert isinstance(bank, StackedExperts) and bank.gate is not None
        assert isinstance(shared, FeedForward) and shared.gate is not None
        count = shared.up.out_features // bank.hidden
        groups = bank.experts // count
        with torch.no_grad():
            for stack, linear in ((bank.gate, shared.gate), (bank.up, shared.up)):
                whole = linear.weight.reshape(count, bank.hidden, bank.dim)
                stack.copy_(whole.repeat(groups, 1, 1))
            down = shared.down.weight.reshape(bank.dim, count, bank.hidden).transpose(0, 1)
            # Weights of the chosen sum to 1, and there are `count` of them.
            bank.down.copy_(count * down.repeat(groups, 1, 1))
            for router in layer.routers.values():
                # Experts of a group have equal scores, so a token takes the parts of one group.
                rows = 0.05 * torch.randn(groups, bank.dim)
                router.weight.copy_(rows.repeat_interleave(count, dim=0))  # type: ignore[operator]


def shake(supernet: ExpertLlama) -> None:
    """Make an untrained decoder one whose layers all say something and whose tokens part ways."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for name, module in supernet.blocks.named_modules():
            if isinstance(module, nn.Linear) and name.rpartition(".")[2] in ("o", "down"):
                nn.init.normal_(module.weight, std=0.5 * module.in_features**-0.5)
        for layer in expert_layers(supernet):
            assert isinstance(layer.bank, StackedExperts)
            nn.init.normal_(layer.bank.down, std=0.5 * layer.bank.hidden**-0.5)
            for router in layer.routers.values():
                nn.init.normal_(router.weight, std=2.0 * layer.bank.dim**-0.5)  # type: ignore[arg-type]


def load_trained() -> ExpertLlama:
    """Return the decoder that comes with nestling.

    Raises:
        ModelError: The file is not there or not whole.
    """
    supernet = load(FOLDER / SUPERNET_NAME)
    if not isinstance(supernet, ExpertLlama):
        raise ModelError(
            f"{SUPERNET_NAME} holds another family",
            expected=ExpertLlama.__name__,
            actual=type(supernet).__name__,
        )
    return supernet
