"""The decoder of experts that comes along: it reads text, its experts matter, and they last."""

from __future__ import annotations

import pytest
import torch

from nestling.experts.bank import StackedExperts
from nestling.experts.decoder import ExpertLlama
from nestling.experts.routing import expert_layers, record_routing
from nestling.language.bits import Windows, bits_per_byte, cut_windows, score_subnet
from nestling.language.corpus import KINDS, load_corpus
from nestling.language.tokenizer import encode_stream, load_tokenizer, token_bytes
from nestling.recipes.experts import language
from nestling.recipes.experts.language.training import kept_share, rounded_experts
from nestling.recipes.language import VOCABULARY


@pytest.fixture(scope="module")
def windows() -> Windows:
    tokenizer = load_tokenizer(language.TOKENIZER, VOCABULARY)
    documents = load_corpus("held-out")
    texts = {kind: encode_stream(tokenizer, documents, kind) for kind in KINDS}
    return cut_windows(texts, token_bytes(tokenizer), length=256, count=4)


@pytest.fixture
def decoder() -> ExpertLlama:
    return language.load_trained()


def score(decoder: ExpertLlama, windows: Windows) -> float:
    bits = score_subnet(decoder, decoder.space.full(), windows)[0]
    return bits_per_byte(bits, windows.sizes)


def test_it_fits_into_the_repository() -> None:
    assert (language.FOLDER / language.SUPERNET_NAME).stat().st_size <= 4_000_000


def test_its_experts_know_the_text(decoder: ExpertLlama, windows: Windows) -> None:
    whole = score(decoder, windows)
    assert whole < 2.3
    with rounded_experts(decoder, 4, language.GROUP):
        assert score(decoder, windows) < 1.01 * whole
    for layer in expert_layers(decoder):
        assert isinstance(layer.bank, StackedExperts)
        layer.bank.down.data.zero_()
    assert score(decoder, windows) > 1.2 * whole


@torch.no_grad()
def test_its_experts_last_and_many_are_used(decoder: ExpertLlama, windows: Windows) -> None:
    with record_routing(decoder) as calls:
        decoder(windows.tokens)
    # By chance it would be 2 of 32.
    assert float(kept_share(calls, len(windows.tokens))) > 0.5
    for call in calls:
        used = torch.bincount(call.chosen.flatten(), minlength=language.EXPERTS)
        assert int((used > 0).sum()) > 0.25 * language.EXPERTS
