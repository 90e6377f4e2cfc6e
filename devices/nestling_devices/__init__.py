"""Devices as data: profiles of what nestling runs on.

A profile is a TOML file (`devices/profiles/*.toml`) that says what a device is and how much of it a
bundle may use. This package knows `nestling_runtime` and nothing of torch.
"""

from nestling_devices.errors import ProfileError
from nestling_devices.profile import (
    ClockLevel,
    Compute,
    DeviceProfile,
    FlashGeometry,
    MemoryRegion,
    Power,
    Thermal,
    find_profile,
    load_profile,
    profiles,
)

__all__ = [
    "ClockLevel",
    "Compute",
    "DeviceProfile",
    "FlashGeometry",
    "MemoryRegion",
    "Power",
    "ProfileError",
    "Thermal",
    "find_profile",
    "load_profile",
    "profiles",
]
