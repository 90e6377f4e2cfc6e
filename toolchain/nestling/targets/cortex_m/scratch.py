"""Scratch memory of the kernels that have weights, as their `scratch_bytes` in C reckon it.

`fields` are those of the operator's parameter record (firmware/micro/kernels/conv2d.h, depthwise.h,
linear.h), the layout among them; the result is in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nestling.targets.cortex_m.packing import Layout

Fields = Mapping[str, int]

# NST_DSP_PLANES_BYTES in depthwise_dsp.h.
_PLANES_BYTES = 6144

# NST_DEPTHWISE_WIDE_BYTES in depthwise_mve.h.
_WIDE_BYTES = 336

# NST_CONV2D_PACKED_WINDOWS in conv2d_packed_mve.h.
_PACKED_WINDOWS = 8


def conv2d_scratch_bytes(fields: Fields) -> int:
    """Return what a convolution needs."""
    layout, runs = fields["layout"], fields["runs"]
    channels = fields["input_channels"] // fields["groups"]
    run = fields["kernel_height"] * fields["kernel_width"] * channels // runs
    if layout == Layout.MVE:
        one_group = fields["groups"] == 1 and fields["dilation_width"] == 1
        if one_group and runs == 1 and fields["kernel_height"] > 1:
            lines = fields["kernel_height"] * _padded_line_bytes(fields)
            return _PACKED_WINDOWS * _round_up(run, 16) + 16 + lines
        return 2 * runs * _round_up(run, 16)
    if layout == Layout.DSP and runs == 1:
        taps = _round_up(run, 4)
        return _columns_bytes(3, taps) + (taps if channels % 4 else 0)
    return 0


def linear_scratch_bytes(fields: Fields) -> int:
    """Return what a linear layer needs."""
    if fields["layout"] == Layout.MVE:
        return 2 * _round_up(fields["inputs"], 16)
    if fields["layout"] == Layout.DSP:
        return _columns_bytes(1 if fields["batches"] < 3 else 3, _round_up(fields["inputs"], 4))
    return 0


def depthwise_scratch_bytes(fields: Fields) -> int:
    """Return what a depthwise convolution needs."""
    if fields["channel_multiplier"] != 1:
        return 0
    if fields["layout"] == Layout.MVE:
        kernel = (fields["kernel_height"], fields["kernel_width"])
        channels = fields["input_channels"]
        widened = kernel == (3, 3) and fields["stride_width"] == 1 and channels in (4, 8)
        rest = _WIDE_BYTES if widened else 4 * kernel[0] * kernel[1]
        return _round_up(channels, 16) + rest
    if fields["layout"] == Layout.DSP:
        return _planes_bytes(_side(fields, "width"), _side(fields, "height"))
    return 0


def _padded_line_bytes(fields: Fields) -> int:
    covered = (fields["output_width"] - 1) * fields["stride_width"] + fields["kernel_width"]
    return _round_up(covered * fields["input_channels"], 16) + 16


@dataclass(frozen=True)
class _Side:
    output: int
    kernel: int
    stride: int
    dilation: int


def _side(fields: Fields, name: str) -> _Side:
    return _Side(*(fields[f"{key}_{name}"] for key in ("output", "kernel", "stride", "dilation")))


def _planes_bytes(x: _Side, y: _Side) -> int:
    """Return the size of four planes and of one channel's weights: see depthwise_dsp.h."""
    if x.dilation != 1 and y.dilation != 1:
        return 0
    turned = x.dilation != 1 or (y.dilation == 1 and y.output > x.output)
    along, across = (y, x) if turned else (x, y)
    pairs = (along.kernel + 1) // 2
    line_words = ((along.output - 1) * along.stride + 2 * pairs + 1) // 2
    lines_of_one = (across.kernel - 1) * across.dilation + 1
    affordable = _PLANES_BYTES // 16 // line_words
    strip = 1
    if affordable > lines_of_one:
        strip = min(1 + (affordable - lines_of_one) // across.stride, across.output)
    plane_words = line_words * ((strip - 1) * across.stride + lines_of_one)
    return 4 * (4 * plane_words + across.kernel * pairs + 4)


def _columns_bytes(columns: int, taps: int) -> int:
    return columns * (4 + 2 * taps)


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
