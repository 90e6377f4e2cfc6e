"""A short run of the server's fuzzer under ASan and UBSan, the same every time."""

from __future__ import annotations

from pathlib import Path

from attacks.fuzzing_smp import fuzz


def test_a_short_fuzz_of_the_server_finds_nothing_and_gets_somewhere(tmp_path: Path) -> None:
    first = fuzz(tmp_path, runs=4_000, seed=1)
    assert first["edges"] > 1500
    assert first["kept"] > 100
