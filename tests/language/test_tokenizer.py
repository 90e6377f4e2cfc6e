"""The corpus and its tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from nestling.errors import ModelError, TrainError
from nestling.language.bits import bits_per_byte, cut_windows, token_bits
from nestling.language.corpus import KINDS, Document, load_corpus
from nestling.language.tokenizer import (
    SPECIAL,
    encode_document,
    encode_stream,
    load_tokenizer,
    token_bytes,
    train_tokenizer,
)

TEXT = "def add(left, right):\n    return left + right  # the sum of the two\n" * 20


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([TEXT], 280)


@given(text=st.text(max_size=40))
@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_text_survives(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text).ids
    if not any(token in text for token in SPECIAL):
        assert tokenizer.decode(ids) == text
        assert int(token_bytes(tokenizer)[torch.tensor(ids, dtype=torch.int64)].sum()) == len(
            text.encode()
        )


def test_documents_begin_with_their_kind_and_end(tokenizer: Tokenizer, tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    tokenizer.save(str(file))
    again = load_tokenizer(tmp_path, 280)
    ids = encode_document(again, Document("code/x.py", "code", "return left"))
    assert again.decode(ids, skip_special_tokens=False) == "<|code|>return left<|end|>"


def test_a_tokenizer_that_does_not_fit_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    tokenizer.save(str(file))
    with pytest.raises(ModelError, match="does not match the model"):
        load_tokenizer(file, 279)
    file.write_text("{")
    with pytest.raises(ModelError, match="is not a tokenizer"):
        load_tokenizer(file)
    with pytest.raises(ModelError, match="no such tokenizer"):
        load_tokenizer(tmp_path / "other")


def test_bits_per_byte_are_those_of_a_uniform_guess(tokenizer: Tokenizer) -> None:
    document = Document("code/x.py", "code", TEXT)
    prose = Document("prose/x", "prose", TEXT)
    texts = {kind: encode_stream(tokenizer, [document, prose], kind) for kind in KINDS}
    windows = cut_windows(texts, token_bytes(tokenizer), length=16, count=3)
    assert windows.kinds == ("prose",) * 3 + ("code",) * 3
    bits = token_bits(torch.zeros(*windows.targets.shape, 256), windows.targets % 256)
    assert bits_per_byte(bits, windows.sizes) == pytest.approx(
        8.0 * windows.targets.numel() / float(windows.sizes.sum())
    )


def library(folder: Path) -> Path:
    for name in ("ast.py", "argparse.py", "test/ast.py", "json/scanner.py"):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text(f"# {name}\n")
    return folder


def test_held_out_documents_are_nowhere_else(tmp_path: Path) -> None:
    parts = {
        split: load_corpus(split, library(tmp_path))
        for split in ("train", "validation", "held-out")
    }
    names = {split: {document.name for document in part} for split, part in parts.items()}
    assert "code/argparse.py" in names["held-out"] and "prose/types" in names["held-out"]
    assert "code/json/scanner.py" in names["validation"]
    assert "code/ast.py" in names["train"] and "code/test/ast.py" not in names["train"]
    assert sum(map(len, names.values())) == len(set().union(*names.values()))
    held_out = next(d.text for d in parts["held-out"] if d.name == "prose/types")
    long = {paragraph for paragraph in held_out.split("\n\n") if len(paragraph) >= 60}
    for part in (parts["train"], parts["validation"]):
        assert not any(long & set(d.text.split("\n\n")) for d in part)


def test_an_installation_without_sources_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="no sources"):
        load_corpus("train", tmp_path)
