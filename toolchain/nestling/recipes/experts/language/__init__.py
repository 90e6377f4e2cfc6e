"""A decoder whose feed-forward layers are small experts, trained and at hand.

It learned from the same text as `nestling.recipes.language`, Python's manual and library, with the
same tokenizer. Beside this file: `supernet.pt` in half precision, and the log of the run that made
it, `train.jsonl`. `scripts/train_experts.py` makes them anew.

Each of the four layers has 32 experts, of which a token takes two, beside a shared one that all
take. Experts hold four fifths of the weights: what is always needed is small, what is needed now
and then is not.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from nestling.elastic import load
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


def build() -> ExpertLlama:
    """Return the untrained decoder."""
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
            shared_hidden=SHARED_HIDDEN,
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
    renew_experts(supernet)
    nn.init.normal_(supernet.stem.embedding.weight, std=dense.EMBEDDING_SCALE)  # type: ignore[union-attr, arg-type]
    nn.init.constant_(supernet.head.norm.weight, 0.02 / dense.EMBEDDING_SCALE)  # type: ignore[union-attr, arg-type]


def renew_experts(supernet: ExpertLlama) -> None:
    """Let routed experts and routers begin anew, which says nothing yet; all else stays."""
    for layer in expert_layers(supernet):
        bank = layer.bank
        assert isinstance(bank, StackedExperts) and bank.gate is not None
        nn.init.zeros_(bank.down)
        for stack in (bank.gate, bank.up):
            nn.init.normal_(stack, std=0.6 * bank.dim**-0.5)
        for router in layer.routers.values():
            nn.init.normal_(router.weight, std=0.02)  # type: ignore[arg-type]


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
