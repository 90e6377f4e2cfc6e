"""A short run of the fuzzer under ASan and UBSan, the same every time."""

from __future__ import annotations

from pathlib import Path

from attacks.fuzzing import fuzz


def test_a_short_fuzz_finds_nothing_and_gets_somewhere(tmp_path: Path) -> None:
    first = fuzz(tmp_path, runs=10_000, seed=1)
    assert first["edges"] > 600
    assert first["kept"] > 40
