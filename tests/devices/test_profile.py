"""Device profiles: what is shipped loads; what is wrong is named by its key."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestling_devices import (
    ClockLevel,
    Compute,
    FlashGeometry,
    MemoryRegion,
    Power,
    ProfileError,
    Thermal,
    find_profile,
    load_profile,
    profiles,
)
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

SIMULATED = """
[flash]
region = "nor"
sector_bytes = 4_096
page_bytes = 256
slots = 2
slot_bytes = 1_048_576
bandwidth_bytes_per_s = 40e6
pj_per_byte = 120

[compute]
fp32_macs_per_s = 0.2e9
int8_macs_per_s = 0.6e9
fp32_pj_per_mac = 800
int8_pj_per_mac = 400.5
stage_us = 5

[[level]]
clock_hz = 600_000_000

[[level]]
clock_hz = 400_000_000
energy_scale = 0.7
throttle_c = 85.0

[[level]]
clock_hz = 200_000_000
energy_scale = 0.5
throttle_c = 95

[power]
idle_w = 0.05
awake_w = 0.3

[thermal]
resistance_k_per_w = 30.0
capacity_j_per_k = 12.0
hysteresis_k = 3.0
maximum_c = 110.0

[battery]
capacity_wh = 2.0
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


def test_what_the_simulator_needs_reads_back(tmp_path: Path) -> None:
    profile = load_profile(write(tmp_path, BOARD + SIMULATED))
    assert profile.flash == FlashGeometry("nor", 4096, 256, 2, 1_048_576, 40e6, 120.0)
    assert profile.compute == Compute(0.2e9, 0.6e9, 800.0, 400.5, 5.0)
    assert profile.levels == (
        ClockLevel(600_000_000, 1.0),
        ClockLevel(400_000_000, 0.7, 85.0),
        ClockLevel(200_000_000, 0.5, 95.0),
    )
    assert profile.power == Power(0.05, 0.3)
    assert profile.thermal == Thermal(30.0, 12.0, 3.0, 110.0)
    assert profile.battery_wh == 2.0


def test_a_board_may_say_nothing_of_heat_and_energy(tmp_path: Path) -> None:
    profile = load_profile(write(tmp_path, BOARD))
    assert [profile.flash, profile.compute, profile.power, profile.thermal] == [None] * 4
    assert profile.levels == ()
    assert profile.battery_wh is None


def test_a_clock_without_steps_is_one_level(tmp_path: Path) -> None:
    text = BOARD + SIMULATED[SIMULATED.index("[compute]") : SIMULATED.index("[[level]]")]
    assert load_profile(write(tmp_path, text)).levels == (ClockLevel(600_000_000, 1.0),)


def test_every_device_that_can_be_simulated_says_what_it_needs() -> None:
    simulated = {"host", "m55", "stm32h7", "rpi5", "phone-mid", "phone-flagship"}
    assert simulated <= set(profiles())
    for name in simulated:
        profile = find_profile(name)
        assert profile.compute is not None
        assert profile.power is not None
        assert profile.levels
    for name in ("phone-mid", "phone-flagship"):
        assert find_profile(name).battery_wh
        assert len(find_profile(name).levels) > 1


def test_every_figure_says_where_it_comes_from() -> None:
    """A rate or an energy without a comment would pass for a fact."""
    keys = ("_per_s =", "pj_per_", "_w =", "_c =", "_k =", "_per_w =", "_per_k =", "_wh =")
    for path in profiles().values():
        for line in path.read_text(encoding="utf-8").splitlines():
            if any(key in line for key in keys) and not line.startswith("#"):
                assert "#" in line, f"{path.name}: {line}"


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


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('region = "nor"', 'region = "dtcm"', "flash.region"),
        ("page_bytes = 256", "page_bytes = 300", "flash.sector_bytes"),
        ("slot_bytes = 1_048_576", "slot_bytes = 1_048_577", "flash.slot_bytes"),
        ("slot_bytes = 1_048_576", "slot_bytes = 2_097_152", "flash.slot_bytes"),
        ("slots = 2", "slots = 0", "flash.slots"),
        ("per_s = 40e6", "per_s = -1", "flash.bandwidth_bytes_per_s"),
        ("pj_per_byte = 120", "pj_per_bytes = 120", "flash.pj_per_bytes"),
        ("int8_pj_per_mac = 400.5", "int8_pj_per_mac = nan", "compute.int8_pj_per_mac"),
        ("int8_pj_per_mac = 400.5", "int8_pj_per_mac = inf", "compute.int8_pj_per_mac"),
        ("int8_pj_per_mac = 400.5", 'int8_pj_per_mac = "400"', "compute.int8_pj_per_mac"),
        ("int8_pj_per_mac = 400.5", "int8_pj_per_mac = true", "compute.int8_pj_per_mac"),
        ("int8_pj_per_mac = 400.5\n", "", "compute.int8_pj_per_mac"),
        ("clock_hz = 600_000_000\n", "clock_hz = 500_000_000\n", "level[0].clock_hz"),
        ("clock_hz = 400_000_000", "clock_hz = 700_000_000", "level[1].clock_hz"),
        ("energy_scale = 0.5", "energy_scale = 0.8", "level[2].energy_scale"),
        ("energy_scale = 0.7", "energy_scale = 0.0", "level[1].energy_scale"),
        ("throttle_c = 85.0\n", "", "level[1].throttle_c"),
        ("throttle_c = 95", "throttle_c = 84", "level[2].throttle_c"),
        ("throttle_c = 95", "throttle_c = 110", "level[2].throttle_c"),
        ("awake_w = 0.3", "awake_w = 0.01", "power.awake_w"),
        ("resistance_k_per_w = 30.0", "resistance_k_per_w = 0", "thermal.resistance_k_per_w"),
        ("capacity_wh = 2.0", "capacity_mah = 2.0", "battery.capacity_wh"),
        ("[power]", "[[power]]", "power"),
    ],
)
def test_a_wrong_key_of_the_simulator_is_named(
    tmp_path: Path, old: str, new: str, key: str
) -> None:
    assert old in SIMULATED
    with pytest.raises(ProfileError) as caught:
        load_profile(write(tmp_path, BOARD + SIMULATED.replace(old, new, 1)))
    assert caught.value.key == key


def test_a_device_that_cannot_compute_is_refused(tmp_path: Path) -> None:
    text = SIMULATED.replace("macs_per_s = 0.2e9", "macs_per_s = 0")
    load_profile(write(tmp_path, BOARD + text))
    with pytest.raises(ProfileError) as caught:
        load_profile(write(tmp_path, BOARD + text.replace("macs_per_s = 0.6e9", "macs_per_s = 0")))
    assert caught.value.key == "compute"


def test_steps_of_the_clock_need_a_temperature(tmp_path: Path) -> None:
    start, end = SIMULATED.index("[thermal]"), SIMULATED.index("[battery]")
    with pytest.raises(ProfileError) as caught:
        load_profile(write(tmp_path, BOARD + SIMULATED[:start] + SIMULATED[end:]))
    assert caught.value.key == "thermal"


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
