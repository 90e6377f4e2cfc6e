"""From an ONNX file to a supernet that computes the same at full width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from nestling.elastic.attention import MASKED
from nestling.elastic.families.graph import ElasticGraph, Plain
from nestling.elastic.widths import DEFAULT_WIDTHS, resolve_widths
from nestling.errors import ModelError
from nestling.onnx_in.attention import find_attention
from nestling.onnx_in.chain import Chain, choose_chain, describe_module, extract
from nestling.onnx_in.convolutions import find_convolutions, find_inverted_residuals
from nestling.onnx_in.feed_forward import find_feed_forward
from nestling.onnx_in.operators import aten, close
from nestling.onnx_in.places import Place, Refusal, Search
from nestling.onnx_in.read import Shapes, read_model
from nestling.onnx_in.simplify import simplify
from nestling.onnx_in.statistics import plain_norms, restore_batch_norm
from nestling.onnx_in.trace import Traced, run_nodes, trace_model
from nestling.targets.description import Requirement

CONVERTER = Requirement("onnx2fx>=0.0.1,<0.1")
"""What turns ONNX's operators into torch's."""

ALIGN = 8
"""Fractions of units are rounded to multiples of this many, fewer in narrow blocks."""

_FINDERS = (find_attention, find_feed_forward, find_inverted_residuals, find_convolutions)


@dataclass(frozen=True)
class NestReport:
    """What became of a model.

    Attributes:
        supernet: in evaluation mode.
        places: kind and ONNX node of each elastic block, in the order of the chain.
        refusals: what looked elastic and was left as it is.
        dropped_outputs: outputs of the model that the supernet does not give.
        any_batch: whether it takes more than one example at once.
    """

    supernet: ElasticGraph
    places: tuple[tuple[str, str], ...]
    refusals: tuple[Refusal, ...]
    dropped_outputs: tuple[str, ...]
    any_batch: bool


def nest(
    path: Path | str,
    widths: Sequence[float | int] = DEFAULT_WIDTHS,
    depths: Sequence[float | int] | None = None,
    *,
    heads_widths: Sequence[float | int] | None = None,
    shapes: Shapes | None = None,
    output: str | None = None,
    samples: Mapping[str, Tensor] | None = None,
) -> NestReport:
    """Make a supernet of an ONNX file; the full subnet computes what the model does.

    Args:
        path: of the file.
        widths: levels of feed-forward and convolutional blocks, as fractions or counts.
        depths: layers to keep at each depth; see `make_space`.
        heads_widths: levels of attention; default: as `widths`, rounded up to whole heads.
        shapes: of inputs whose shapes the file leaves open; a batch that is left open becomes 1.
        output: name of the output to keep; default: the first.
        samples: real inputs by name, each `[batch, ...]`, for the statistics of batch norm; noise
            by default, which will do unless the supernet is trained.

    Raises:
        ModelError: the file cannot be read, an operator cannot be converted, there is no elastic
            place, the samples are not of the inputs' shapes, or the supernet does not compute what
            the model does.
    """
    if CONVERTER.found() is None:
        raise ModelError(
            f"reading ONNX needs {CONVERTER.what}, which is not installed",
            hint="pip install 'nestling[onnx]'",
        )
    traced = trace_model(read_model(Path(path), shapes), output)
    examples = tuple(traced.inputs.values())
    real = examples if samples is None else _fit_samples(samples, traced.inputs)
    wanted = run_nodes(traced.module, traced.inputs)
    expected = next(v for n, v in wanted.items() if n.op == "output")
    simplify(traced.module, traced.inputs)
    search = Search(traced.module, run_nodes(traced.module, traced.inputs))
    chain = choose_chain(search, [place for find in _FINDERS for place in find(search)])
    supernet = _build(traced, search, chain, widths, heads_widths or widths, depths)
    _check_equal(supernet, traced, expected)
    restore_batch_norm(supernet, real)
    _check_equal(supernet, traced, expected)
    return NestReport(
        supernet,
        tuple((place.kind, place.where) for place in chain.places),
        tuple(search.refusals),
        traced.dropped_outputs,
        _takes_any_batch(supernet, traced),
    )


def _fit_samples(samples: Mapping[str, Tensor], inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """Return samples in the order and the element types of the inputs."""
    shapes = {name: tuple(sample.shape[1:]) for name, sample in samples.items()}
    expected = {name: tuple(example.shape[1:]) for name, example in inputs.items()}
    if shapes != expected or len({len(sample) for sample in samples.values()}) != 1:
        raise ModelError(
            "the samples do not fit the model's inputs",
            expected={name: ("samples", *shape) for name, shape in expected.items()},
            actual={name: tuple(sample.shape) for name, sample in samples.items()},
        )
    return tuple(samples[name].to(example.dtype) for name, example in inputs.items())


def _build(
    traced: Traced,
    search: Search,
    chain: Chain,
    widths: Sequence[float | int],
    heads_widths: Sequence[float | int],
    depths: Sequence[float | int] | None,
) -> ElasticGraph:
    names = [f"context{index}" for index in range(len(chain.context))]
    state: dict[str, Tensor] = {}
    blocks: list[Plain] = []
    layer = -1
    for index, place in enumerate(chain.places):
        gap = chain.gaps[index - 1] if index else None
        if gap is not None:
            layer += 1
            module, tensors = describe_module(search, *gap)
            state |= _prefixed(f"blocks.{len(blocks)}.module", tensors)
            blocks.append(
                {"kind": "fixed", "module": module, "name": f"between{layer}", "layer": layer}
            )
        before = chain.places[index - 1] if index and gap is None else None
        pair = before is not None and (before.kind, place.kind) == ("attention", "feed_forward")
        layer += not pair
        plain, tensors = _describe_block(search, place, layer, widths, heads_widths)
        state |= _prefixed(f"blocks.{len(blocks)}", tensors)
        blocks.append(plain)
    placeholders = [n for n in traced.module.graph.nodes if n.op == "placeholder"]
    starts = dict(zip(placeholders, traced.inputs, strict=True))
    limited = [_limit_mask(search, node) for node in chain.context]
    stem = extract(search, starts, [chain.places[0].ends.entry, *limited])
    last = chain.places[-1].ends.exit
    inputs = ["x", *names]
    head = extract(
        search, {last: "x", **dict(zip(chain.context, names, strict=True))}, [chain.output], inputs
    )
    for part, graph in (("stem", stem), ("head", head)):
        state |= {f"{part}.{name}": getattr(graph, name).detach() for name in graph.tensor_names}
    supernet = ElasticGraph(
        stem=stem.to_plain(),
        blocks=blocks,
        head=head.to_plain(),
        inputs={
            name: (str(value.dtype).removeprefix("torch."), list(value.shape))
            for name, value in traced.inputs.items()
        },
        context_names=names,
        output_name=traced.output_name,
        depths=depths,
    )
    supernet.load_state_dict(supernet.state_dict() | state)
    plain_norms(supernet)
    supernet.eval()
    return supernet


def _describe_block(
    search: Search,
    place: Place,
    layer: int,
    widths: Sequence[float | int],
    heads_widths: Sequence[float | int],
) -> tuple[Plain, dict[str, Tensor]]:
    label = f"layer{layer}.{place.kind}"
    plain: Plain = {"kind": place.kind, **place.arguments, "name": label, "layer": layer}
    tensors = dict(place.tensors)
    if place.kind == "attention":
        plain["heads_widths"] = list(
            resolve_widths(heads_widths, place.units, label, round_up=True)
        )
    else:
        plain["widths"] = list(resolve_widths(widths, place.units, label, align=ALIGN))
    if place.kind == "inverted_residual":
        return plain, _without_biases(tensors)
    ends = place.ends
    plain["norm"], norm = describe_module(search, ends.entry, ends.prepared)
    tensors |= _prefixed("norm", norm)
    if ends.post is not None:
        plain["post"], post = describe_module(search, ends.post, ends.exit)
        tensors |= _prefixed("post", post)
    return plain, tensors


def _without_biases(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Write the biases of convolutions as the shifts of the batch norms behind them."""
    made = {}
    for name, tensor in tensors.items():
        layer, _, kind = name.partition(".")
        if kind == "weight":
            made[name] = tensor
        else:
            made[f"{layer}_norm.bias"] = tensor
    return made


