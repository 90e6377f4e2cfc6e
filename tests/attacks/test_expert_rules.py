"""Every rule of SPEC.md's section Experts, broken once; and a short fuzz under ASan and UBSan."""

from __future__ import annotations

import ctypes
import struct
from ctypes import byref, c_uint32, c_uint64, c_void_p
from pathlib import Path

import numpy as np
import pytest
from attacks.fuzzing_experts import fuzz, seeds
from hypothesis import given, settings
from hypothesis import strategies as st

from nestling_runtime import abi, native

LAYER = 64  # where the first layer's record begins
SLICES = LAYER + 3 * 64


def open_index(data: bytes) -> tuple[int, str]:
    """Open two sizes and an index as the fuzzer does; the code and the message."""
    room = np.zeros(len(data) + 16, np.uint8)
    start = -room.ctypes.data % 16
    held = room[start : start + len(data) - 16]
    held[:] = np.frombuffer(data[16:], np.uint8)
    sizes = (c_uint64 * 2)(*struct.unpack_from("<QQ", data))
    error, index = abi.Error(), (c_uint32 * 10)()
    code = native.library().nst_expert_index_open(
        byref(index), c_void_p(held.ctypes.data), ctypes.c_size_t(len(held)), sizes, byref(error)
    )
    assert (code == abi.OK) or error.section == b"experts"
    return code, error.message.decode()


def change(at: int, form: str, *values: int) -> bytes:
    """The sample of three layers with a number replaced."""
    data = bytearray(seeds()[1])
    struct.pack_into(f"<{form}", data, 16 + at, *values)
    return bytes(data)


def test_samples_are_accepted() -> None:
    assert [open_index(data)[0] for data in seeds()] == [abi.OK, abi.OK]


@pytest.mark.parametrize(
    ("at", "form", "value", "code", "message"),
    [
        (0, "I", 0, abi.E_FOREIGN, "not an index"),
        (4, "H", 2, abi.E_VERSION, "another version"),
        (6, "H", 0, abi.E_CORRUPT, "one slice or two"),
        (6, "H", 3, abi.E_CORRUPT, "one slice or two"),
        (6, "H", 1, abi.E_CORRUPT, "do not follow the header|need two slices"),
        (8, "I", 0, abi.E_LIMIT, "layers"),
        (8, "I", 1025, abi.E_LIMIT, "layers"),
        (8, "I", 2, abi.E_CORRUPT, "do not follow the header"),
        (12, "I", 6, abi.E_CORRUPT, "do not follow those of the layer before"),
        (12, "I", 2**31, abi.E_LIMIT, "layers"),
        (16, "I", 64, abi.E_CORRUPT, "size of a slot"),
        (20, "I", 128, abi.E_CORRUPT, "do not follow the header"),
        (24, "I", 128, abi.E_CORRUPT, "do not follow the header"),
        (28, "I", 10**6, abi.E_TRUNCATED, "another size"),
        (28, "I", 100, abi.E_CORRUPT, "another size"),
        (40, "I", 1, abi.E_CORRUPT, "reserved bytes of the header"),
        (LAYER, "I", 0, abi.E_CORRUPT, "layer 0: its sizes"),
        (LAYER, "I", 65540, abi.E_CORRUPT, "layer 0: its sizes"),
        (LAYER + 4, "I", 0, abi.E_CORRUPT, "layer 0: its sizes"),
        (LAYER + 8, "I", 0, abi.E_CORRUPT, "no or too many experts"),
        (LAYER + 8, "I", 4097, abi.E_CORRUPT, "no or too many experts"),
        (LAYER + 12, "I", 0, abi.E_CORRUPT, "tokens go to no expert"),
        (LAYER + 12, "I", 4, abi.E_CORRUPT, "or to more than there are"),
        (LAYER + 16, "I", 1, abi.E_CORRUPT, "do not follow those"),
        (LAYER + 64 + 16, "I", 4, abi.E_CORRUPT, "layer 1: its experts do not follow"),
        (LAYER + 20, "I", 2, abi.E_CORRUPT, "format, activation or flags"),
        (LAYER + 24, "I", 0, abi.E_CORRUPT, "group"),
        (LAYER + 24, "I", 3, abi.E_CORRUPT, "group"),
        (LAYER + 24, "I", 8, abi.E_CORRUPT, "group"),
        (LAYER + 64 + 24, "I", 2, abi.E_CORRUPT, "layer 1: its group"),
        (LAYER + 28, "I", 4, abi.E_CORRUPT, "format, activation or flags"),
        (LAYER + 32, "I", 8, abi.E_CORRUPT, "format, activation or flags"),
        (LAYER + 36, "I", 0, abi.E_CORRUPT, "predicts itself"),
        (LAYER + 36, "I", 3, abi.E_CORRUPT, "not there"),
        (LAYER + 36, "I", 2**32 - 1, abi.E_CORRUPT, "come together"),
        (LAYER + 40, "I", 0, abi.E_CORRUPT, "come together"),
        (LAYER + 40, "I", 64, abi.E_CORRUPT, "outside of its place"),
        (LAYER + 40, "I", 2**32 - 16, abi.E_CORRUPT, "outside of its place"),
        (LAYER + 44, "I", 1, abi.E_CORRUPT, "layer 0: its reserved bytes"),
        (SLICES + 8, "I", 1, abi.E_CORRUPT, "expert 0: a slice has not the size"),
        (SLICES, "Q", 32, abi.E_CORRUPT, "expert 0: a slice lies outside"),
        (SLICES, "Q", 2**64 - 64, abi.E_CORRUPT, "expert 0: a slice lies outside"),
        (SLICES + 3 * 32 + 16, "Q", 64, abi.E_CORRUPT, "expert 3: a slice lies outside"),
        (-16, "Q", 100, abi.E_CORRUPT, "outside of its section"),
        (-8, "Q", 0, abi.E_CORRUPT, "outside of its section"),
    ],
)
def test_broken_rules_are_named(at: int, form: str, value: int, code: int, message: str) -> None:
    got, text = open_index(change(at, form, value))
    assert got == code, text
    assert any(part in text for part in message.split("|")), text


def test_an_index_that_is_cut_anywhere_is_refused() -> None:
    data = seeds()[1]
    for length in range(16, len(data)):
        code, text = open_index(data[:length])
        assert code in (abi.E_TRUNCATED, abi.E_CORRUPT), (length, text)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_flip_is_misread(data: st.DataObject) -> None:
    """A flipped bit is refused, or says something that is still in range."""
    good = bytearray(seeds()[1])
    bit = data.draw(st.integers(16 * 8, len(good) * 8 - 1))
    good[bit // 8] ^= 1 << bit % 8
    open_index(bytes(good))


def test_a_short_fuzz_finds_nothing_and_gets_somewhere(tmp_path: Path) -> None:
    first = fuzz(tmp_path, runs=10_000, seed=1)
    assert first["edges"] > 400
    assert first["kept"] > 30
