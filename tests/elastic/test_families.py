"""Converted Hugging Face models against the models themselves, whole and cut by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from elastic.samples import randomise
from torch import Tensor, nn

from nestling.elastic import Subnet, Supernet, convert
from nestling.errors import ModelError

Make = Callable[[], tuple[Any, dict[str, Tensor]]]

DECODER = {
    "vocab_size": 40,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def vit(kind: str, **options: Any) -> Make:
    def make() -> tuple[Any, dict[str, Tensor]]:
        config = transformers.ViTConfig(
            hidden_size=32,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=64,
            image_size=16,
            patch_size=4,
            num_labels=5,
            **options,
        )
        return getattr(transformers, kind)(config), {"pixel_values": torch.randn(2, 3, 16, 16)}

    return make


def bert(kind: str, **options: Any) -> Make:
    def make() -> tuple[Any, dict[str, Tensor]]:
        config = transformers.BertConfig(
            vocab_size=40,
            hidden_size=32,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=32,
            num_labels=3,
            **options,
        )
        tokens = torch.randint(0, 40, (2, 12))
        padding = torch.ones_like(tokens)
        padding[1, 7:] = 0
        return getattr(transformers, kind)(config), {
            "input_ids": tokens,
            "attention_mask": padding,
            "token_type_ids": torch.randint(0, 2, (2, 12)),
        }

    return make


def mobilenet(kind: str, size: int = 36, **options: Any) -> Make:
    def make() -> tuple[Any, dict[str, Tensor]]:
        options.setdefault("depth_multiplier", 0.25)
        config = transformers.MobileNetV2Config(image_size=size, num_labels=5, **options)
        model = getattr(transformers, kind)(config)
        return model, {"pixel_values": torch.randn(2, 3, size, size)}

    return make


def decoder(kind: str, **options: Any) -> Make:
    def make() -> tuple[Any, dict[str, Tensor]]:
        config = getattr(transformers, f"{kind}Config")(**DECODER, **options)
        model = getattr(transformers, f"{kind}ForCausalLM")(config)
        return model, {"input_ids": torch.randint(0, 40, (2, 12))}

    return make


MODELS: dict[str, Make] = {
    "vit": vit("ViTForImageClassification"),
    "vit-features": vit("ViTModel", qkv_bias=False, hidden_act="gelu_pytorch_tanh"),
    "bert": bert("BertForSequenceClassification"),
    "bert-features": bert("BertModel", hidden_act="relu"),
    "mobilenet": mobilenet("MobileNetV2ForImageClassification"),
    "mobilenet-even": mobilenet("MobileNetV2ForImageClassification", size=32, tf_padding=False),
    "mobilenet-dilated": mobilenet("MobileNetV2ForImageClassification", output_stride=8),
    "mobilenet-features": mobilenet("MobileNetV2Model", first_layer_is_expansion=False),
    "llama": decoder("Llama"),
    "llama-biases-tied": decoder(
        "Llama", attention_bias=True, mlp_bias=True, tie_word_embeddings=True
    ),
    "llama-long": decoder("Llama", rope_parameters=LLAMA3),
    "qwen2": decoder("Qwen2"),
    "qwen3": decoder("Qwen3", head_dim=16),
}


def build(name: str) -> tuple[Any, dict[str, Tensor], Supernet]:
    torch.manual_seed(0)
    model, inputs = MODELS[name]()
    randomise(model)
    return model, inputs, convert(model)


@torch.no_grad()
def output(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    result = model(**inputs)
    if hasattr(result, "logits"):
        return result.logits
    pooled = isinstance(model, transformers.MobileNetV2Model)
    return result.pooler_output if pooled else result.last_hidden_state


@torch.no_grad()
def check(actual: Tensor, expected: Tensor) -> None:
    """Equal within 1e-5 of the largest element."""
    assert actual.shape == expected.shape
    largest = max(1.0, expected.abs().max().item())
    assert (actual - expected).abs().max().item() <= 1e-5 * largest


@pytest.mark.parametrize("name", MODELS)
def test_the_full_subnet_is_the_model(name: str) -> None:
    model, inputs, supernet = build(name)
    with torch.no_grad():
        actual = supernet(*inputs.values())
    check(actual, output(model, inputs))
    assert not supernet.training
    assert supernet.space.count() > 160


@pytest.mark.parametrize("name", MODELS)
def test_a_subnet_is_the_model_without_the_other_units(name: str) -> None:
    """The other units are silenced in the model's own weights, the other layers taken out."""
    model, inputs, supernet = build(name)
    subnet = mixed(supernet)
    with torch.no_grad():
        expected = supernet(*inputs.values(), subnet=subnet)
        for layer, blocks in enumerate(supernet.layers()):
            levels = [subnet.levels[supernet.chain.index(block)] for block in blocks]
            silence(model, layer, [b.widths[k - 1] for b, k in zip(blocks, levels, strict=True)])
    drop(model, [i for i, blocks in enumerate(supernet.layers()) if blocks[0].level == 0])
    check(expected, output(model, inputs))


