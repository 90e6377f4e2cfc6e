"""A simulated device as a whole: the firmware's protocol server on a virtual device.

Server, slots, update and policy are the code of `firmware/core`, in this process; flash is a file;
the engine is simulated. It is a byte pipe like any other device, and so a pyserial URL:
`sim://phone-mid?bundle=digits.nest&seed=0` (see `BoardOptions` for the rest).
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np

from nestling_devices.device import Device
from nestling_devices.errors import DeviceError, LinkError
from nestling_devices.machine import MachineOptions
from nestling_devices.pipe import Clock, Pipe, PipeLine, PipeOptions, SensorReader
from nestling_devices.profile import DeviceProfile
from nestling_devices.profile_file import find_profile
from nestling_devices.sim.engine import SimulatedEngine
from nestling_devices.sim.virtual_device import ROOM_C, VirtualDevice
from nestling_devices.sim.work import check_threads, read_measurements
from nestling_runtime.closing import Closing

SCHEME = "sim"

_SLOT_BYTES = 64 << 20


@dataclass(frozen=True)
class BoardOptions:
    """What a simulated device is and begins with; all but `faults` are options of the URL, too.

    Attributes:
        bundle: File to be on the device from the start; None: what its flash holds.
        flash: File that is its flash and survives; None: a temporary one.
        seed: Of the scatter of runs.
        scatter: Standard deviation of the logarithm of a run's time; 0: none.
        air_c: Temperature of the air.
        charge: Of the battery, 0 to 1.
        threads: Of a run.
        costs: JSON file, see `read_measurements`; None: costs of the bundle, or modelled.
        period_s: Runs begin on multiples of it, as if requests came so; the device idles between
            them. 0: one after the other.
        budget_bytes: For weights in memory; 0: no limit.
        slot_bytes: Room for one bundle; 0: as the profile says, at most 64 MiB.
        faults: Clients may ask for power cuts.
    """

    bundle: Path | None = None
    flash: Path | None = None
    seed: int = 0
    scatter: float = 0.03
    air_c: float = ROOM_C
    charge: float = 1.0
    threads: int = 1
    costs: Path | None = None
    period_s: float = 0.0
    budget_bytes: int = 0
    slot_bytes: int = 0
    faults: bool = False

    def with_machine(self, wanted: MachineOptions) -> BoardOptions:
        """Return these options with what `open_device` was told; its folder is another matter.

        Raises:
            DeviceError: It wants signatures, which are not simulated.
        """
        if wanted.public_key is not None:
            raise DeviceError("a simulated device does not check signatures")
        return dataclasses.replace(
            self,
            threads=wanted.threads or self.threads,
            budget_bytes=wanted.budget_bytes or self.budget_bytes,
            slot_bytes=wanted.slot_bytes or self.slot_bytes,
            faults=wanted.faults or self.faults,
        )


def parse_url(url: str) -> tuple[DeviceProfile, BoardOptions]:
    """Read `sim://PROFILE?option=value&...`.

    Raises:
        ProfileError: There is no such profile.
        DeviceError: It is another URL, or an option is unknown or wrong.
    """
    parts = urlsplit(url)
    if parts.scheme != SCHEME or not parts.netloc or parts.path not in ("", "/"):
        raise DeviceError(f"{url} is no simulated device", hint="sim://PROFILE?option=value&...")
    kinds: dict[str, type] = {
        "bundle": Path,
        "flash": Path,
        "costs": Path,
        "seed": int,
        "threads": int,
        "budget_bytes": int,
        "slot_bytes": int,
        "scatter": float,
        "air_c": float,
        "charge": float,
        "period_s": float,
    }
    given: dict[str, Any] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in kinds or not value:
            raise DeviceError(f"no option {name!r} in {url}", hint=f"there are {', '.join(kinds)}")
        try:
            given[name] = kinds[name](value)
        except ValueError as error:
            raise DeviceError(f"option {name} of {url} is no {kinds[name].__name__}") from error
    return find_profile(parts.netloc), BoardOptions(**given)


class SimulatedBoard(Closing):
    """A simulated device, switched on. A context manager.

    Args:
        profile: What it is.
        options: What it begins with.

    Attributes:
        device: Clock, heat and battery, for who wants to look inside.

    Raises:
        ProfileError: The profile says too little to simulate it.
        DeviceError: A number is out of its range.
        ToolError: The server's library is not built.
        NestlingError: The flash or the bundle cannot be used.
    """

    def __init__(self, profile: DeviceProfile, options: BoardOptions | None = None) -> None:
        options = options or BoardOptions()
        if not (0.0 <= options.charge <= 1.0 and 0.0 <= options.scatter <= 1.0):
            raise DeviceError("charge and scatter are 0 to 1")
        if not math.isfinite(options.air_c):
            raise DeviceError("the air has a temperature")
        if not 0.0 <= options.period_s < math.inf:
            raise DeviceError("the period of requests is 0 or more seconds")
        check_threads(profile, options.threads)
        self.device = VirtualDevice(profile, air_c=options.air_c, charge=options.charge)
        self._stack = contextlib.ExitStack()
        flash = options.flash
        if flash is None:
            folder = tempfile.TemporaryDirectory(prefix="nestling-sim-")
            flash = Path(self._stack.enter_context(folder)) / "flash.bin"
        random = np.random.default_rng(options.seed)
        self._engine = SimulatedEngine(
            self.device,
            flash,
            threads=options.threads,
            measured_us=read_measurements(options.costs) if options.costs else None,
            factor=lambda: float(np.exp(options.scatter * random.standard_normal())),
            period_s=options.period_s,
            budget_bytes=options.budget_bytes,
        )
        self._callbacks = (
            Clock(lambda _: int(self.device.time_s * 1e3)),
            Clock(lambda _: int(self.device.time_s * 1e9)),
            SensorReader(self._read_sensors),
        )
        geometry = profile.flash
        slot_bytes = options.slot_bytes
        if not slot_bytes and geometry is not None and not flash.exists():
            slot_bytes = min(geometry.slot_bytes, _SLOT_BYTES)
        self._names = (profile.name.encode(), ",".join(profile.targets).encode())

        def configure(wanted: PipeOptions) -> None:
            wanted.device, wanted.targets = self._names
            wanted.uptime_ms, wanted.now, wanted.sensors = self._callbacks
            if geometry is not None:
                wanted.sector_bytes = geometry.sector_bytes
                wanted.page_bytes = geometry.page_bytes

        try:
            self.pipe = Pipe(
                flash,
                slot_bytes=slot_bytes,
                faults=options.faults,
                engine=self._engine.address,
                configure=configure,
            )
            self._stack.callback(self.pipe.destroy)
            if options.bundle is not None:
                with Device(SCHEME, _Installed(self.pipe)) as installed:
                    installed.push(options.bundle, confirm=True)
        except BaseException:
            self.close()
            raise

    def _read_sensors(self, _: int, out: Any) -> None:
        sensors = out[0]
        battery = self.device.battery
        sensors.has_temperature = True
        sensors.temperature_c = self.device.temperature_c
        sensors.has_battery = battery is not None
        sensors.battery = battery or 0.0

    def close(self) -> None:
        """Switch it off; may be called twice."""
        self._stack.close()


class _Installed:
    """A board that is on already, as `Device` takes it; used once, to put a bundle on it."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe

    def start(self) -> None:
        """It is on."""

    def open_line(self, wait_s: float) -> PipeLine:
        """Return a line to it."""
        del wait_s
        return PipeLine(self._pipe)

    def power_cut(self) -> None:
        """Refuse.

        Raises:
            DeviceError: Always.
        """
        raise DeviceError("a bundle is being installed")

    def close(self) -> None:
        """Leave it on."""


