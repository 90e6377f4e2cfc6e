"""Token by token against whole windows, transformers, and the state rules by their definitions."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from nestling.elastic import Subnet, Supernet, convert
from nestling.errors import ModelError, PathError
from nestling.language.decoder import EagerDecoder, StateRule
from nestling.language.scoring import decoder_layers, logits_each
from nestling.partition.decoder import DecoderShape, cut_decoder
from nestling.quantize.schemes import get_scheme


def read(decoder: EagerDecoder, tokens: Tensor, levels: list[Subnet]) -> Tensor:
    """Feed one token at a time, each on its path."""
    parts = [decoder.feed(tokens[:, i : i + 1], path) for i, path in enumerate(levels)]
    return torch.cat(parts, dim=1)


def test_the_full_path_is_the_network(decoder: Supernet) -> None:
    tokens = torch.randint(50, (3, 12))
    for name in decoder.space.named:
        subnet = decoder.space.named[name]
        expected = decoder(tokens, subnet=subnet)
        by_hand = decoder.dense(subnet)(tokens)
        eager = read(EagerDecoder(decoder, rows=3), tokens, [subnet] * 12)
        torch.testing.assert_close(expected, by_hand, rtol=0, atol=0)
        torch.testing.assert_close(eager, expected, rtol=1e-4, atol=1e-5)
        at_once = EagerDecoder(decoder, rows=3).feed(tokens, subnet)
        torch.testing.assert_close(at_once, expected, rtol=1e-4, atol=1e-5)


def test_any_mix_is_what_whole_windows_give(decoder: Supernet) -> None:
    rng = random.Random(3)
    tokens = torch.randint(50, (1, 14))
    mix = [decoder.space.sample(rng) for _ in range(14)]
    levels = torch.tensor([[subnet.levels for subnet in mix]])
    expected = logits_each(decoder, tokens, levels)
    torch.testing.assert_close(
        read(EagerDecoder(decoder), tokens, mix), expected, rtol=1e-4, atol=1e-5
    )
    one = decoder.space.named["small"]
    torch.testing.assert_close(
        logits_each(decoder, tokens, torch.tensor(one.levels).expand(1, 14, -1)),
        decoder(tokens, subnet=one),
        rtol=1e-4,
        atol=1e-5,
    )


def test_going_on_is_as_if_the_token_had_taken_the_large_path(decoder: Supernet) -> None:
    tokens = torch.randint(50, (2, 6))
    tiny, small, full = decoder.space.named.values()
    eager, straight = EagerDecoder(decoder, rows=2), EagerDecoder(decoder, rows=2)
    on = torch.tensor([True, False])
    for position in range(6):
        fed = tokens[:, position : position + 1]
        eager.feed(fed, tiny)
        eager.go_on(small, on)
        found = eager.go_on(full, on)
        levels = torch.tensor([[full.levels], [tiny.levels]])
        torch.testing.assert_close(found, straight.feed(fed, levels), rtol=1e-4, atol=1e-5)


def test_recomputed_state_is_that_of_the_full_path(decoder: Supernet) -> None:
    tokens = torch.randint(50, (1, 10))
    tiny, _, full = decoder.space.named.values()
    mix = [tiny, tiny, full, tiny, full] * 2
    expected = decoder(tokens, subnet=full)
    found = read(EagerDecoder(decoder, rule=StateRule.RECOMPUTE), tokens, mix)
    on_full = [path is full for path in mix]
    torch.testing.assert_close(found[:, on_full], expected[:, on_full], rtol=1e-4, atol=1e-5)
    # The core is the same on all paths, so the exit behind it never differs, whatever the rule.
    exits = decoder(tokens, subnet=tiny)
    on_tiny = [path is tiny for path in mix]
    for rule in StateRule:
        found = read(EagerDecoder(decoder, rule=rule), tokens, mix)
        torch.testing.assert_close(found[:, on_tiny], exits[:, on_tiny], rtol=1e-4, atol=1e-5)


def test_shared_state_is_that_of_the_layer_below(decoder: Supernet) -> None:
    tiny = decoder.space.named["tiny"]
    eager = EagerDecoder(decoder, rule=StateRule.SHARE)
    eager.feed(torch.randint(50, (1, 5)), tiny)
    for layer in (2, 3):
        torch.testing.assert_close(eager.keys[layer][:, :5], eager.keys[1][:, :5])
        torch.testing.assert_close(eager.values[layer][:, :5], eager.values[1][:, :5])


def test_a_rewound_decoder_forgets(decoder: Supernet) -> None:
    tokens = torch.randint(50, (1, 8))
    full = decoder.space.full()
    eager = EagerDecoder(decoder)
    eager.feed(tokens[:, :4], full)
    eager.feed(torch.zeros(1, 3, dtype=torch.int64), full)
    eager.rewind(4)
    torch.testing.assert_close(
        eager.feed(tokens[:, 4:], full), decoder(tokens, subnet=full)[:, 4:], rtol=1e-4, atol=1e-5
    )
    with pytest.raises(PathError, match="rewind"):
        eager.rewind(9)


def test_a_full_context_is_refused_and_harms_nothing(decoder: Supernet) -> None:
    eager = EagerDecoder(decoder, capacity=4)
    eager.feed(torch.zeros(1, 4, dtype=torch.int64), decoder.space.full())
    with pytest.raises(PathError, match="context is full"):
        eager.feed(torch.zeros(1, 1, dtype=torch.int64), decoder.space.full())
    assert eager.position == 4


@pytest.mark.parametrize("kind", ["Llama", "Qwen3"])
def test_a_converted_folder_decodes_as_transformers_does(kind: str, tmp_path: Path) -> None:
    config: Any = getattr(transformers, f"{kind}Config")(
        vocab_size=40,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=8,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    model.save_pretrained(tmp_path)
    supernet = convert(tmp_path, heads_widths=(1.0,), depths=(1, 2, 3), early_exit=True)
    tokens = torch.randint(40, (1, 9))
    with torch.no_grad():
        expected = model(tokens).logits
        model.model.layers = model.model.layers[:1]
        exit_after_one = model(tokens).logits
    full, tiny = supernet.space.full(), supernet.space.uniform(4, 0)
    for subnet, logits in ((full, expected), (tiny, exit_after_one)):
        found = read(EagerDecoder(supernet), tokens, [subnet] * 9)
        torch.testing.assert_close(found, logits, rtol=1e-4, atol=1e-5)


def test_a_context_beyond_the_models_positions_is_refused() -> None:
    from nestling.elastic import ElasticLlama

    net = ElasticLlama(
        vocabulary=20,
        dim=16,
        depth=2,
        heads=2,
        hidden=16,
        heads_widths=(1.0,),
        early_exit=True,
        longest=12,
    )
    scheme = get_scheme("fp32")
    assert cut_decoder(net, scheme, DecoderShape(12, (4,), 4)).shape.context == 12
    with pytest.raises(ModelError, match=r"longer than the model's positions.*at most 12"):
        cut_decoder(net, scheme, DecoderShape(13, (4,), 4))


def test_elastic_attention_cannot_share_a_cache() -> None:
    from nestling.elastic import ElasticLlama

    with pytest.raises(ModelError, match="attention is elastic"):
        decoder_layers(ElasticLlama(vocabulary=20, dim=16, depth=2, heads=4, hidden=16))
