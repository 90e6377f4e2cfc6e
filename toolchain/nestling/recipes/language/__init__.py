"""A decoder of 1.9 million parameters on Python's manual and library, trained and at hand.

Beside this file: `supernet.pt` in half precision, `tokenizer.json`, and the log of the run that
made them, `train.jsonl`. `scripts/train_lm.py` makes them anew. (The run that is kept was resumed
twice with other settings, as its log says: for 200 steps the core's exit learned mostly from tokens
that it was sure of. That made it surer, not better, and is gone. `seconds` in `report.json` are
those of the last part, of 450 steps.)

The first two layers are the core: small, the same on every path, with an exit behind them (`tiny`).
The four layers above hold most of the weights, at three widths. A path that goes on from the core
repeats nothing, so a draft is the first part of its verification, and the entropy of the tiny path
is known before anybody pays for the full one.

Tokens are bytes, without merges: most of them are easy, some are not, and that is what policies
live on.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from nestling.elastic import ElasticLlama, Supernet, load
from nestling.errors import ModelError
from nestling.language.tokenizer import load_tokenizer
from nestling.language.training import LanguageTraining

if TYPE_CHECKING:
    from tokenizers import Tokenizer

NAME = "language"
FOLDER = Path(__file__).parent
SUPERNET_NAME = "supernet.pt"
TOKENIZER_NAME = "tokenizer.json"

VOCABULARY = 272
POSITIONS = 512
CORE_LAYERS = 2
EMBEDDING_SCALE = 0.2

TRAINING = LanguageTraining(
    steps=1100, windows=4, prose_share=0.5, mixed_share=0.25, lr=0.012, core_weight=0.7
)


def build() -> Supernet:
    """Return the untrained decoder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(TRAINING.seed)
        supernet = ElasticLlama(
            vocabulary=VOCABULARY,
            dim=192,
            depth=6,
            heads=6,
            groups=2,
            hidden=512,
            positions=POSITIONS,
            widths=(0.25, 0.5, 1.0),
            heads_widths=(1.0,),
            depths=(2, 3, 4, 5, 6),
            early_exit=True,
            core_layers=CORE_LAYERS,
            core_hidden=96,
            tied=True,
        )
        # The stream begins as the token alone, and blocks add to it as they learn. The embedding is
        # the head too: what is too large for it there, the last norm takes back.
        for block in supernet.chain:
            for name, module in block.named_modules():
                if isinstance(module, nn.Linear) and name in ("o", "down"):
                    nn.init.zeros_(module.weight)
                elif isinstance(module, nn.Linear):
                    nn.init.normal_(module.weight, std=0.6 * module.in_features**-0.5)
        nn.init.normal_(supernet.stem.embedding.weight, std=EMBEDDING_SCALE)  # type: ignore[union-attr, arg-type]
        nn.init.constant_(supernet.head.norm.weight, 0.02 / EMBEDDING_SCALE)  # type: ignore[union-attr, arg-type]
    return supernet


def load_trained() -> tuple[ElasticLlama, Tokenizer]:
    """Return the decoder and the tokenizer that come with nestling.

    Raises:
        ModelError: The files are not there or not whole.
    """
    supernet = load(FOLDER / SUPERNET_NAME)
    if not isinstance(supernet, ElasticLlama):
        raise ModelError(
            f"{SUPERNET_NAME} holds another family",
            expected=ElasticLlama.__name__,
            actual=type(supernet).__name__,
        )
    return supernet, load_tokenizer(FOLDER / TOKENIZER_NAME, VOCABULARY)
