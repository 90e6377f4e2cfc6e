"""Experts whose bytes stay in flash, on an emulated microcontroller: the answers are those of plain
loops, with room for two slices of experts in RAM."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from nestling.bench.kernels import CORES

ROOT = Path(__file__).resolve().parents[3]
FIRMWARE = ROOT / "firmware"
FLAGS = [
    *("-mcpu=cortex-m55", "-mthumb", "-mfloat-abi=hard", "-O2", "-std=c11"),
    *("-ffunction-sections", "-fdata-sections", "-Wall", "-Wextra", "-Wshadow", "-Werror"),
    *(f"-I{folder}" for folder in (FIRMWARE, FIRMWARE / "core", ROOT / "tests")),
]
LINK = [
    *("-nostartfiles", "--specs=nano.specs", "-Wl,--gc-sections", "-Wl,--fatal-warnings"),
    f"-T{FIRMWARE / 'boards' / 'mps3_an547' / 'link.ld'}",
]
SOURCES = [
    FIRMWARE / "boards" / "cortex_m" / "startup.c",
    FIRMWARE / "boards" / "mps3_an547" / "board.c",
    *(FIRMWARE / "core" / f"{name}.c" for name in ("crc", "divide", "error", "text")),
    *sorted((FIRMWARE / "core").glob("expert_*.c")),
    ROOT / "tests" / "core" / "expert_flash_scene.c",
    ROOT / "tests" / "micro" / "experts" / "main.c",
]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scene for a Cortex-M55, as BareMetal.cmake builds programs."""
    compiler = shutil.which("arm-none-eabi-gcc")
    assert compiler, (
        "please install: sudo apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi"
    )
    folder = tmp_path_factory.mktemp("experts")
    memory, out = folder / "memory.o", folder / "experts.elf"
    # memset is not to become a call of memset.
    plain = ["-Os", "-fno-builtin", "-fno-tree-loop-distribute-patterns", "-c"]
    own = FIRMWARE / "boards" / "cortex_m" / "memory.c"
    for command in (
        [compiler, *FLAGS, *plain, own, "-o", memory],
        [compiler, *FLAGS, *LINK, *SOURCES, memory, "-lm", "-o", out],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return out


def test_a_microcontroller_runs_more_experts_than_it_has_memory_for(program: Path) -> None:
    emulator = shutil.which("qemu-system-arm")
    assert emulator, "please install: sudo apt-get install qemu-system-arm"
    core = CORES["m55"]
    words = [emulator, "-M", core.machine, "-display", "none", "-monitor", "none"]
    words += ["-serial", "stdio", "-semihosting-config", "enable=on,target=native"]
    words += ["-icount", f"shift={core.icount_shift}", "-kernel", str(program)]
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
    )
    result = json.loads(done.stdout)
    assert result["failures"] == 0, f"expert_flash_scene.c:{result['first_line']}"
    assert done.returncode == 0
    # Everything that the experts need in RAM is about a third of their bytes.
    assert result["ram_bytes"] < result["flash_bytes"] / 2
    assert result["hits_half"] > result["hits"]
    assert result["hits"] + result["misses"] == result["hits_half"] + result["misses_half"]
