"""The compiler of plans reserves exactly the scratch memory that the kernels ask for."""

from __future__ import annotations

import ctypes
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from micro.kernels.library import library, record
from micro.kernels.weights import Window, windows

from nestling.targets.cortex_m.packing import Layout
from nestling.targets.cortex_m.scratch import (
    conv2d_scratch_bytes,
    depthwise_scratch_bytes,
    linear_scratch_bytes,
)

layouts = st.sampled_from(list(Layout))

small_windows = windows.map(lambda w: replace(w, kernel=(3, 3), stride=(2, 1))).filter(
    lambda w: min(w.output) > 0
)


def asked(kernel: str, params: bytes) -> int:
    """What the kernel itself says."""
    buffer = ctypes.create_string_buffer(params, len(params))
    return int(library().operator(kernel).scratch_bytes(ctypes.addressof(buffer)))


def fields_of(window: Window) -> dict[str, int]:
    """The fields of a record that say how the kernel moves."""
    fields = {}
    for name in ("input", "output", "kernel", "stride", "pad", "dilation"):
        fields[f"{name}_height"], fields[f"{name}_width"] = getattr(window, name)
    return fields


@settings(max_examples=300, deadline=None)
@given(
    window=windows,
    channels=st.integers(1, 40),
    groups=st.integers(1, 3),
    runs_apart=st.booleans(),
    layout=layouts,
)
def test_conv2d(
    window: Window, channels: int, groups: int, runs_apart: bool, layout: Layout
) -> None:
    runs = window.kernel[0] if runs_apart else 1
    fields = fields_of(window) | {
        "input_channels": channels * groups,
        "groups": groups,
        "layout": layout,
        "runs": runs,
    }
    params = record(
        "16I4i3I",
        window.batches,
        *window.input,
        channels * groups,
        *window.output,
        2 * groups,
        *window.taps,
        groups,
        *(0, 0, -128, 127),
        layout,
        runs,
        0,
    )
    assert conv2d_scratch_bytes(fields) == asked("conv2d", params)


@settings(max_examples=300, deadline=None)
@given(
    window=st.one_of(windows, small_windows),
    channels=st.one_of(st.integers(1, 40), st.sampled_from([4, 8])),
    multiplier=st.sampled_from([1, 1, 2]),
    layout=layouts,
)
def test_depthwise(window: Window, channels: int, multiplier: int, layout: Layout) -> None:
    fields = fields_of(window) | {
        "input_channels": channels,
        "channel_multiplier": multiplier,
        "layout": layout,
    }
    params = record(
        "15I4i2I",
        window.batches,
        *window.input,
        channels,
        *window.output,
        multiplier,
        *window.taps,
        *(0, 0, -128, 127),
        layout,
        0,
    )
    assert depthwise_scratch_bytes(fields) == asked("depthwise", params)


@given(batches=st.integers(1, 9), inputs=st.integers(1, 700), layout=layouts)
def test_linear(batches: int, inputs: int, layout: Layout) -> None:
    fields = {"batches": batches, "inputs": inputs, "layout": layout}
    params = record("3I3i2I", batches, inputs, 5, 0, -128, 127, layout, 0)
    assert linear_scratch_bytes(fields) == asked("linear", params)