def mixed(supernet: Supernet) -> Subnet:
    """Return a subnet with a layer left out and every level somewhere."""
    layers = [blocks[0].layer for blocks in supernet.layers() if blocks[0].skippable]
    skipped = layers[len(layers) // 2]
    return Subnet(
        tuple(
            0 if block.layer == skipped else 1 + index % len(block.widths)
            for index, block in enumerate(supernet.chain)
        )
    )


def silence(model: Any, layer: int, widths: list[int]) -> None:
    base = getattr(model, model.base_model_prefix, model)
    if isinstance(base, transformers.MobileNetV2Model):
        base.layer[layer].reduce_1x1.convolution.weight[:, widths[0] :] = 0
        return
    heads, neurons = widths
    if isinstance(base, transformers.BertModel):
        module = base.encoder.layer[layer]
        out, down, width = module.attention.output.dense, module.output.dense, 8
    elif isinstance(base, transformers.ViTModel):
        module = base.layers[layer]
        out, down, width = module.attention.o_proj, module.mlp.fc2, 8
    else:
        module = base.layers[layer]
        attention = module.self_attn
        width = attention.num_key_value_groups * attention.head_dim
        out, down = attention.o_proj, module.mlp.down_proj
    out.weight[:, heads * width :] = 0
    down.weight[:, neurons:] = 0


def drop(model: Any, layers: list[int]) -> None:
    assert layers
    base = getattr(model, model.base_model_prefix, model)
    if isinstance(base, transformers.MobileNetV2Model):
        kept = [module for i, module in enumerate(base.layer) if i not in layers]
        base.layer = nn.ModuleList(kept)
        return
    holder = base.encoder if isinstance(base, transformers.BertModel) else base
    name = "layer" if isinstance(base, transformers.BertModel) else "layers"
    kept = [module for i, module in enumerate(getattr(holder, name)) if i not in layers]
    setattr(holder, name, nn.ModuleList(kept))
    base.config.num_hidden_layers = len(kept)
    base.config.use_cache = False


def test_a_narrow_vit_of_hugging_face_is_the_subnet() -> None:
    """A model built narrow, with weights sliced by hand, for what silencing could miss."""
    model, inputs, supernet = build("vit")
    half = supernet.space.uniform(2)
    config = transformers.ViTConfig(**{**model.config.to_dict(), "head_dim": 8})
    config.num_attention_heads, config.intermediate_size = 2, 32
    narrow = transformers.ViTForImageClassification(config).eval()
    state = {}
    for name, value in narrow.state_dict().items():
        source = model.state_dict()[name]
        state[name] = source[tuple(slice(size) for size in value.shape)]
    narrow.load_state_dict(state)
    with torch.no_grad():
        check(supernet(*inputs.values(), subnet=half), output(narrow, inputs))


@pytest.mark.parametrize("name", ["vit", "bert", "mobilenet", "llama", "qwen3"])
def test_a_local_folder(name: str, tmp_path: Path) -> None:
    model, inputs, supernet = build(name)
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        loaded = convert(tmp_path)(*inputs.values())
        assert torch.equal(loaded, supernet(*inputs.values()))


@pytest.mark.parametrize("name", ["vit", "bert", "mobilenet", "llama", "qwen2", "qwen3"])
def test_a_configuration(name: str) -> None:
    torch.manual_seed(0)
    model, inputs = MODELS[name]()
    supernet = convert(model.config)
    assert supernet(*inputs.values()).shape == output(model.eval(), inputs).shape


def test_decoders_run_shorter_windows_and_the_last_position() -> None:
    model, inputs, supernet = build("llama")
    last = convert(model, positions=16, last_only=True)
    assert last.example_inputs()[0].shape == (1, 16)
    with torch.no_grad():
        y = supernet(*inputs.values())
        check(last(*inputs.values()), y[:, -1:])


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_a_window_longer_than_the_positions(name: str) -> None:
    model, _ = MODELS[name]()
    with pytest.raises(ModelError, match="window"):
        convert(model, positions=65)


def test_sliding_windows_bound_the_window() -> None:
    model, inputs = decoder(
        "Qwen2", use_sliding_window=True, sliding_window=16, max_window_layers=1
    )()
    randomise(model)
    with torch.no_grad():
        check(convert(model)(*inputs.values()), output(model, inputs))
    with pytest.raises(ModelError, match="sliding"):
        convert(model, positions=17)


def test_widths_that_do_not_divide_name_the_module() -> None:
    model, _ = MODELS["bert"]()
    with pytest.raises(ModelError, match=r"layer0\.ffn.*\(0\.3, 1\.0\)"):
        convert(model, widths=(0.3, 1.0))
    with pytest.raises(ModelError, match=r"layer0\.attention"):
        convert(model, heads_widths=(3, 5))


def test_bert_as_a_decoder_is_refused() -> None:
    model, _ = bert("BertModel", is_decoder=True)()
    with pytest.raises(ModelError, match="decoder"):
        convert(model)


def test_families_that_are_not_known() -> None:
    config = transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=10)
    with pytest.raises(ModelError, match=r"gpt2") as caught:
        convert(config)
    assert "LlamaForCausalLM" in str(caught.value)
    with pytest.raises(ModelError, match="no elastic place"):
        convert(transformers.GPT2Model(config))


def test_folders_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json"):
        convert(tmp_path / "missing")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match="cannot load"):
        convert(tmp_path)
    transformers.BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="cannot load"):
        convert(tmp_path)
