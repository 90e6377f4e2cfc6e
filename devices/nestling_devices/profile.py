"""What a device is: the meaning of a profile, `devices/profiles/*.toml`.

::

    name = "board-x"             # the file's stem
    title = "Board X, 600 MHz"   # for people
    transport = "serial"         # how the harness reaches it
    architecture = "cortex-m7"
    targets = ["cortex-m7"]      # bundle targets that its processor runs, best first
    accelerators = []            # those of what is beside the processor; none: leave it out
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
below may be left out. `profile_file` reads and checks the files.
"""

from __future__ import annotations

from dataclasses import dataclass

TRANSPORTS = ("host", "arm64", "m55", "serial", "sim")
"""How a device is reached: in this process, under an emulator, over a line, or simulated."""

MEMORY_KINDS = ("ram", "flash")


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
        targets: Bundle targets that its processor runs, best first.
        accelerators: Bundle targets of what is beside the processor, best first. `nestling split`
            keeps them; the harness and the simulator know the processor alone.
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
    accelerators: tuple[str, ...] = ()

    def total_bytes(self, kind: str) -> int | None:
        """Return the size of all regions of a kind, None when the profile has no regions at all."""
        if not self.memory:
            return None
        return sum(region.size_bytes for region in self.memory if region.kind == kind)
