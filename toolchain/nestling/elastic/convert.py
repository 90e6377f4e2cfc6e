"""From models that people already have to supernets."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nestling.elastic.block import ElasticBlock
from nestling.elastic.families import bert, llama, mobilenet, vit
from nestling.elastic.fixed import FixedBlock
from nestling.elastic.supernet import Supernet
from nestling.elastic.widths import DEFAULT_WIDTHS
from nestling.errors import ModelError


def _convert_experts(model: Any, **options: Any) -> Supernet:
    from nestling.experts.checkpoints import from_transformers  # made of elastic blocks themselves

    return from_transformers(model, **options)


_CONVERSIONS: dict[str, Callable[..., Supernet]] = {
    "BertForSequenceClassification": bert.from_transformers,
    "BertModel": bert.from_transformers,
    "LlamaForCausalLM": llama.from_transformers,
    "MixtralForCausalLM": _convert_experts,
    "MobileNetV2ForImageClassification": mobilenet.from_transformers,
    "MobileNetV2Model": mobilenet.from_transformers,
    "OlmoeForCausalLM": _convert_experts,
    "Qwen2ForCausalLM": llama.from_transformers,
    "Qwen2MoeForCausalLM": _convert_experts,
    "Qwen3ForCausalLM": llama.from_transformers,
    "Qwen3MoeForCausalLM": _convert_experts,
    "ViTForImageClassification": vit.from_transformers,
    "ViTModel": vit.from_transformers,
}
# The class that a configuration without one stands for.
_DEFAULT_CLASSES = {
    "bert": "BertForSequenceClassification",
    "llama": "LlamaForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "mobilenet_v2": "MobileNetV2ForImageClassification",
    "olmoe": "OlmoeForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen2_moe": "Qwen2MoeForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
    "vit": "ViTForImageClassification",
}


def convert(
    model: Any,
    widths: Sequence[float | int] = DEFAULT_WIDTHS,
    depths: Sequence[float | int] | None = None,
    *,
    heads_widths: Sequence[float | int] | None = None,
    inputs: Mapping[str, Tensor] | None = None,
    **options: Any,
) -> Supernet:
    """Make a supernet of a model; the full subnet computes what the model does.

    Args:
        model: One of

            - a Hugging Face `transformers` model of a known family (ViT, BERT, MobileNetV2, Llama,
              Qwen2, Qwen3, Mixtral, OLMoE, Qwen2-MoE, Qwen3-MoE), a local folder with one, or a
              configuration (then with random weights);
            - a module with `stem`, `blocks` and `head`, or an `nn.Sequential`, built of elastic
              blocks; what stands between blocks becomes a `FixedBlock`;
            - a supernet, which is returned as it is.
        widths: Levels of feed-forward and inverted residual blocks, as fractions or counts.
        depths: Layers to keep at each depth, as fractions or counts; see `make_space`.
        heads_widths: Levels of attention blocks; default: as `widths`, rounded up to whole heads.
        inputs: Needed for modules: example inputs of batch 1 by name, in order.
        **options: What the family's `from_transformers` takes besides, such as `positions`; for
            modules what `Supernet` takes.

    Raises:
        ModelError: There is no elastic place, widths do not divide, or the family is not known.
    """
    if isinstance(model, Supernet):
        return model
    if isinstance(model, str | os.PathLike):
        model = _from_folder(Path(model))
    elif hasattr(model, "model_type") and not isinstance(model, nn.Module):
        model = _from_config(model)
    kind = type(model).__name__
    if kind in _CONVERSIONS and hasattr(model, "config"):
        if heads_widths is not None:
            options["heads_widths"] = heads_widths
        try:
            return _CONVERSIONS[kind](model, widths=widths, depths=depths, **options)
        except TypeError as error:
            raise ModelError(f"{kind} does not take an option", actual=str(error)) from error
    if not isinstance(model, nn.Module):
        raise ModelError("not a model", actual=kind)
    return _from_module(model, depths, inputs, options)


def _from_module(
    model: nn.Module,
    depths: Sequence[float | int] | None,
    inputs: Mapping[str, Tensor] | None,
    options: dict[str, Any],
) -> Supernet:
    kind = type(model).__name__
    if not any(isinstance(module, ElasticBlock) for module in model.modules()):
        raise ModelError(
            "the model has no elastic place",
            module=kind,
            expected="elastic blocks (ElasticAttention, ElasticFeedForward, "
            f"ElasticInvertedResidual) or one of {', '.join(sorted(_CONVERSIONS))}",
            hint="build it of elastic blocks",
        )
    stem, head = getattr(model, "stem", None), getattr(model, "head", None)
    blocks = getattr(model, "blocks", None)
    if isinstance(stem, nn.Module) and isinstance(head, nn.Module) and blocks is not None:
        chain = [_as_block(module, name) for name, module in _flatten(blocks, "blocks")]
    elif isinstance(model, nn.Sequential):
        stem, chain, head = _split(model)
    else:
        raise ModelError(
            "the order in which the model runs its elastic blocks cannot be seen",
            module=kind,
            expected="an nn.Sequential, or a module with stem, blocks and head",
        )
    if not inputs:
        raise ModelError("a module needs example inputs", module=kind, hint="pass `inputs`")
    return Supernet(stem, chain, head, inputs=inputs, depths=depths, **options)


def _split(model: nn.Sequential) -> tuple[nn.Module, list[ElasticBlock], nn.Module]:
    parts = list(_flatten(model, ""))
    elastic = [i for i, (_, module) in enumerate(parts) if isinstance(module, ElasticBlock)]
    first, last = elastic[0], elastic[-1]
    stem = nn.Sequential(*(module for _, module in parts[:first]))
    head = FirstInput(nn.Sequential(*(module for _, module in parts[last + 1 :])))
    return stem, [_as_block(module, name) for name, module in parts[first : last + 1]], head


class FirstInput(nn.Module):
    """A head that ignores the context."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        """Run the module on the stream."""
        return self.module(x)  # type: ignore[no-any-return]


def _flatten(modules: Any, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield what sequences of modules hold, with qualified names, in order."""
    named = modules.named_children() if isinstance(modules, nn.Module) else enumerate(modules)
    for key, module in named:
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(module, nn.Sequential | nn.ModuleList):
            yield from _flatten(module, name)
        else:
            yield name, module


def _as_block(module: nn.Module, name: str) -> ElasticBlock:
    if isinstance(module, ElasticBlock):
        module.name = module.name or name
        return module
    if any(isinstance(inner, ElasticBlock) for inner in module.modules()):
        raise ModelError(
            "the order in which a module runs its elastic blocks cannot be seen",
            module=name,
            expected="elastic blocks directly, or in nn.Sequential or nn.ModuleList",
        )
    return FixedBlock(module, name=name)


def _from_folder(folder: Path) -> Any:
    import transformers

    if not (folder / "config.json").is_file():
        raise ModelError(f"no model in {folder}", expected="config.json and weights")
    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        return _class_of(config).from_pretrained(folder, config=config, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"cannot load the model in {folder}", actual=reason) from error


def _from_config(config: Any) -> Any:
    return _class_of(config)(config)


def _class_of(config: Any) -> Any:
    import transformers

    named = (getattr(config, "architectures", None) or [None])[0]
    name = named if named is not None else _DEFAULT_CLASSES.get(config.model_type)
    if name not in _CONVERSIONS:
        raise ModelError(
            "the model's family is not known",
            expected=", ".join(sorted(_CONVERSIONS)),
            actual=name or config.model_type,
        )
    return getattr(transformers, name)
