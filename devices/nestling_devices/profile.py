"""What a device is, read from a TOML file.

::

    name = "board-x"             # the file's stem
    title = "Board X, 600 MHz"   # for people
    transport = "serial"         # how the harness reaches it
    architecture = "cortex-m7"
    targets = ["cortex-m7"]      # bundle targets that run there, best first
    cores = 1                    # 0: as many as the machine reports
    clock_hz = 600_000_000       # 0: not fixed

    [[memory]]                   # fastest first; none: whatever the operating system gives
    name = "dtcm"
    kind = "ram"
    size_bytes = 131_072
    bandwidth_bytes_per_s = 2.4e9
    pj_per_byte = 2.0

    [flash]                      # where bundles are kept: two or more equal slots
    region = "nor"               # the memory region that they lie in; absent: files
    sector_bytes = 4_096
    page_bytes = 256
    slots = 2
    slot_bytes = 4_194_304
    bandwidth_bytes_per_s = 40e6
    pj_per_byte = 120.0

The rest is for the simulator (`nestling_devices.sim`), which needs `compute` and `power`::

    [compute]                    # one core at `clock_hz`
    fp32_macs_per_s = 0.2e9
    int8_macs_per_s = 0.6e9
    fp32_pj_per_mac = 800.0      # dynamic energy, at the first level's voltage
    int8_pj_per_mac = 400.0
    stage_us = 5.0               # dispatch of a stage beside its arithmetic

    [[level]]                    # clock steps, fastest first; none: `clock_hz` alone
    clock_hz = 600_000_000
    energy_scale = 1.0           # of an operation, relative to the first level: (V / V0) squared

    [[level]]
    clock_hz = 400_000_000
    energy_scale = 0.7
    throttle_c = 85.0            # the device falls back to this step at this temperature ...

    [power]
    idle_w = 0.05                # asleep between requests
    awake_w = 0.30               # in use: screen, radios, sensors, everything but the model

    [thermal]                    # one body that gives its heat to the air
    resistance_k_per_w = 30.0
    capacity_j_per_k = 12.0
    hysteresis_k = 3.0           # ... and returns when it is this much cooler
    maximum_c = 110.0            # switches itself off

    [battery]
    capacity_wh = 2.0

Every table after the first lines is optional; within a table only what has a default in the classes
below may be left out.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from nestling_devices.errors import ProfileError
from nestling_devices.table import Table

TRANSPORTS = ("host", "arm64", "m55", "serial", "sim")
"""How a device is reached: in this process, under an emulator, over a line, or simulated."""

MEMORY_KINDS = ("ram", "flash")

_NO_LIMIT = 2**63 - 1
_MOST_HZ = 10**11
_MOST_BYTES_PER_S = 1e13
_MOST_MACS_PER_S = 1e15
_MOST_PJ = 1e6
_MOST_W = 1e4
_COLDEST_C, _HOTTEST_C = -273.15, 1000.0


@dataclass(frozen=True)
class MemoryRegion:
    """A stretch of memory that a bundle or its arena may lie in.

    Attributes:
        name: Unique in the profile.
        kind: One of `MEMORY_KINDS`.
        size_bytes: Its size.
        bandwidth_bytes_per_s: Of long reads; 0: not known, and the simulator takes it as unlimited.
        pj_per_byte: Energy of a read, in picojoules.
    """

    name: str
    kind: str
    size_bytes: int
    bandwidth_bytes_per_s: float = 0.0
    pj_per_byte: float = 0.0


@dataclass(frozen=True)
class FlashGeometry:
    """Where bundles are kept.

    Attributes:
        region: Memory region of kind flash that the slots lie in, read in place; None: files, which
            are read into RAM.
        sector_bytes: Smallest piece that can be erased.
        page_bytes: Smallest piece that is programmed at once.
        slots: Equal slots for bundles.
        slot_bytes: Capacity of one, a multiple of `sector_bytes`.
        bandwidth_bytes_per_s: Of long reads; 0: not known, taken as unlimited.
        pj_per_byte: Energy of a read, in picojoules.
    """

    region: str | None
    sector_bytes: int
    page_bytes: int
    slots: int
    slot_bytes: int
    bandwidth_bytes_per_s: float = 0.0
    pj_per_byte: float = 0.0


@dataclass(frozen=True)
class Compute:
    """What one core does at `DeviceProfile.clock_hz`.

    Attributes:
        fp32_macs_per_s: Effective rate of multiply-accumulates in float32; 0: not supported.
        int8_macs_per_s: The same in int8; 0: not supported.
        fp32_pj_per_mac: Dynamic energy of one at the first level's voltage, in picojoules.
        int8_pj_per_mac: The same in int8.
        stage_us: Time to dispatch a stage, beside its arithmetic.
    """

    fp32_macs_per_s: float
    int8_macs_per_s: float
    fp32_pj_per_mac: float
    int8_pj_per_mac: float
    stage_us: float = 0.0


@dataclass(frozen=True)
class ClockLevel:
    """A step of the clock.

    Attributes:
        clock_hz: Of all cores.
        energy_scale: Energy of an operation relative to the first level's, in (0, 1].
        throttle_c: Temperature at which the device falls back to this step; None for the first.
    """

    clock_hz: int
    energy_scale: float
    throttle_c: float | None = None


@dataclass(frozen=True)
class Power:
    """What is drawn beside the model, in watts: asleep, and while the device is being used."""

    idle_w: float
    awake_w: float


@dataclass(frozen=True)
class Thermal:
    """One body that heats up evenly and gives its heat to the air.

    Attributes:
        resistance_k_per_w: Steady temperature above the air for each watt.
        capacity_j_per_k: Heat that warms it by a kelvin; time constant is the product of both.
        hysteresis_k: How much cooler than `ClockLevel.throttle_c` it must be to return.
        maximum_c: Temperature at which it switches itself off.
    """

    resistance_k_per_w: float
    capacity_j_per_k: float
    hysteresis_k: float
    maximum_c: float


@dataclass(frozen=True)
class DeviceProfile:
    """One device.

    Attributes:
        name: Short name, the file's stem; what `--device` takes.
        title: One line for people.
        transport: One of `TRANSPORTS`.
        architecture: Processor family, e.g. `aarch64`; `native` is the machine that runs this.
        targets: Bundle targets that run there, best first.
        cores: Number of processor cores; 0 is as many as the machine reports.
        clock_hz: Core clock; 0 when it is not fixed.
        memory: Regions, fastest first; empty when an operating system hands memory out.
        flash: Where bundles are kept; None where that is no matter of size.
        compute: Rates and energies; None: cannot be simulated.
        levels: Clock steps, fastest first; at least one if there is `compute`.
        power: What is drawn beside the model; None: cannot be simulated.
        thermal: None: it stays at the temperature of the air.
        battery_wh: Capacity of a full battery; None: it hangs on the mains.
    """

    name: str
    title: str
    transport: str
    architecture: str
    targets: tuple[str, ...]
    cores: int
    clock_hz: int
    memory: tuple[MemoryRegion, ...] = ()
    flash: FlashGeometry | None = None
    compute: Compute | None = None
    levels: tuple[ClockLevel, ...] = ()
    power: Power | None = None
    thermal: Thermal | None = None
    battery_wh: float | None = None

    def total_bytes(self, kind: str) -> int | None:
        """Return the size of all regions of a kind, None when the profile has no regions at all."""
        if not self.memory:
            return None
        return sum(region.size_bytes for region in self.memory if region.kind == kind)


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