def _prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _limit_mask(search: Search, node: Node) -> Node:
    """Keep what is added to scores finite: minus infinity has no place on an integer grid."""
    value = search.values[node]
    if not (isinstance(value, Tensor) and value.is_floating_point()):
        return node
    graph = search.module.graph
    with graph.inserting_after(node):
        return graph.call_function(aten.clamp_min.default, (node, MASKED))


def _check_equal(supernet: ElasticGraph, traced: Traced, expected: Any) -> None:
    with torch.no_grad():
        made = supernet(*traced.inputs.values())
    expected = expected[0] if isinstance(expected, list | tuple) else expected
    if not close(made, expected):
        error = float((made - expected).abs().max()) if made.shape == expected.shape else "shape"
        raise ModelError(
            "the supernet does not compute what the model does",
            expected="equal outputs",
            actual=error,
        )


def _takes_any_batch(supernet: ElasticGraph, traced: Traced) -> bool:
    """Return whether two examples at once give what each gives alone."""
    pairs = [torch.cat([value, value.flip(-1)]) for value in traced.inputs.values()]
    try:
        with torch.no_grad():
            both = supernet(*pairs)
            alone = [supernet(*(pair[i : i + 1] for pair in pairs)) for i in range(2)]
    except (RuntimeError, IndexError):
        return False
    return close(both, torch.cat(alone))
