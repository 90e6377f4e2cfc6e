"""When the store of experts reads ahead: decided by measured times, which the test makes up."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).parent / "native" / "expert_gate.cpp"


def test_reading_ahead_pays_where_it_saves_more_than_it_costs(tmp_path: Path) -> None:
    program = tmp_path / "gate"
    include = f"-I{ROOT / 'firmware' / 'executorch'}"
    flags = ["-std=c++20", "-Wall", "-Wextra", "-Werror", include]
    command = ["g++", *flags, str(PROGRAM), "-o", str(program)]
    subprocess.run(command, check=True)
    done = subprocess.run([program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr
