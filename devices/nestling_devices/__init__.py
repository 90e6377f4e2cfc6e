"""Devices: what nestling runs on, as data, and the harness that reaches them.

    from nestling_devices import open_device

    with open_device("m55") as device:         # or host, arm64, serial:/dev/ttyACM0, sim:phone-mid
        device.push("digits.nest", confirm=True)
        device.select("tiny")
        logits = device.run(image=image)["logits"]

A profile is a TOML file (`devices/profiles/*.toml`) that says what a device is and how much of it a
bundle may use. This package knows `nestling_runtime` and nothing of torch.
"""

from nestling_devices.device import Device
from nestling_devices.errors import DeviceError, LinkError, ProfileError, ToolError
from nestling_devices.faults import Faults
from nestling_devices.profile import (
    ClockLevel,
    Compute,
    DeviceProfile,
    FlashGeometry,
    MemoryRegion,
    Power,
    Thermal,
)
from nestling_devices.profile_file import find_profile, load_profile, profiles
from nestling_devices.registry import DeviceKind, list_devices, open_device
from nestling_devices.urls import register

register()

__all__ = [
    "ClockLevel",
    "Compute",
    "Device",
    "DeviceError",
    "DeviceKind",
    "DeviceProfile",
    "Faults",
    "FlashGeometry",
    "LinkError",
    "MemoryRegion",
    "Power",
    "ProfileError",
    "Thermal",
    "ToolError",
    "find_profile",
    "list_devices",
    "load_profile",
    "open_device",
    "profiles",
]
