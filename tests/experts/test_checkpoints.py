"""Converted decoders with experts against transformers' own models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from nestling.elastic import convert, load, save
from nestling.errors import ModelError
from nestling.experts.decoder import ExpertLlama
from nestling.experts.layer import ExpertFeedForward
from nestling.partition.decoder import DecoderShape, cut_decoder
from nestling.quantize.schemes import get_scheme

SMALL = {
    "vocab_size": 40,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "num_experts_per_tok": 2,
}
KINDS: dict[str, dict[str, Any]] = {
    "Mixtral": {"num_local_experts": 4},
    "Olmoe": {"num_experts": 6},
    "Qwen2Moe": {
        "num_experts": 4,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 24,
        "mlp_only_layers": [0],
    },
    "Qwen3Moe": {
        "num_experts": 4,
        "moe_intermediate_size": 16,
        "head_dim": 8,
        "norm_topk_prob": True,
    },
}


def make_model(kind: str, **options: Any) -> Any:
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**{**SMALL, **KINDS[kind], **options})
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.3)
            elif "norm" in name:
                parameter.uniform_(0.5, 1.5)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_a_converted_folder_computes_what_transformers_does(kind: str, tmp_path: Path) -> None:
    model = make_model(kind)
    model.save_pretrained(tmp_path / "model")
    supernet = convert(tmp_path / "model", depths=(1, 2))
    tokens = torch.randint(40, (3, 11))
    with torch.no_grad():
        expected = model(tokens).logits
        found = supernet(tokens, subnet=supernet.space.full())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    layers = [b for b in supernet.chain if isinstance(b, ExpertFeedForward)]
    assert len(layers) == (1 if kind == "Qwen2Moe" else 2)
    save(supernet, tmp_path / "supernet.pt")
    again = load(tmp_path / "supernet.pt")
    with torch.no_grad():
        torch.testing.assert_close(again(tokens), found, rtol=0, atol=0)
        dense = supernet.dense(supernet.space.full())(tokens)
    torch.testing.assert_close(dense, found, rtol=0, atol=0)


def test_what_differs_from_the_model_is_refused() -> None:
    with pytest.raises(ModelError, match="clip"):
        convert(make_model("Olmoe", clip_qkv=1.0))
    with pytest.raises(ModelError, match="sliding window"):
        convert(make_model("Mixtral", sliding_window=8), positions=9)
    near = convert(make_model("Mixtral", sliding_window=8))
    assert near.example_inputs()[0].shape == (1, 8)
    assert isinstance(near, ExpertLlama) and near.longest == 8
    with pytest.raises(ModelError, match="all heads"):
        convert(make_model("Olmoe"), heads_widths=(0.5, 1.0))
    with pytest.raises(ModelError, match="no layer"):
        convert(make_model("Qwen3Moe", mlp_only_layers=[0, 1]))
    with pytest.raises(ModelError, match="no such layers"):
        ExpertLlama(dim=16, depth=2, heads=2, hidden=16, vocabulary=9, expert_layers=(2,))


@pytest.mark.parametrize("kind", ["Olmoe", "Qwen2Moe"])
def test_the_stages_of_a_decoder_compute_it_token_by_token(kind: str) -> None:
    from language_native.test_quantised import run_stages

    from nestling.experts.operator import resident_experts

    model = make_model(kind)
    supernet = convert(model, depths=(1, 2), early_exit=True)
    pieces = cut_decoder(supernet, get_scheme("fp32"), DecoderShape(12, (4,), 4))
    tokens = torch.randint(40, (9,)).tolist()
    with torch.no_grad(), resident_experts(pieces.banks()):
        found = run_stages(pieces, "full", tokens)
        expected = model(torch.tensor([tokens])).logits[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
