"""The store of experts under ThreadSanitizer, several threads on one bundle with little room."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from runtime.expert_bundle import expert_builder
from runtime.expert_cases import make_layers

from nestling_runtime import native

ROOT = Path(__file__).resolve().parents[2]
FIRMWARE = ROOT / "firmware"
PROGRAM = Path(__file__).parent / "native" / "expert_threads.cpp"
CACHE = ROOT / "build" / "cache" / "tests-threads"
EXPERT = ("call", "catalog", "loader", "recorder", "slots", "source", "store")
ENGINE = (*(f"expert_{part}" for part in EXPERT), "hash", "mapping", "status", "system_memory")


@pytest.fixture(scope="module")
def program() -> Path:
    """The program and the store's sources under ThreadSanitizer; made when one has changed."""
    sources = [PROGRAM, *(FIRMWARE / "executorch" / f"{name}.cpp" for name in ENGINE)]
    core = sorted((FIRMWARE / "core").glob("expert_*.c"))
    headers = [*(FIRMWARE / "core").glob("*.h"), *(FIRMWARE / "executorch").glob("*.h")]
    digest = hashlib.sha256()
    for file in sorted([*sources, *core, *headers, *(FIRMWARE / "include").glob("*.h")]):
        digest.update(file.read_bytes())
    made = CACHE / digest.hexdigest()[:16]
    if not made.exists():
        library = next(path for path in native.library_candidates() if path.is_file())
        CACHE.mkdir(parents=True, exist_ok=True)
        folder = CACHE / f"{made.name}.{os.getpid()}"
        folder.mkdir()
        common = ["-fsanitize=thread", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE"]
        common += [f"-I{FIRMWARE}/{part}" for part in ("include", "executorch", "core", ".")]
        # What the store shares between threads is instrumented; the reader of bundles is not.
        for compiler, standard, files in (("gcc", "c11", core), ("g++", "c++20", sources)):
            subprocess.run(
                [compiler, f"-std={standard}", *common, "-c", *files], check=True, cwd=folder
            )
        rest = library.parent / "core" / "libnestling_core.a"
        program = ["g++", "-fsanitize=thread", *sorted(folder.glob("*.o")), rest, "-o", "program"]
        subprocess.run([*program, "-lsodium", "-lz", "-pthread"], check=True, cwd=folder)
        (folder / "program").replace(made)
        shutil.rmtree(folder)
    return made


def test_threads_share_experts_without_races(program: Path, tmp_path: Path) -> None:
    path = tmp_path / "experts.nest"
    expert_builder(make_layers(16), (1,)).write(path)
    environment = {**os.environ, "TSAN_OPTIONS": "halt_on_error=1"}
    # The sanitizer of gcc 12 does not know address spaces that are as random as today's.
    command = [*(["setarch", "-R"] if shutil.which("setarch") else []), program, path]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr
