"""Weights laid out for one core, ahead of time: what the kernels of firmware/micro/kernels read.

The layouts are described in firmware/micro/kernels/layout.h, the two spellings of a scale in
requantize.h. Everything here is exact: the input's zero point is folded into the bias, rows and
channels are padded with zeros, and a scale is respelled only where all results stay the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nestling.errors import NestlingError

Isa = Literal["mve", "dsp", "portable"]
"""Instructions of a core: "mve" on M55 and M85, "dsp" on M4, M7 and M33, "portable" anywhere."""

Int8 = NDArray[np.int8]
Int32 = NDArray[np.int32]
Integers = NDArray[Any]
"""Integers of any type, within the range that is said."""


class Layout(IntEnum):
    """`nst_layout`."""

    ROWS = 0
    MVE = 1
    DSP = 2


class Scaling(IntEnum):
    """`nst_scaling`."""

    SHIFT = 0
    TWICE = 1


@dataclass(frozen=True)
class PackedWeights:
    """The two constants of a convolution or linear layer, and what its record says about them.

    Attributes:
        weights: int8, flat, padded.
        channels: int32, flat: bias, multiplier and scale of each output channel.
        layout: Field `layout` of the parameter record.
        scaling: Field `scaling`.
        runs: Field `runs` of conv2d's record; 1 for the others.
    """

    weights: Int8
    channels: Int32
    layout: Layout
    scaling: Scaling
    runs: int = 1


# A vector of int8, and the rows that one block of weights interleaves.
_VECTOR = 16
_BLOCK = 4

MOST_ROWS_MVE = 32760
"""Output channels of a matrix with vectors: NST_MATMUL_MVE_FARTHEST."""

# With the DSP extension: taps and rows that one block interleaves, and the order of its taps.
_FOUR = 4
_PAIR = 2
_HALVES = [0, 2, 1, 3]

# Channels of sixteen in the order in which widening twice leaves them: see layout.h.
_SIXTEEN = np.array([c for first in (0, 2, 1, 3) for c in range(first, 16, 4)])


def pack_conv2d(
    weight: Int8,
    bias: Integers | None,
    multipliers: Integers,
    shifts: Integers,
    *,
    input_offset: int,
    groups: int = 1,
    isa: Isa,
) -> PackedWeights:
    """Pack `cortex_m::quantized_conv2d`.

    Args:
        weight: [output channels, kernel height, kernel width, input channels of a group].
        bias: [output channels] or None.
        multipliers: [output channels], in [0, 2^31).
        shifts: [output channels]; positive is to the left.
        input_offset: Minus the input's zero point.
        groups: Divides the output channels.
        isa: Which kernels will run.

    Raises:
        NestlingError: The kernels cannot run so many output channels.
    """
    outputs, height, width, inputs = weight.shape
    rows = weight.reshape(outputs, -1)
    numbers = _fold(rows, bias, multipliers, shifts, input_offset)
    layout = _matrix_layout(isa, numbers, rows)
    runs = height if layout is Layout.MVE and _direct_pays(height, width * inputs) else 1
    scaling = _respell(numbers, rows, layout)
    weights, channels = [], []
    for group in range(groups):
        part = slice(group * outputs // groups, (group + 1) * outputs // groups)
        weights.append(_pack_matrix(rows[part].reshape(-1, runs, rows.shape[1] // runs), layout))
        channels.append(_pack_channels(numbers[part], layout, _BLOCK))
    return PackedWeights(np.concatenate(weights), np.concatenate(channels), layout, scaling, runs)


def pack_linear(
    weight: Int8,
    bias: Integers | None,
    multipliers: Integers,
    shifts: Integers,
    *,
    input_offset: int,
    filter_offset: int = 0,
    kernel_sum: Integers | None = None,
    isa: Isa,
) -> PackedWeights:
    """Pack `cortex_m::quantized_linear`.

    Args:
        weight: [outputs, inputs].
        bias: [outputs] or None; ignored where there is a kernel sum, as the reference does.
        multipliers: [1] or [outputs].
        shifts: [1] or [outputs].
        input_offset: Minus the input's zero point; already inside a kernel sum.
        filter_offset: Minus the weights' zero point.
        kernel_sum: [outputs] or None; bias with the input's offset folded in.
        isa: Which kernels will run.

    Raises:
        NestlingError: Weights with their offset applied are out of int8's range, or the kernels
            cannot run so many outputs.
    """
    shifted = weight.astype(np.int32) + filter_offset
    if shifted.size and (shifted.min() < -128 or shifted.max() > 127):
        raise NestlingError(
            "linear weights with a zero point do not fit int8",
            actual=f"offset {filter_offset}",
            hint="quantise weights symmetrically",
        )
    rows = shifted.astype(np.int8)
    if kernel_sum is not None:
        numbers = _fold(rows, kernel_sum, multipliers, shifts, 0)
    else:
        numbers = _fold(rows, bias, multipliers, shifts, input_offset)
    layout = _matrix_layout(isa, numbers, rows)
    scaling = _respell(numbers, rows, layout)
    return PackedWeights(
        _pack_matrix(rows[:, np.newaxis, :], layout),
        _pack_channels(numbers, layout, _BLOCK),
        layout,
        scaling,
    )


def pack_depthwise(
    weight: Int8,
    bias: Integers | None,
    multipliers: Integers,
    shifts: Integers,
    *,
    input_offset: int,
    isa: Isa,
) -> PackedWeights:
    """Pack `cortex_m::quantized_depthwise_conv2d`.

    Args:
        weight: [1, kernel height, kernel width, output channels].
        bias: [output channels] or None.
        multipliers: [output channels].
        shifts: [output channels].
        input_offset: Minus the input's zero point.
        isa: Which kernels will run.
    """
    channels = weight.shape[3]
    taps = weight.reshape(-1, channels)
    numbers = _fold(taps.T, bias, multipliers, shifts, input_offset)
    layout = _layout(isa, numbers, taps.T)
    if layout is Layout.MVE and _two_lowest_meet(taps):
        layout = Layout.ROWS
    scaling = _respell(numbers, taps.T, layout)
    if layout is not Layout.MVE:
        return PackedWeights(taps.ravel(), numbers.ravel(), layout, scaling)
    padded = _pad_to(taps, 1, _VECTOR)
    blocks = padded.reshape(len(taps), -1, _VECTOR).transpose(1, 0, 2)
    sixteens = _pad_to(numbers, 0, _VECTOR).reshape(-1, _VECTOR, 3)[:, _SIXTEEN]
    return PackedWeights(blocks.ravel(), sixteens.transpose(0, 2, 1).ravel(), layout, scaling)


def _layout(isa: Isa, numbers: Int32, rows: Int8) -> Layout:
    """Choose a layout; `numbers` as from `_fold`, `rows` [rows, taps]."""
    if isa == "mve":
        return Layout.MVE
    if isa == "dsp" and (_largest(numbers, rows) < 2**30).all():
        return Layout.DSP
    return Layout.ROWS


def _two_lowest_meet(taps: Int8) -> bool:
    """Return whether taps 2i and 2i + 1 of a channel are both -128.

    The vector kernel adds two products in 16 bits; twice -128 * -128 is the one sum too large.

    Args:
        taps: [taps, channels].
    """
    even = taps[0 : len(taps) // 2 * 2 : 2]
    return bool(((even == -128) & (taps[1::2] == -128)).any())


def _padded(count: int) -> int:
    return -(-count // _VECTOR) * _VECTOR


def _direct_pays(height: int, run: int) -> bool:
    """Return whether padding each kernel row costs less than copying every window together.

    A copied window costs about as much as 2 vectors a kernel row and position pair, whatever the
    number of output channels; padding costs a vector for each row of weights.
    """
    return height * _padded(run) <= 1.25 * _padded(height * run)


def _pad_to(array: Integers, axis: int, multiple: int) -> Integers:
    widths = [(0, 0)] * array.ndim
    widths[axis] = (0, -array.shape[axis] % multiple)
    return np.pad(array, widths)


def _fold(
    rows: Int8,
    bias: Integers | None,
    multipliers: Integers,
    shifts: Integers,
    input_offset: int,
) -> Int32:
    """Return [rows, 3]: bias with the input's offset folded in (modulo 2^32), multiplier, shift."""
    total = input_offset * rows.sum(axis=1, dtype=np.int64)
    if bias is not None:
        total = total + np.asarray(bias, dtype=np.int64)
    numbers = np.empty((len(rows), 3), dtype=np.int32)
    numbers[:, 0] = (total & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
    numbers[:, 1] = np.asarray(multipliers, dtype=np.int64)
    numbers[:, 2] = np.asarray(shifts, dtype=np.int64)
    return numbers


def _largest(numbers: Int32, rows: Int8) -> NDArray[np.int64]:
    """Return [rows]: what no accumulator exceeds in size, whatever the input."""
    largest: NDArray[np.int64] = np.abs(numbers[:, 0].astype(np.int64))
    largest += 128 * np.abs(rows.astype(np.int64)).sum(axis=1)
    return largest


def _matrix_layout(isa: Isa, numbers: Int32, rows: Int8) -> Layout:
    """`_layout` of a matrix [rows, taps]."""
    if isa == "mve" and len(rows) > MOST_ROWS_MVE:
        raise NestlingError(
            "the kernels for a core with vectors cannot run so many output channels",
            expected=f"at most {MOST_ROWS_MVE}",
            actual=len(rows),
            hint="split the layer",
        )
    return _layout(isa, numbers, rows)


def _respell(numbers: Int32, rows: Int8, layout: Layout) -> Scaling:
    """Turn the shifts into second multipliers, in place, if that is exact for every channel.

    See requantize.h for why it is: a shift of -n may be respelled when 1 <= n <= 11, or when no
    accumulator can reach a high product of 2^(31 - n).
    """
    if layout is Layout.ROWS:
        return Scaling.SHIFT
    multipliers = numbers[:, 1].astype(np.int64)
    n = -numbers[:, 2].astype(np.int64)
    largest = _largest(numbers, rows)
    high = ((largest * np.maximum(multipliers, 0)) >> 31) + 1
    zero = multipliers == 0
    # The DSP kernels double the second multiplier, which then fits 32 bits from n = 2 on.
    lowest = 2 if layout is Layout.DSP else 1
    possible = (n >= lowest) & (n <= 30) & (multipliers > 0) & (largest < 2**31)
    limit = np.int64(1) << (31 - np.clip(n, 1, 30))
    exact = zero | (possible & ((n <= 11) | (high < limit)))
    if not exact.all():
        return Scaling.SHIFT
    numbers[:, 2] = np.where(zero, 1, limit + 1).astype(np.int32)
    return Scaling.TWICE


def _pack_matrix(rows: Int8, layout: Layout) -> Int8:
    """Flatten [rows, runs, taps of a run]."""
    if layout is Layout.ROWS:
        return rows.ravel()
    if layout is Layout.DSP:
        return _pack_pairs(rows)
    padded = _pad_to(_pad_to(rows, 2, _VECTOR), 0, _BLOCK)
    vectors = padded.reshape(len(padded) // _BLOCK, _BLOCK, -1, _VECTOR)
    return vectors.transpose(0, 2, 1, 3).ravel().astype(np.int8)


def _pack_pairs(rows: Int8) -> Int8:
    """Flatten [rows, runs, taps of a run] for the DSP extension."""
    padded = _pad_to(_pad_to(rows, 2, _FOUR), 0, _PAIR).astype(np.int8)
    fours = padded.reshape(len(padded) // _PAIR, _PAIR, -1, _FOUR)[..., _HALVES]
    fours[:, 0] ^= np.int8(-128)  # a + 128 as an unsigned byte
    pairs: Int8 = fours.transpose(0, 2, 3, 1).ravel()
    return pairs


def _pack_channels(numbers: Int32, layout: Layout, block: int) -> Int32:
    """Flatten [rows, 3]."""
    if layout is not Layout.MVE:
        return numbers.ravel()
    blocks = _pad_to(numbers, 0, block).reshape(-1, block, 3)
    return blocks.transpose(0, 2, 1).ravel().astype(np.int32)
