"""What is installed: one version, typed packages, and a library that finds ExecuTorch beside it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest

import nestling

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "native"


def test_the_version_has_one_home() -> None:
    assert metadata.version("nestling") == nestling.__version__


def test_the_licence_travels_with_the_distribution() -> None:
    names = {Path(str(file)).name for file in metadata.files("nestling") or ()}
    assert {"LICENSE", "NOTICE"} <= names


@pytest.mark.parametrize(
    "package",
    ["toolchain/nestling", "runtime_py/nestling_runtime", "devices/nestling_devices"],
)
def test_every_package_says_that_it_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out like site-packages: what the wheel installs, and executorch beside it."""
    folder = tmp_path_factory.mktemp("site")
    cmake = shutil.which("cmake", path=sysconfig.get_path("scripts"))
    assert cmake is not None
    subprocess.run(
        [cmake, "--install", BUILD, "--component", "nestling", "--prefix", folder],
        check=True,
        capture_output=True,
    )
    wheel = Path(sysconfig.get_path("platlib")) / "executorch"
    (folder / "executorch").symlink_to(wheel)
    return folder


def test_the_installed_library_finds_executorch_without_help(site: Path) -> None:
    library = site / "nestling_runtime" / "libnestling.so"
    code = "import ctypes, sys; ctypes.CDLL(sys.argv[1])"
    subprocess.run([sys.executable, "-I", "-c", code, library], check=True, env={})


def test_the_installed_library_names_no_folder_of_this_machine(site: Path) -> None:
    content = (site / "nestling_runtime" / "libnestling.so").read_bytes()
    assert b"$ORIGIN/../executorch/lib" in content
    assert str(ROOT).encode() not in content


def test_the_installed_headers_are_complete(site: Path, tmp_path: Path) -> None:
    """A C program can be compiled with what the wheel carries."""
    source = tmp_path / "main.c"
    source.write_text("#include <nestling.h>\nint main(void) { return 0; }\n", encoding="utf-8")
    include = site / "nestling_runtime" / "include"
    subprocess.run(
        ["gcc", "-std=c11", "-Wall", "-Werror", "-fsyntax-only", f"-I{include}", source],
        check=True,
    )


def test_the_device_profiles_are_installed(site: Path) -> None:
    installed = {path.name for path in (site / "nestling_devices" / "profiles").iterdir()}
    assert installed == {path.name for path in (ROOT / "devices" / "profiles").iterdir()}