class SimulatedMachine:
    """A simulated device behind `open_device("sim:PROFILE")`; its flash survives a power cut.

    Args:
        profile: What it is.
        options: What it begins with.
        folder: Keeps its flash; a temporary one by default, removed on `close`.
    """

    def __init__(
        self, profile: DeviceProfile, options: BoardOptions, *, folder: Path | None = None
    ) -> None:
        self._stack = contextlib.ExitStack()
        if folder is None:
            temporary = tempfile.TemporaryDirectory(prefix="nestling-sim-")
            folder = Path(self._stack.enter_context(temporary))
        folder.mkdir(parents=True, exist_ok=True)
        self._profile = profile
        flash = options.flash or folder / "flash.bin"
        self._options = dataclasses.replace(options, flash=flash)
        self._board: SimulatedBoard | None = None
        self._line: PipeLine | None = None

    @property
    def board(self) -> SimulatedBoard:
        """What is simulated.

        Raises:
            LinkError: It is off.
        """
        if self._board is None:
            raise LinkError("the device is off")
        return self._board

    def start(self) -> None:
        """Switch it on; does nothing while it is on.

        Raises:
            NestlingError: See `SimulatedBoard`.
        """
        if self._board is None:
            self._board = SimulatedBoard(self._profile, self._options)

    def open_line(self, wait_s: float) -> PipeLine:
        """Return a line to it.

        Raises:
            LinkError: It is off.
        """
        del wait_s
        self._line = PipeLine(self.board.pipe)
        return self._line

    def power_cut(self) -> None:
        """Take its power away; heat, charge and time begin anew, flash stays."""
        line, self._line = self._line, None
        if line is not None:
            line.close()
        board, self._board = self._board, None
        if board is not None:
            board.close()

    def close(self) -> None:
        """Switch it off, and remove a temporary flash; may be called twice."""
        self.power_cut()
        self._stack.close()
