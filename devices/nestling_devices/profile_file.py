"""Reads profiles: strict, and by name of those that come with nestling."""

from __future__ import annotations

import tomllib
from pathlib import Path

from nestling_devices.errors import ProfileError
from nestling_devices.profile import (
    MEMORY_KINDS,
    TRANSPORTS,
    ClockLevel,
    Compute,
    DeviceProfile,
    FlashGeometry,
    MemoryRegion,
    Power,
    Thermal,
)
from nestling_devices.table import Table

_NO_LIMIT = 2**63 - 1
_MOST_HZ = 10**11
_MOST_BYTES_PER_S = 1e13
_MOST_MACS_PER_S = 1e15
_MOST_PJ = 1e6
_MOST_W = 1e4
_COLDEST_C, _HOTTEST_C = -273.15, 1000.0


def load_profile(path: str | Path) -> DeviceProfile:
    """Read and check one profile.

    Args:
        path: The TOML file.

    Raises:
        ProfileError: The file cannot be read, is not TOML, or has a missing, unknown or wrong key.
    """
    path = Path(path)
    try:
        table = Table(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ProfileError(f"cannot read profile {path.name}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProfileError(f"profile {path.name} is not TOML: {error}") from error
    profile = _profile(table)
    if profile.name != path.stem:
        raise ProfileError(
            "the profile's name is not its file's",
            key="name",
            expected=path.stem,
            actual=profile.name,
        )
    return profile


def profiles() -> dict[str, Path]:
    """Return the profiles that come with nestling: name to file, sorted by name."""
    return {path.stem: path for path in sorted(_profiles_folder().glob("*.toml"))}


def find_profile(name: str) -> DeviceProfile:
    """Read a profile that comes with nestling.

    Raises:
        ProfileError: There is none of that name, or it is wrong.
    """
    known = profiles()
    if name not in known:
        raise ProfileError(
            f"no device profile {name!r}", expected=f"one of {', '.join(known) or 'none'}"
        )
    return load_profile(known[name])


def _profiles_folder() -> Path:
    """Return the folder of the profiles: in the package when installed, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "profiles"
    return installed if installed.is_dir() else package.parent / "profiles"


def _profile(table: Table) -> DeviceProfile:
    memory = tuple(_memory_region(entry) for entry in table.tables("memory"))
    names = [region.name for region in memory]
    for name in names:
        if names.count(name) > 1:
            raise ProfileError("two regions of one name", key="memory", actual=name)
    clock_hz = table.integer("clock_hz", minimum=0, maximum=_MOST_HZ, default=0)
    compute = _compute(table)
    thermal = _thermal(table)
    profile = DeviceProfile(
        name=table.text("name"),
        title=table.text("title"),
        transport=table.text("transport", choices=TRANSPORTS),
        architecture=table.text("architecture"),
        targets=table.texts("targets"),
        cores=table.integer("cores", minimum=0, maximum=4096, default=0),
        clock_hz=clock_hz,
        memory=memory,
        flash=_flash(table, memory),
        compute=compute,
        levels=_levels(table, clock_hz, compute is not None, thermal is not None),
        power=_power(table),
        thermal=thermal,
        battery_wh=_battery(table),
        accelerators=table.texts("accelerators", optional=True),
    )
    table.finish()
    if thermal is not None:
        for index, level in enumerate(profile.levels):
            if level.throttle_c is not None and level.throttle_c >= thermal.maximum_c:
                raise ProfileError(
                    "the device is off before it throttles",
                    key=f"level[{index}].throttle_c",
                    expected=f"below {thermal.maximum_c:g}",
                    actual=level.throttle_c,
                )
    return profile


def _memory_region(table: Table) -> MemoryRegion:
    region = MemoryRegion(
        name=table.text("name"),
        kind=table.text("kind", choices=MEMORY_KINDS),
        size_bytes=table.integer("size_bytes", minimum=1, maximum=_NO_LIMIT),
        bandwidth_bytes_per_s=_bandwidth(table),
        pj_per_byte=_pj_per_byte(table),
    )
    table.finish()
    return region


def _bandwidth(table: Table) -> float:
    return table.number(
        "bandwidth_bytes_per_s", minimum=0.0, maximum=_MOST_BYTES_PER_S, default=0.0
    )


def _pj_per_byte(table: Table) -> float:
    return table.number("pj_per_byte", minimum=0.0, maximum=_MOST_PJ, default=0.0)


def _flash(parent: Table, memory: tuple[MemoryRegion, ...]) -> FlashGeometry | None:
    table = parent.table("flash")
    if table is None:
        return None
    regions = {region.name: region for region in memory if region.kind == "flash"}
    region = table.text("region", choices=tuple(regions), default="")
    flash = FlashGeometry(
        region=region or None,
        sector_bytes=table.integer("sector_bytes", minimum=1, maximum=_NO_LIMIT),
        page_bytes=table.integer("page_bytes", minimum=1, maximum=_NO_LIMIT),
        slots=table.integer("slots", minimum=1, maximum=64),
        slot_bytes=table.integer("slot_bytes", minimum=1, maximum=_NO_LIMIT),
        bandwidth_bytes_per_s=_bandwidth(table),
        pj_per_byte=_pj_per_byte(table),
    )
    table.finish()
    for key, larger, smaller in (
        ("sector_bytes", flash.sector_bytes, flash.page_bytes),
        ("slot_bytes", flash.slot_bytes, flash.sector_bytes),
    ):
        if larger % smaller:
            raise ProfileError(
                "flash does not divide evenly",
                key=f"flash.{key}",
                expected=f"a multiple of {smaller}",
                actual=larger,
            )
    if region and flash.slots * flash.slot_bytes > regions[region].size_bytes:
        raise ProfileError(
            f"the slots do not fit into {region}",
            key="flash.slot_bytes",
            expected=f"at most {regions[region].size_bytes // flash.slots}",
            actual=flash.slot_bytes,
        )
    return flash


def _compute(parent: Table) -> Compute | None:
    table = parent.table("compute")
    if table is None:
        return None

    def rate(key: str) -> float:
        return table.number(key, minimum=0.0, maximum=_MOST_MACS_PER_S)

    def energy(key: str) -> float:
        return table.number(key, minimum=0.0, maximum=_MOST_PJ)

    compute = Compute(
        fp32_macs_per_s=rate("fp32_macs_per_s"),
        int8_macs_per_s=rate("int8_macs_per_s"),
        fp32_pj_per_mac=energy("fp32_pj_per_mac"),
        int8_pj_per_mac=energy("int8_pj_per_mac"),
        stage_us=table.number("stage_us", minimum=0.0, maximum=1e6, default=0.0),
    )
    table.finish()
    if not compute.fp32_macs_per_s and not compute.int8_macs_per_s:
        raise ProfileError("a device that cannot compute", key="compute", expected="a rate above 0")
    return compute


def _levels(
    parent: Table, clock_hz: int, has_compute: bool, has_thermal: bool
) -> tuple[ClockLevel, ...]:
    levels: list[ClockLevel] = []
    for index, table in enumerate(parent.tables("level")):
        key = f"level[{index}]"
        level = ClockLevel(
            clock_hz=table.integer("clock_hz", minimum=1, maximum=_MOST_HZ),
            energy_scale=table.number("energy_scale", minimum=1e-6, maximum=1.0, default=1.0),
            throttle_c=(
                table.number("throttle_c", minimum=_COLDEST_C, maximum=_HOTTEST_C)
                if index
                else None
            ),
        )
        table.finish()
        if index == 0 and level.clock_hz != clock_hz:
            raise ProfileError(
                "the first level is not the device's clock",
                key=f"{key}.clock_hz",
                expected=clock_hz,
                actual=level.clock_hz,
            )
        if index and not has_thermal:
            raise ProfileError("levels without a temperature", key="thermal", expected="a table")
        if index:
            _check_falls(levels[-1], level, key)
        levels.append(level)
    if has_compute and not levels:
        if not clock_hz:
            raise ProfileError(
                "rates hold at a clock", key="clock_hz", expected="above 0, beside `compute`"
            )
        levels.append(ClockLevel(clock_hz, 1.0))
    return tuple(levels)


def _check_falls(above: ClockLevel, level: ClockLevel, key: str) -> None:
    """Each step is slower than the one before, needs no more energy, and comes at more heat."""
    if level.clock_hz >= above.clock_hz:
        raise ProfileError(
            "levels go from fast to slow",
            key=f"{key}.clock_hz",
            expected=f"below {above.clock_hz}",
            actual=level.clock_hz,
        )
    if level.energy_scale > above.energy_scale:
        raise ProfileError(
            "a slower level needs no more energy",
            key=f"{key}.energy_scale",
            expected=f"at most {above.energy_scale:g}",
            actual=level.energy_scale,
        )
    if above.throttle_c is not None and not (level.throttle_c or 0.0) > above.throttle_c:
        raise ProfileError(
            "a slower level comes at a higher temperature",
            key=f"{key}.throttle_c",
            expected=f"above {above.throttle_c:g}",
            actual=level.throttle_c,
        )


def _power(parent: Table) -> Power | None:
    table = parent.table("power")
    if table is None:
        return None
    idle_w = table.number("idle_w", minimum=0.0, maximum=_MOST_W)
    power = Power(idle_w, table.number("awake_w", minimum=idle_w, maximum=_MOST_W, default=idle_w))
    table.finish()
    return power


def _thermal(parent: Table) -> Thermal | None:
    table = parent.table("thermal")
    if table is None:
        return None
    thermal = Thermal(
        resistance_k_per_w=table.number("resistance_k_per_w", minimum=1e-6, maximum=1e6),
        capacity_j_per_k=table.number("capacity_j_per_k", minimum=1e-6, maximum=1e9),
        hysteresis_k=table.number("hysteresis_k", minimum=0.1, maximum=1000.0),
        maximum_c=table.number("maximum_c", minimum=_COLDEST_C, maximum=_HOTTEST_C),
    )
    table.finish()
    return thermal


def _battery(parent: Table) -> float | None:
    table = parent.table("battery")
    if table is None:
        return None
    capacity_wh = table.number("capacity_wh", minimum=1e-6, maximum=1e9)
    table.finish()
    return capacity_wh
