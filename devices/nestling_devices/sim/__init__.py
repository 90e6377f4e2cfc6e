"""Devices on virtual time: a day of heat, battery and deadlines in a second.

- `VirtualDevice`: a device of a profile; clock, heat, throttling, battery.
- `CostModel`, `Work`: what stages and paths of a bundle cost it.
- `Residency`: which weights are in memory, and what reading the others takes.
- `Scenario`, `hot_day`, `simulate_day`: requests with deadlines over a day, under a policy.
"""

from __future__ import annotations

from nestling_devices.sim.day import Day, FixedPolicy, PathChoice, path_choice, simulate_day
from nestling_devices.sim.heat import Body
from nestling_devices.sim.residency import Residency
from nestling_devices.sim.scenario import Scenario, hot_day
from nestling_devices.sim.virtual_device import VirtualDevice
from nestling_devices.sim.work import CostModel, Work, read_measurements

__all__ = [
    "Body",
    "CostModel",
    "Day",
    "FixedPolicy",
    "PathChoice",
    "Residency",
    "Scenario",
    "VirtualDevice",
    "Work",
    "hot_day",
    "path_choice",
    "read_measurements",
    "simulate_day",
]
