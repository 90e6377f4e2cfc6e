"""The sections of a bundle that hold experts: `experts`, the index, and their slices.

Little-endian; SPEC.md, "Experts", says every byte.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from nestling.bundle.layout import aligned
from nestling.errors import BundleError, ModelError
from nestling.experts.bank import ExpertBank
from nestling.experts.slices import ExpertFormat, encode_expert

INDEX_SECTION = "experts"
MAGIC = 0x5854534E  # "NSTX"
VERSION = 1
NO_LAYER = 0xFFFFFFFF

_HEADER = struct.Struct("<IHHIIIIII32x")
_LAYER = struct.Struct("<11I20x")
_SLICE = struct.Struct("<QII")
_SLICE_ALIGNMENT = 64
_PREDICTOR_ALIGNMENT = 16
_GATED, _RENORMALISE, _BIASES = 1, 2, 4
_ACTIVATIONS = {
    "silu": 0,
    "swish": 0,
    "gelu": 1,
    "relu": 2,
    "gelu_new": 3,
    "gelu_pytorch_tanh": 3,
}


@dataclass(frozen=True)
class Predictor:
    """A linear guess at the scores of a later layer, from the input of this one's experts.

    Attributes:
        layer: number of the layer that it is for.
        weight: float32 (experts of that layer, dim).
        bias: float32 (experts of that layer,).
    """

    layer: int
    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class IndexedLayer:
    """One layer of the index.

    Attributes:
        name: for errors.
        bank: its experts.
        predictor: None without one.
    """

    name: str
    bank: ExpertBank
    predictor: Predictor | None = None


def slice_section(number: int) -> str:
    """Name of the section with slice `number` of all experts."""
    return f"{INDEX_SECTION}.{number}"


def encode_experts(layers: Sequence[IndexedLayer], form: ExpertFormat) -> dict[str, bytes]:
    """Return the sections of all experts by name, the index first.

    Args:
        layers: in the order of their numbers.
        form: how experts are stored.

    Raises:
        ModelError: a layer's experts cannot be stored so; names it.
    """
    for layer in layers:
        form.check(layer.bank, layer.name)
    sections = [bytearray() for _ in range(form.slices)]
    records: list[bytes] = []
    largest = 0
    for layer in layers:
        for expert in layer.bank.matrices().each():
            for section, data in zip(sections, encode_expert(expert, form), strict=True):
                section.extend(bytes(-len(section) % _SLICE_ALIGNMENT))
                records.append(_SLICE.pack(len(section), len(data), zlib.crc32(data)))
                section.extend(data)
                largest = max(largest, len(data))
    index = _encode_index(layers, form, records, aligned(largest, _SLICE_ALIGNMENT))
    slices = {slice_section(number): bytes(data) for number, data in enumerate(sections)}
    return {INDEX_SECTION: index, **slices}


def _encode_index(
    layers: Sequence[IndexedLayer], form: ExpertFormat, records: list[bytes], slot_bytes: int
) -> bytes:
    experts = sum(layer.bank.experts for layer in layers)
    layer_table = _HEADER.size
    slice_table = layer_table + _LAYER.size * len(layers)
    tables, predictors, first = bytearray(), bytearray(), 0
    start = aligned(slice_table + sum(map(len, records)), _PREDICTOR_ALIGNMENT)
    for layer in layers:
        offset = 0
        if layer.predictor is not None:
            predictors.extend(bytes(-len(predictors) % _PREDICTOR_ALIGNMENT))
            offset = start + len(predictors)
            predictors.extend(_encode_predictor(layer, layer.predictor, layers))
        tables.extend(_encode_layer(layer, form, first, offset))
        first += layer.bank.experts
    body = bytes(tables) + b"".join(records)
    total = _HEADER.size + len(body)
    if predictors:
        body += bytes(start - total) + bytes(predictors)
        total = start + len(predictors)
    header = _HEADER.pack(
        MAGIC,
        VERSION,
        form.slices,
        len(layers),
        experts,
        slot_bytes,
        layer_table,
        slice_table,
        total,
    )
    return header + body


def _encode_layer(layer: IndexedLayer, form: ExpertFormat, first: int, predictor: int) -> bytes:
    bank = layer.bank
    if bank.activation_name not in _ACTIVATIONS:
        raise ModelError(
            "experts with this activation are not known to the runtime",
            module=layer.name,
            expected=", ".join(_ACTIVATIONS),
            actual=bank.activation_name,
        )
    flags = _GATED * bank.gated | _RENORMALISE * bank.renormalise | _BIASES * bank.bias
    return _LAYER.pack(
        bank.dim,
        bank.hidden,
        bank.experts,
        bank.top_k,
        first,
        1 if form.group else 0,
        form.group,
        _ACTIVATIONS[bank.activation_name],
        flags,
        NO_LAYER if layer.predictor is None else layer.predictor.layer,
        predictor,
    )


def _encode_predictor(
    layer: IndexedLayer, predictor: Predictor, layers: Sequence[IndexedLayer]
) -> bytes:
    if not 0 <= predictor.layer < len(layers):
        raise ModelError(
            "a predictor is for a layer that is not there",
            module=layer.name,
            expected=f"0..{len(layers) - 1}",
            actual=predictor.layer,
        )
    shape = (layers[predictor.layer].bank.experts, layer.bank.dim)
    if tuple(predictor.weight.shape) != shape or len(predictor.bias) != shape[0]:
        raise ModelError(
            "a predictor does not fit its layers",
            module=layer.name,
            expected=shape,
            actual=tuple(predictor.weight.shape),
        )
    arrays = (predictor.weight, predictor.bias)
    return b"".join(a.detach().float().contiguous().numpy().astype("<f4").tobytes() for a in arrays)


@dataclass(frozen=True)
class LayerFacts:
    """What the index says of a layer; see `ExpertBank` and `ExpertFormat`."""

    dim: int
    hidden: int
    experts: int
    top_k: int
    group: int
    predicted_layer: int | None


def read_layers(index: bytes) -> list[LayerFacts]:
    """Read the layers of an index, to show them; the runtime's own reader checks all of it.

    Raises:
        BundleError: it is no index, of another version, or cut short.
    """
    try:
        magic, version, _, layers, *_, table, _, total = _HEADER.unpack_from(index)
        if (magic, version, total) != (MAGIC, VERSION, len(index)):
            raise BundleError("not an index of experts", section=INDEX_SECTION)
        found = []
        for number in range(layers):
            record = _LAYER.unpack_from(index, table + number * _LAYER.size)
            dim, hidden, experts, top_k, _, _, group, _, _, predicted, _ = record
            guessed = None if predicted == NO_LAYER else predicted
            found.append(LayerFacts(dim, hidden, experts, top_k, group, guessed))
        return found
    except struct.error as error:
        raise BundleError("the index of experts is cut short", section=INDEX_SECTION) from error
