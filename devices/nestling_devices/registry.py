"""The kinds of devices, what each needs, and how one is opened.

| name | what |
|---|---|
| `host` | the runtime in this process, with ExecuTorch's engine |
| `arm64` | the daemon for Arm Linux, emulated |
| `m55` | the firmware on an emulated Cortex-M55 |
| `serial:URL` | a board on a serial port: `serial:/dev/ttyACM0`, `serial:socket://10.0.0.7:4000` |
| `sim:PROFILE` | a simulated device of a profile, on virtual time; with the options of its URL |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nestling_devices.client import DEFAULT_CONNECT_S, DEFAULT_TIMEOUT_S, DEFAULT_TRIES
from nestling_devices.device import Device
from nestling_devices.emulators import Arm64Machine, M55Machine
from nestling_devices.errors import DeviceError
from nestling_devices.faults import Faults
from nestling_devices.host import HostMachine
from nestling_devices.machine import Machine, MachineOptions, Need, RemoteMachine
from nestling_devices.profile_file import find_profile, profiles
from nestling_devices.sim.board import SimulatedMachine, parse_url


@dataclass(frozen=True)
class DeviceKind:
    """A kind of device.

    Attributes:
        name: What `open_device` takes; with a colon, what stands for the rest in capitals.
        title: One line for people.
        needs: Everything that it cannot do without, whether it is there or not.
    """

    name: str
    title: str
    needs: tuple[Need, ...]

    @property
    def missing(self) -> tuple[Need, ...]:
        """The needs that are not there."""
        return tuple(need for need in self.needs if need.found is None)


_FIXED: dict[str, tuple[Callable[[MachineOptions], Machine], Callable[[], list[Need]]]] = {
    "host": (HostMachine, HostMachine.needs),
    "arm64": (Arm64Machine, Arm64Machine.needs),
    "m55": (M55Machine, M55Machine.needs),
}


def open_device(
    name: str,
    *,
    folder: str | Path | None = None,
    slot_bytes: int = 0,
    public_key: str | Path | None = None,
    budget_bytes: int = 0,
    threads: int = 0,
    faults: Faults | None = None,
    flash_faults: bool = False,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    tries: int = DEFAULT_TRIES,
    connect_s: float = DEFAULT_CONNECT_S,
) -> Device:
    """Switch a device on and connect to it.

    Args:
        name: See the table of this module.
        folder: Keeps its flash, so that the next call finds what this one pushed; a temporary one
            by default. Of `host`, `arm64` and `m55`.
        slot_bytes: Room for one bundle; 0 for the device's own choice. Of `host`, `arm64`, `m55`.
        public_key: File of a public key (`nestling keygen`): only bundles that it signed are
            opened. Of `host`, `arm64` and `m55`.
        budget_bytes: Memory budget at the start; 0 for none. Of `host` and `arm64`.
        threads: Of a run; 0 for all processors. Of `host` and `arm64`.
        faults: What goes wrong on the line; None for nothing.
        flash_faults: Let clients ask for power cuts inside of flash operations.
        timeout_s: Of one try of a short request.
        tries: How often a request is sent before it fails.
        connect_s: How long to wait for the first answer.

    Returns:
        The device, open; a context manager that switches it off.

    Raises:
        DeviceError: There is no such kind of device.
        ProfileError: There is no such profile to simulate.
        ToolError: Something that it needs is missing; the hint says how to get it.
        LinkError: It does not answer.
    """
    options = MachineOptions(
        folder=Path(folder) if folder is not None else None,
        slot_bytes=slot_bytes,
        public_key=Path(public_key) if public_key is not None else None,
        budget_bytes=budget_bytes,
        threads=threads,
        faults=flash_faults,
    )
    machine = make_machine(name, options)
    device = Device(
        name, machine, faults=faults, timeout_s=timeout_s, tries=tries, connect_s=connect_s
    )
    try:
        return device.open()
    except BaseException:
        device.close()
        raise


def make_machine(name: str, options: MachineOptions) -> Machine:
    """Return what stands behind a device, switched off.

    Raises:
        DeviceError: There is no such kind of device.
        ProfileError: There is no such profile to simulate.
    """
    if name in _FIXED:
        return _FIXED[name][0](options)
    kind, _, rest = name.partition(":")
    if kind == "serial" and rest:
        return RemoteMachine(rest)
    if kind == "sim" and rest:
        profile, wanted = parse_url(f"sim://{rest}")
        return SimulatedMachine(profile, wanted.with_machine(options), folder=options.folder)
    raise DeviceError(f"no device {name!r}", hint="`nestling devices` lists them")


def list_devices() -> list[DeviceKind]:
    """Return every kind of device with what it needs; nothing is started."""
    kinds = [
        DeviceKind(name, find_profile(name).title, tuple(needs()))
        for name, (_, needs) in _FIXED.items()
    ]
    kinds.append(DeviceKind("serial:URL", "A board on a serial port, a PTY or a TCP port", ()))
    for name in profiles():
        profile = find_profile(name)
        if profile.power is not None and profile.compute is not None:
            kinds.append(
                DeviceKind(f"sim:{name}", f"{profile.title}, simulated", tuple(HostMachine.needs()))
            )
    return kinds
