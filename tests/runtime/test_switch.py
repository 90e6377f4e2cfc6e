"""A switch asks the heap for nothing; a C program says so."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from runtime.expert_bundle import expert_builder
from runtime.expert_cases import make_layers

from nestling_runtime import native

ROOT = Path(__file__).resolve().parents[2]
SOURCE = Path(__file__).parent / "native" / "switch_allocations.c"


def build(source: Path, program: Path) -> None:
    """Compile a C program against nestling.h and the library that Python uses."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    library = next(path for path in native.library_candidates() if path.is_file())
    executorch = native.executorch_library_folder()
    subprocess.run(
        [
            compiler,
            "-std=c11",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-D_GNU_SOURCE",
            f"-I{ROOT}/firmware/include",
            f"-I{ROOT}/firmware",
            source,
            "-o",
            program,
            library,
            f"-Wl,-rpath,{library.parent}",
            f"-Wl,-rpath-link,{executorch}",
        ],
        check=True,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def switch_allocations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("native") / "switch_allocations"
    build(SOURCE, program)
    return program


@pytest.fixture(scope="module")
def run_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("native") / "run_path"
    build(ROOT / "firmware" / "examples" / "run_path.c", program)
    return program


def test_switching_and_running_allocate_nothing(switch_allocations: Path, tiny_path: Path) -> None:
    done = subprocess.run(
        [switch_allocations, tiny_path], capture_output=True, text=True, check=True
    )
    assert done.stdout == "select 0 select_stages 0 run 0\n"


def test_reading_experts_allocates_nothing(switch_allocations: Path, tmp_path: Path) -> None:
    path = tmp_path / "experts.nest"
    expert_builder(make_layers(16)).write(path)
    done = subprocess.run(
        [switch_allocations, path, "4"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "select 0 select_stages 0 run 0\n"


def test_the_example_prints_every_path(run_path: Path, tiny_path: Path) -> None:
    done = subprocess.run([run_path, tiny_path], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines[::2]] == ["tiny", "base", "full", "resident"]
    assert all(line.startswith("  logits: ") for line in lines[1::2])
    assert done.stderr == ""
    only = subprocess.run([run_path, tiny_path, "base"], capture_output=True, text=True, check=True)
    assert only.stdout.splitlines()[1] == lines[3]


def test_errors_in_c_are_one_line(run_path: Path, tiny_path: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.nest"
    cut.write_bytes(tiny_path.read_bytes()[:-100])
    edited = tmp_path / "edited.nest"
    content = bytearray(tiny_path.read_bytes())
    content[16384 + 100] ^= 1
    edited.write_bytes(content)
    for arguments, reason in (
        ([cut], "cut"),
        ([edited], "section core"),
        ([tmp_path / "none"], "No such file"),
        ([tiny_path, "huge"], "no path huge"),
    ):
        done = subprocess.run([run_path, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith("run_path: ")
        assert len(done.stderr.splitlines()) == 1
        assert reason in done.stderr
    assert subprocess.run([run_path], capture_output=True, check=False).returncode == 2
