"""The C reader in a process of its own, built with AddressSanitizer and UBSan (reader_server.c).

Any finding of a sanitizer ends the process; the next question then fails with what it printed.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "sanitize"
TABLES = ("sections", "slots", "constants", "programs", "positions", "stages", "paths")
NONE = 0xFFFFFFFF


@cache
def build(target: str) -> Path:
    """Build one program of tests/core with sanitizers; return it. Workers take turns."""
    folder = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"}
    BUILD.mkdir(parents=True, exist_ok=True)
    with open(BUILD / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        configure = [
            *("cmake", "-S", str(ROOT / "firmware"), "-B", str(BUILD), "-G", "Ninja"),
            f"-DPython_EXECUTABLE={sys.executable}",
            *("-DCMAKE_BUILD_TYPE=None", "-DCMAKE_C_FLAGS=-O1", "-DCMAKE_CXX_FLAGS=-O1"),
            *(f"-DNESTLING_{name}=ON" for name in ("CORE_ONLY", "BUILD_TESTS", "SANITIZE")),
        ]
        for command in (configure, ["cmake", "--build", str(BUILD), "-j2", "--target", target]):
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            assert done.returncode == 0, done.stdout + done.stderr
    return BUILD / "bin" / target


class Reader:
    """Questions to the C reader; one instance a process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [build("nestling_reader_server")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def ask(self, operation: str, payload: bytes = b"") -> Any:
        """Send one request; return the parsed answer."""
        process = self._process
        assert process.stdin and process.stdout and process.stderr
        try:
            process.stdin.write(operation.encode() + struct.pack("<I", len(payload)) + payload)
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            raise AssertionError(f"the reader died:\n{process.stderr.read().decode()}")
        return json.loads(line)

    def open(self, data: bytes) -> Any:
        """Open a bundle and keep it: its tables, or the error."""
        return self.ask("O", data)

    def error(self, data: bytes) -> Any:
        """Open a bundle that must be refused; return the error."""
        answer = self.open(data)
        assert "error" in answer, "the bundle was accepted"
        return answer["error"]

    def path(self, chain: Sequence[int]) -> Any:
        """Judge a list of stages on the kept bundle."""
        return self.ask("P", struct.pack(f"<{len(chain)}I", *chain))

    def find(self, table: str, name: str) -> int | None:
        """Index of a named entry of the kept bundle."""
        index = self.ask("N", bytes([TABLES.index(table)]) + name.encode())["index"]
        return None if index == NONE else int(index)

    def verify(self, key: bytes) -> str:
        """Check the kept bundle's signature; return the code."""
        return str(self.ask("V", key)["error"]["code"])

    def cut(self, data: bytes) -> dict[str, int]:
        """Open `data` cut at every length; return how often each code came."""
        return dict(self.ask("C", data)["codes"])

    def flip(self, data: bytes, start: int, end: int, sections: bool = False) -> Any:
        """Flip every bit of data[start:end] in turn; see operation F of reader_server.c."""
        return self.ask("F", struct.pack("<III", start, end, sections) + data)

    def change(self, data: bytes) -> dict[str, int]:
        """Change bytes of an open bundle; return how often each code came. See operation T."""
        return dict(self.ask("T", data)["codes"])

    def policy(self, numbers: Sequence[float]) -> Any:
        """Run a policy; see operation Y of reader_server.c."""
        return self.ask("Y", struct.pack(f"<{len(numbers)}d", *numbers))

    def close(self) -> None:
        """End the process; leaks are reported here."""
        assert self._process.stdin and self._process.stderr
        self._process.stdin.close()
        code = self._process.wait(timeout=60)
        assert code == 0, self._process.stderr.read().decode()


@pytest.fixture(scope="session")
def reader() -> Iterator[Reader]:
    """The C reader; conftest.py of each folder that asks it imports this."""
    process = Reader()
    yield process
    process.close()
