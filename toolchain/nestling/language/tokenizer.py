"""A small byte-level BPE: any bytes that are valid UTF-8 survive the round trip."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from nestling.errors import ModelError
from nestling.language.corpus import KINDS, Document, Kind

END = "<|end|>"
"""Ends a document; the loop of a generation stops at it."""

CONTROL: dict[Kind, str] = {kind: f"<|{kind}|>" for kind in KINDS}
"""A document begins with the token of its kind: the control tokens that modes can set."""

SPECIAL = (END, *CONTROL.values())


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Train a byte-level BPE (GPT-2's splitting rule, no normalisation).

    Args:
        texts: What to learn the merges from.
        vocabulary: Tokens, the special ones and the 256 bytes included.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=list(SPECIAL),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return tokenizer


def load_tokenizer(path: str | os.PathLike[str], vocabulary: int | None = None) -> Tokenizer:
    """Read a `tokenizer.json`, ours or that of a Hugging Face folder.

    Args:
        path: The file, or the folder that it is in.
        vocabulary: Tokens of the model that it must fit; None asks for none.

    Raises:
        ModelError: There is no such file, it is not a tokenizer, or it has tokens that the model
            does not know.
    """
    file = Path(path)
    file = file / "tokenizer.json" if file.is_dir() else file
    if not file.is_file():
        raise ModelError("no such tokenizer", actual=str(file), expected="a tokenizer.json")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # The library raises bare Exception for every fault of a file.
        raise ModelError(f"{file} is not a tokenizer", actual=str(error).strip()) from error
    size = tokenizer.get_vocab_size()
    if vocabulary is not None and size > vocabulary:
        raise ModelError(
            "the tokenizer does not match the model",
            expected=f"at most {vocabulary} tokens",
            actual=size,
        )
    return tokenizer


def encode_document(tokenizer: Tokenizer, document: Document) -> list[int]:
    """Return the tokens of a document: its kind, its text, the end."""
    return [
        special_token(tokenizer, CONTROL[document.kind]),
        *tokenizer.encode(document.text, add_special_tokens=False).ids,
        special_token(tokenizer, END),
    ]


def special_token(tokenizer: Tokenizer, token: str) -> int:
    """Return the number of a special token.

    Raises:
        ModelError: The tokenizer has no such token.
    """
    number: int | None = tokenizer.token_to_id(token)
    if number is None:
        raise ModelError(f"the tokenizer has no token {token}")
    return number


def encode_stream(tokenizer: Tokenizer, documents: Sequence[Document], kind: Kind) -> Tensor:
    """Return all documents of one kind, one after the other: int64, (tokens,)."""
    ids: list[int] = []
    for document in documents:
        if document.kind == kind:
            ids += encode_document(tokenizer, document)
    return torch.tensor(ids, dtype=torch.int64)


def token_bytes(tokenizer: Tokenizer) -> Tensor:
    """Return how many bytes of text each token stands for: int64, (vocabulary,); special ones 0."""
    sizes = torch.zeros(tokenizer.get_vocab_size(), dtype=torch.int64)
    for token, index in tokenizer.get_vocab(with_added_tokens=True).items():
        # The byte-level alphabet has one character for each byte.
        sizes[index] = 0 if token in SPECIAL else len(token)
    return sizes
