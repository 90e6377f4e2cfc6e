"""Builds the small-device kernels for this machine and calls them, so that tests compare bytes.

`Library` runs an operator as the engine does: by its number, with the bytes of a parameter record
and a list of tensors, after its check.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parents[3]
MICRO = ROOT / "firmware" / "micro"
BUILD = ROOT / "build" / "micro-host"

FLAGS = ("-std=c11", "-O2", "-g", "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'firmware'}")
SANITIZE = ("-fsanitize=undefined", "-fno-sanitize-recover=all")

Array = npt.NDArray[np.generic]


class _Operator(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("params_bytes", ctypes.c_uint32),
        ("tensors", ctypes.c_uint32),
        (
            "check",
            ctypes.CFUNCTYPE(
                ctypes.c_bool, ctypes.c_void_p, ctypes.POINTER(ctypes.c_uint32), ctypes.c_uint32
            ),
        ),
        ("scratch_bytes", ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p)),
        (
            "run",
            ctypes.CFUNCTYPE(
                None, ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p
            ),
        ),
    )


class RefusedError(Exception):
    """The operator's check refused the parameters."""


def sources() -> list[Path]:
    """All C files of the kernels, and the table of operators."""
    return [*sorted((MICRO / "kernels").glob("*.c")), MICRO / "operators.c"]


def compile_sources(target: Path, files: Sequence[Path], flags: Sequence[str]) -> Path:
    """Compile `files` into `target`, or take what an earlier call left if nothing changed since."""
    digest = hashlib.sha256(repr([str(f) for f in files]).encode() + repr(flags).encode())
    for file in sorted({*files, *MICRO.rglob("*.h")}):
        digest.update(file.read_bytes())
    built = target.with_name(f"{target.stem}-{digest.hexdigest()[:16]}{target.suffix}")
    if not built.exists():
        built.parent.mkdir(parents=True, exist_ok=True)
        partial = built.with_name(f"{built.name}.{os.getpid()}")
        command = ["gcc", *FLAGS, *flags, *map(str, files), "-o", str(partial), "-lm"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"the kernels do not compile:\n{done.stderr}")
        partial.replace(built)
    return built


def operator_numbers() -> dict[str, int]:
    """The number of each operator, by the name of its kernel, as operators.h has them."""
    text = (MICRO / "operators.h").read_text()
    return {name: int(number) for number, name in re.findall(r"X\((\d+), (\w+)\)", text)}


class Library:
    """The kernels as a shared library; `sanitize` adds UBSan, which ends the process."""

    def __init__(self, sanitize: bool = True) -> None:
        flags = ("-shared", "-fPIC", *(SANITIZE if sanitize else ()))
        built = compile_sources(BUILD / "kernels.so", sources(), flags)
        self._library = ctypes.CDLL(str(built))
        self._find = self._library.nst_find_operator
        self._find.restype = ctypes.POINTER(_Operator)
        self._find.argtypes = (ctypes.c_uint32,)

    def operator(self, name: str) -> _Operator:
        """The operator of a kernel, e.g. "add"."""
        found = self._find(operator_numbers()[name])
        assert found, f"{name} is not linked"
        operator: _Operator = found.contents
        return operator

    def check(
        self, name: str, params: bytes, sizes: Sequence[int], scratch_bytes: int = 2**32 - 1
    ) -> bool:
        """Whether the operator accepts these parameters for tensors of `sizes` bytes."""
        operator = self.operator(name)
        assert len(params) == operator.params_bytes
        return bool(
            operator.check(
                _aligned(params).ctypes.data, (ctypes.c_uint32 * 8)(*sizes), scratch_bytes
            )
        )

    def run(self, name: str, params: bytes, inputs: Sequence[Array | None], output: Array) -> Array:
        """Check and run; `inputs` are the inputs and constants in order, None where one is absent.

        `output` gives shape and dtype of the result; a fresh array is returned.

        Raises:
            RefusedError: The check refused.
        """
        operator = self.operator(name)
        result = np.full_like(output, 85)
        tensors = [*(None if a is None else np.ascontiguousarray(a) for a in inputs), result]
        sizes = [0 if t is None else t.nbytes for t in tensors]
        if not self.check(name, params, sizes):
            raise RefusedError(name)
        record = _aligned(params)
        needed = int(operator.scratch_bytes(record.ctypes.data))
        if needed > 0 and self.check(name, params, sizes, needed - 1):
            raise AssertionError(f"{name} asks for {needed} bytes but accepts fewer")
        if not self.check(name, params, sizes, needed):
            raise AssertionError(f"{name} asks for {needed} bytes but refuses them")
        scratch = np.full(needed // 4 + 1, 0x5A5A5A5A, np.uint32)
        addresses = (ctypes.c_void_p * 8)(*(None if t is None else t.ctypes.data for t in tensors))
        operator.run(record.ctypes.data, addresses, scratch.ctypes.data)
        assert scratch[-1] == 0x5A5A5A5A or needed % 4, f"{name} wrote past its scratch memory"
        return result


def _aligned(params: bytes) -> npt.NDArray[np.uint64]:
    """A copy aligned to 8 bytes."""
    padded = params + bytes(-len(params) % 8)
    return np.frombuffer(padded, np.uint64).copy()


@functools.cache
def library() -> Library:
    """One library for the process."""
    return Library()


def record(layout: str, *values: int | float) -> bytes:
    """A parameter record: `layout` in the letters of `struct`, little-endian, e.g. "3I6i"."""
    return struct.pack("<" + layout, *values)
