"""What an expert is in bytes: one slice of float32, or two slices of nibbles.

Nibbles nest bits: the first slice holds scales, high nibbles and biases, which is an expert of 4
bits; the second the low nibbles, which make it one of 8. The order of matrices is gate, up, down.
`QuantizedExperts` computes with them as the kernel on the device does, and is its reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from nestling.errors import ModelError
from nestling.experts.bank import ExpertBank, ExpertMatrices, combine
from nestling.experts.routing import route
from nestling.quantize.linear import NIBBLE_LIMIT

ARRAY_ALIGNMENT = 16
_LARGEST_HALF = 65504.0

ExpertBits = Literal[4, 8]


@dataclass(frozen=True)
class ExpertFormat:
    """How experts are stored.

    Attributes:
        group: Weights, along a row, that share a scale; 0: float32 and no scales.
    """

    group: int = 0

    @property
    def slices(self) -> int:
        """Slices of an expert."""
        return 2 if self.group else 1

    @property
    def name(self) -> str:
        """`f32` or `nibbles`."""
        return "nibbles" if self.group else "f32"

    def check(self, bank: ExpertBank, layer: str) -> None:
        """Refuse experts whose rows do not divide into groups.

        Raises:
            ModelError: they do not.
        """
        if not self.group:
            return
        if self.group % 2 or self.group < 2:
            raise ModelError("a group has an even number of weights", actual=self.group)
        if bank.dim % self.group or bank.hidden % self.group:
            raise ModelError(
                "the rows of the experts do not divide into groups",
                module=layer,
                expected=f"width {bank.dim} and hidden {bank.hidden} divisible by the group",
                actual=self.group,
            )


F32 = ExpertFormat()
"""Experts as they are."""


def encode_expert(expert: ExpertMatrices, form: ExpertFormat) -> tuple[bytes, ...]:
    """Return the slices of one expert.

    Args:
        expert: without the axis of experts.
        form: how; its groups divide the rows.
    """
    biases = [_array(bias) for bias in _biases(expert)]
    matrices = _matrices(expert)
    if not form.group:
        return (_join([*(_array(matrix) for matrix in matrices), *biases]),)
    high: list[bytes] = []
    low: list[bytes] = []
    for matrix in matrices:
        nibbles = NibbleMatrix.quantize(matrix, form.group)
        high += [nibbles.scale.numpy().tobytes(), _pack(nibbles.high, form.group)]
        low.append(_pack(nibbles.low, form.group))
    return _join([*high, *biases]), _join(low)


@dataclass(frozen=True)
class NibbleMatrix:
    """Weights `scale * (16 * high + low)`.

    Attributes:
        scale: float16 (rows, columns / group).
        high: int8 (rows, columns), in -8..7.
        low: as `high`.
        group: weights that share a scale.
    """

    scale: Tensor
    high: Tensor
    low: Tensor
    group: int

    @staticmethod
    def quantize(weight: Tensor, group: int) -> NibbleMatrix:
        """Round float32 (rows, columns) to the nearest.

        Raises:
            ModelError: a weight is not finite, or too large for scales of 16 bits.
        """
        rows, columns = weight.shape
        groups = weight.detach().float().reshape(rows, columns // group, group)
        wanted = groups.abs().amax(dim=2) / NIBBLE_LIMIT
        if not bool((wanted <= _LARGEST_HALF).all()):
            raise ModelError("a weight of an expert is not finite, or too large")
        scale = wanted.half()
        # Rounded up, so that no weight falls outside of the range.
        above = torch.nextafter(scale, torch.full_like(scale, torch.inf))
        scale = torch.where(scale.float() < wanted, above, scale)
        divisor = torch.where(scale > 0, scale.float(), 1.0)[..., None]
        q = torch.round(groups / divisor).clamp(-NIBBLE_LIMIT, NIBBLE_LIMIT).reshape(rows, columns)
        high = torch.floor((q + 8) / 16)
        return NibbleMatrix(scale, high.to(torch.int8), (q - 16 * high).to(torch.int8), group)

    def weight(self, bits: ExpertBits) -> Tensor:
        """Return the float32 weights at a precision."""
        q = 16 * self.high.float() + (self.low.float() if bits == 8 else 0.0)
        scale = self.scale.float()[..., None]
        return (q.reshape(*self.scale.shape, self.group) * scale).reshape(self.high.shape)

    def product(self, x: Tensor, bits: ExpertBits, bias: Tensor | None) -> Tensor:
        """Return `x @ weight.T + bias` with activations rounded to int8 by token and group.

        Each activation is `s * q` with `s` its group's largest magnitude / 127 and `q` rounded to
        nearest even; a group's sum is exact in integers, groups are added in float32.

        Args:
            x: float32 (tokens, columns).
            bits: precision of the weights.
            bias: float32 (rows,).
        """
        tokens = len(x)
        groups = x.reshape(tokens, -1, self.group)
        step = groups.abs().amax(dim=2) / 127.0
        q = torch.round(groups / torch.where(step > 0, step, 1.0)[..., None])
        y = torch.zeros(tokens, len(self.high))
        for index in range(groups.shape[1]):
            columns = slice(index * self.group, (index + 1) * self.group)
            # Products of small integers: exact in float64.
            part = q[:, index].double() @ self.high[:, columns].double().t() * 16
            if bits == 8:
                part = part + q[:, index].double() @ self.low[:, columns].double().t()
            scale = step[:, index, None] * self.scale[:, index].float()[None]
            y = y + scale * part.float()
        return y if bias is None else y + bias


class QuantizedExperts:
    """The experts of a bank as nibbles, in the arithmetic of the device.

    Args:
        bank: whose experts.
        form: nibbles.
        bits: precision.
    """

    def __init__(self, bank: ExpertBank, form: ExpertFormat, bits: ExpertBits = 8) -> None:
        form.check(bank, "experts")
        self._bank = bank
        self._bits: ExpertBits = bits
        self._experts = [
            ([NibbleMatrix.quantize(m, form.group) for m in _matrices(e)], _biases(e))
            for e in bank.matrices().each()
        ]

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one token."""
        return self._bank.macs

    def __call__(self, hidden: Tensor, scores: Tensor) -> Tensor:
        """Compute what the operator does; see `nestling.experts.operator.experts`."""
        weights, chosen = route(scores, self._bank.top_k, self._bank.renormalise)
        run: list[Callable[[Tensor], Tensor]] = [
            partial(self._run, number) for number in range(len(self._experts))
        ]
        with torch.no_grad():
            return combine(hidden, weights, chosen, run)

    def _run(self, number: int, x: Tensor) -> Tensor:
        matrices, found = self._experts[number]
        biases: list[Tensor | None] = list(found) or [None] * len(matrices)
        *first, down = (
            partial(matrix.product, bits=self._bits, bias=bias)
            for matrix, bias in zip(matrices, biases, strict=True)
        )
        hidden = self._bank.activation(first[0](x))
        return down(hidden if len(first) == 1 else hidden * first[1](x))


def _matrices(expert: ExpertMatrices) -> list[Tensor]:
    return [m for m in (expert.gate, expert.up, expert.down) if m is not None]


def _biases(expert: ExpertMatrices) -> list[Tensor]:
    return [
        bias.detach()
        for bias in (expert.gate_bias, expert.up_bias, expert.down_bias)
        if bias is not None
    ]


def _array(tensor: Tensor) -> bytes:
    return tensor.detach().float().contiguous().numpy().astype("<f4", copy=False).tobytes()


def _pack(nibbles: Tensor, group: int) -> bytes:
    """Two of a group a byte: weight i low, weight i + group / 2 high, each plus 8."""
    halves = (nibbles.numpy() + np.int8(8)).astype(np.uint8).reshape(-1, 2, group // 2)
    packed: bytes = (halves[:, 0] | (halves[:, 1] << 4)).tobytes()
    return packed


def _join(arrays: list[bytes]) -> bytes:
    """Arrays one after the other, each at a multiple of the alignment."""
    return b"".join(_padded(arrays))


def _padded(arrays: list[bytes]) -> Iterator[bytes]:
    for array in arrays[:-1]:
        yield array + b"\0" * (-len(array) % ARRAY_ALIGNMENT)
    yield arrays[-1]
