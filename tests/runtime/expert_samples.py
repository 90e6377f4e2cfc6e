"""Layers of experts with random weights, their bytes, and what they compute, in numpy alone.

A second implementation of SPEC.md's section Experts: it shares no code with the toolchain's writer
or with the kernels.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

NONE = 0xFFFF_FFFF
ACTIVATIONS = ("silu", "gelu", "relu", "gelu_tanh")
LARGEST = 119  # so that both halves of a weight are signed nibbles


def activate(name: str, x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The activation in double precision."""
    if name == "silu":
        return x / (1.0 + np.exp(-x))
    if name == "gelu":
        return x * 0.5 * np.vectorize(math.erfc)(-x / math.sqrt(2.0))
    if name == "relu":
        return np.maximum(x, 0.0)
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


@dataclass
class ExpertLayer:
    """A layer of experts; `group` 0 is f32, anything else nibbles of that group."""

    dim: int = 16
    hidden: int = 24
    experts: int = 5
    top_k: int = 2
    group: int = 0
    activation: str = "silu"
    gated: bool = True
    renormalise: bool = False
    biases: bool = False
    predicted_layer: int | None = None
    seed: int = 0
    matrices: list[list[Floats]] = field(init=False)  # [expert] gate?, up, down
    offsets: list[list[Floats]] = field(init=False)  # [expert] biases, or none
    predictor: tuple[Floats, Floats] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        random = np.random.default_rng(self.seed)
        shapes = [(self.hidden, self.dim)] * (2 if self.gated else 1) + [(self.dim, self.hidden)]
        self.matrices = [
            [self._round(random.standard_normal(s).astype(np.float32) / 4) for s in shapes]
            for _ in range(self.experts)
        ]
        self.offsets = [
            [random.standard_normal(s[0]).astype(np.float32) / 4 for s in shapes]
            if self.biases
            else []
            for _ in range(self.experts)
        ]

    def _round(self, weights: Floats) -> Floats:
        """Only numbers that the format can say."""
        if self.group == 0:
            return weights
        scale, q = quantise_weights(weights, self.group)
        return (q.reshape(*scale.shape, self.group) * scale[..., None]).reshape(weights.shape)

    def slices(self, expert: int) -> tuple[bytes, bytes]:
        """The bytes of both slices of an expert; the second is empty for f32."""
        high, low = bytearray(), bytearray()
        for matrix in self.matrices[expert]:
            if self.group == 0:
                put(high, matrix.astype("<f4").tobytes())
                continue
            scale, q = quantise_weights(matrix, self.group)
            put(high, scale.astype("<f2").tobytes())
            low_half = ((q + 8) & 15) - 8
            put(high, pack((q - low_half) // 16, self.group))
            put(low, pack(low_half, self.group))
        for bias in self.offsets[expert]:
            put(high, bias.astype("<f4").tobytes())
        return bytes(high), bytes(low)

    def expert(self, number: int, x: Floats, bits: int = 8) -> npt.NDArray[np.float64]:
        """What one expert makes of rows, [rows, dim]."""
        biases = [b.astype(np.float64) for b in self.offsets[number]] or [np.float64(0)] * 3
        products = [
            (lambda rows, m=matrix, b=bias: self._product(m, rows, bits) + b)
            for matrix, bias in zip(self.matrices[number], biases, strict=False)
        ]
        if self.gated:
            inner = activate(self.activation, products[0](x)) * products[1](x)
        else:
            inner = activate(self.activation, products[0](x))
        return products[-1](inner)  # type: ignore[no-any-return]

    def _product(
        self, matrix: Floats, x: npt.NDArray[np.floating], bits: int
    ) -> npt.NDArray[np.float64]:
        if self.group == 0:
            return np.asarray(x, np.float64) @ matrix.astype(np.float64).T
        scale, q = quantise_weights(matrix, self.group)
        if bits == 4:
            q = q - (((q + 8) & 15) - 8)
        weights = (q.reshape(*scale.shape, self.group) * scale[..., None]).reshape(matrix.shape)
        return quantise_rows(np.asarray(x, np.float32), self.group) @ weights.astype(np.float64).T

    def forward(self, x: Floats, scores: Floats, bits: int = 8) -> npt.NDArray[np.float64]:
        """The layer: the chosen experts of each row, weighted and added."""
        p = np.exp(scores - scores.max(axis=1, keepdims=True), dtype=np.float64)
        p /= p.sum(axis=1, keepdims=True)
        chosen = np.argsort(-scores, axis=1, kind="stable")[:, : self.top_k]
        out = np.zeros((len(x), self.dim))
        for row in range(len(x)):
            weights = p[row, chosen[row]]
            if self.renormalise:
                weights = weights / weights.sum()
            for expert, weight in zip(chosen[row], weights, strict=True):
                out[row] += weight * self.expert(int(expert), x[row : row + 1], bits)[0]
        return out

    def record(self, first: int, predictor: int) -> bytes:
        """The layer's entry in the index."""
        flags = self.gated | self.renormalise << 1 | self.biases << 2
        return struct.pack(
            "<11I20x",
            self.dim,
            self.hidden,
            self.experts,
            self.top_k,
            first,
            int(self.group > 0),
            self.group,
            ACTIVATIONS.index(self.activation),
            flags,
            NONE if self.predicted_layer is None else self.predicted_layer,
            predictor,
        )


def quantise_weights(weights: Floats, group: int) -> tuple[Floats, Ints]:
    """Scales of half precision, [rows, columns / group], and numbers, [rows, columns]."""
    parts = weights.reshape(weights.shape[0], -1, group)
    scale = (np.abs(parts).max(axis=2) / LARGEST).astype(np.float16).astype(np.float32)
    q = np.rint(parts / np.where(scale == 0, 1, scale)[..., None])
    q = q.clip(-LARGEST, LARGEST).astype(np.int32)
    return scale, q.reshape(weights.shape)


def quantise_rows(x: Floats, group: int) -> npt.NDArray[np.float64]:
    """Activations as the kernel sees them."""
    parts = x.reshape(len(x), -1, group)
    scale = (np.abs(parts).max(axis=2) / np.float32(127)).astype(np.float32)
    q = np.rint(parts / np.where(scale == 0, np.float32(1), scale)[..., None])
    return (q.astype(np.float64) * scale[..., None]).reshape(x.shape)


def pack(halves: Ints, group: int) -> bytes:
    """Weights i and i + group / 2 of a group share a byte."""
    parts = (halves + 8).astype(np.uint8).reshape(-1, group)
    return (parts[:, : group // 2] | parts[:, group // 2 :] << 4).tobytes()


def put(to: bytearray, data: bytes, alignment: int = 16) -> int:
    """Add an array from a multiple of `alignment` on; return where it starts."""
    to.extend(bytes(-len(to) % alignment))
    start = len(to)
    to.extend(data)
    return start


def sections(layers: Sequence[ExpertLayer]) -> dict[str, bytes]:
    """The sections of a bundle with these layers."""
    count = 2 if any(layer.group for layer in layers) else 1
    parts = [bytearray() for _ in range(count)]
    records, largest = bytearray(), 0
    for layer in layers:
        for number in range(layer.experts):
            for part, data in zip(parts, layer.slices(number), strict=False):
                offset = put(part, data, 64) if data else 0
                crc = zlib.crc32(data) if data else 0
                records += struct.pack("<QII", offset, len(data), crc)
                largest = max(largest, len(data))
    experts = sum(layer.experts for layer in layers)
    slice_table = 64 + 64 * len(layers)
    tail = bytearray(bytes(slice_table) + records)
    entries = bytearray()
    first = 0
    for layer in layers:
        predictor = 0
        if layer.predictor is not None:
            predictor = put(
                tail, b"".join(part.astype("<f4").tobytes() for part in layer.predictor)
            )
        entries += layer.record(first, predictor)
        first += layer.experts
    header = struct.pack(
        "<IHH6I32x",
        0x5854534E,
        1,
        count,
        len(layers),
        experts,
        -(-largest // 64) * 64,
        64,
        slice_table,
        len(tail),
    )
    index = header + bytes(entries) + bytes(tail[slice_table:])
    return {"experts": index, **{f"experts.{i}": bytes(part) for i, part in enumerate(parts)}}
