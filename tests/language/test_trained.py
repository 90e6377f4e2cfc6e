"""The decoder that comes with nestling: whole, small, and better the more of it runs."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer

from nestling.elastic import Supernet
from nestling.language.bits import Windows, bits_per_byte, cut_windows, score_subnet
from nestling.language.corpus import KINDS, load_corpus
from nestling.language.policies import Fixed, RandomMix, Speculative
from nestling.language.running import follow_exits, write_greedily
from nestling.language.speculation import speculate
from nestling.language.tokenizer import encode_stream, token_bytes
from nestling.recipes import language

Trained = tuple[Supernet, Tokenizer]


@pytest.fixture(scope="module")
def trained() -> Trained:
    return language.load_trained()


@pytest.fixture(scope="module")
def held_out(trained: Trained) -> Windows:
    documents = load_corpus("held-out")
    texts = {kind: encode_stream(trained[1], documents, kind) for kind in KINDS}
    return cut_windows(texts, token_bytes(trained[1]), length=256, count=4)


def test_it_fits_into_four_megabytes() -> None:
    assert (language.FOLDER / language.SUPERNET_NAME).stat().st_size <= 4_000_000


def test_every_layer_is_worth_something(trained: Trained, held_out: Windows) -> None:
    space = trained[0].space
    exits = [space.uniform(space.levels, depth) for depth in range(len(space.depths))]
    losses = [
        bits_per_byte(score_subnet(trained[0], subnet, held_out)[0], held_out.sizes)
        for subnet in exits
    ]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.97 * losses[0] and losses[-1] < 2.6


def test_tokens_that_switch_cost_little_more_than_their_share(
    trained: Trained, held_out: Windows
) -> None:
    supernet = trained[0]
    paths = [supernet.space.smallest(), supernet.space.full()]
    run = follow_exits(supernet, held_out, paths, RandomMix(0, 1, 0.5, seed=1))
    tiny, full = (score_subnet(supernet, path, held_out)[0] for path in paths)
    never_switched = torch.where(run.path == 0, tiny, full)
    assert bits_per_byte(run.bits, held_out.sizes) < 1.02 * bits_per_byte(
        never_switched, held_out.sizes
    )


def test_drafts_say_what_the_full_path_says(trained: Trained) -> None:
    supernet, tokenizer = trained
    prompt = tokenizer.encode("<|code|>def close(self):\n    ").ids
    paths = [supernet.space.smallest(), supernet.space.full()]
    greedy = [one.token for one in write_greedily(supernet, prompt, paths, Fixed(1), 48)]
    counts = speculate(supernet, prompt, paths, Speculative(0, 1, 4), 48)
    assert counts.tokens == greedy
    assert counts.acceptance > 0.3
