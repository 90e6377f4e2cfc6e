"""Device profiles: what is shipped loads; what is wrong is named by its key."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestling_devices import MemoryRegion, ProfileError, find_profile, load_profile, profiles
from nestling_runtime.errors import NestlingError

BOARD = """
name = "board"
title = "A board"
transport = "serial"
architecture = "cortex-m7"
targets = ["cortex-m"]
cores = 1
clock_hz = 600_000_000

[[memory]]
name = "dtcm"
kind = "ram"
size_bytes = 131_072

[[memory]]
name = "sram"
kind = "ram"
size_bytes = 524_288

[[memory]]
name = "nor"
kind = "flash"
size_bytes = 2_097_152
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "board.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_shipped_profile_loads_under_its_own_name() -> None:
    assert "host" in profiles()
    for name in profiles():
        assert find_profile(name).name == name


def test_a_full_profile_reads_back(tmp_path: Path) -> None:
    profile = load_profile(write(tmp_path, BOARD))
    assert profile.targets == ("cortex-m",)
    assert profile.clock_hz == 600_000_000
    assert profile.memory[0] == MemoryRegion("dtcm", "ram", 131_072)
    assert profile.total_bytes("ram") == 131_072 + 524_288
    assert profile.total_bytes("flash") == 2_097_152


def test_the_host_leaves_memory_to_the_operating_system() -> None:
    assert find_profile("host").total_bytes("ram") is None


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('title = "A board"\n', "", "title"),
        ('title = "A board"', 'title = ""', "title"),
        ("cores = 1", "cores = true", "cores"),
        ("cores = 1", 'cores = "1"', "cores"),
        ("cores = 1", "cores = -1", "cores"),
        ("clock_hz = 600_000_000", "clock_hz = 600.0e6", "clock_hz"),
        ('"serial"', '"carrier pigeon"', "transport"),
        ('["cortex-m"]', "[]", "targets"),
        ('["cortex-m"]', '["a", "a"]', "targets"),
        ('["cortex-m"]', '["a", 3]', "targets[1]"),
        ('["cortex-m"]', '"cortex-m"', "targets"),
        ("size_bytes = 524_288", "size_bytes = 0", "memory[1].size_bytes"),
        ('kind = "flash"', 'kind = "tape"', "memory[2].kind"),
        ('name = "nor"', 'name = "dtcm"', "memory"),
        ('name = "board"', 'name = "plank"', "name"),
        ("cores = 1", "core = 1", "core"),
        ("size_bytes = 524_288", "size_bytes = 524_288\nsize = 3", "memory[1].size"),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, old: str, new: str, key: str) -> None:
    assert old in BOARD
    with pytest.raises(ProfileError) as caught:
        load_profile(write(tmp_path, BOARD.replace(old, new, 1)))
    assert caught.value.key == key
    assert key in str(caught.value)
    assert isinstance(caught.value, NestlingError)


def test_a_misspelt_key_is_corrected(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="did you mean `clock_hz`"):
        load_profile(write(tmp_path, BOARD.replace("clock_hz", "clock_Hz")))


def test_a_missing_file_and_an_unknown_name_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="cannot read profile"):
        load_profile(tmp_path / "none.toml")
    with pytest.raises(ProfileError, match="host"):
        find_profile("toaster")


@given(st.binary(max_size=64))
def test_no_file_gets_past_the_reader_except_by_its_own_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("profile") / "board.toml"
    path.write_bytes(content)
    with pytest.raises(ProfileError):
        load_profile(path)
