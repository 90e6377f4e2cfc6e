"""A device on virtual time: clock, heat, throttling, battery.

Nothing here waits. Time passes when the device works or idles, by exactly what that takes; on the
way the device heats up or cools down, falls back to slower clock steps and returns from them, and
drains its battery. Every change of state happens at the moment at which its threshold is crossed,
which is solved for, not searched in small steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from nestling_devices.profile import DeviceProfile
from nestling_devices.sim.heat import Body
from nestling_devices.sim.work import Work, requirements

Air = Callable[[float], float]
"""Virtual seconds -> temperature of the air around the device, in degrees Celsius."""

ROOM_C = 25.0

_JOULES_PER_WH = 3600.0
# Air temperature, and with it everything that is solved exactly, is constant for this long.
_AIR_PERIOD_S = 60.0


class VirtualDevice:
    """One simulated device.

    Args:
        profile: What it is.
        air_c: Temperature of the air, a number or a function of time; it is asked once a minute.
        charge: Of the battery to begin with, 0 to 1; ignored without a battery.
        awake: Whether it is in use to begin with.

    Raises:
        ProfileError: The profile lacks what a simulation needs.
        ValueError: The charge is no share.
    """

    def __init__(
        self,
        profile: DeviceProfile,
        *,
        air_c: float | Air = ROOM_C,
        charge: float = 1.0,
        awake: bool = True,
    ) -> None:
        if not 0.0 <= charge <= 1.0:
            raise ValueError(f"a battery is 0 to 1 full, not {charge}")
        _, self._power = requirements(profile)
        self.profile = profile
        self.awake = awake
        self.time_s = 0.0
        self.level = 0
        self.throttled_s = 0.0
        self.energy_j = 0.0
        self.work_j = 0.0
        self.overheated = False
        self._levels = profile.levels
        self._slowdowns = [self._levels[0].clock_hz / level.clock_hz for level in self._levels]
        self._air = air_c if callable(air_c) else lambda _: air_c
        self._air_c = self._air(0.0)
        self._air_until_s = _AIR_PERIOD_S
        self._body = Body(profile.thermal, self._air_c)
        self._capacity_j = (
            math.inf if profile.battery_wh is None else profile.battery_wh * _JOULES_PER_WH
        )
        self._charge_j = math.inf if profile.battery_wh is None else charge * self._capacity_j
        self._govern()

    @property
    def temperature_c(self) -> float:
        """Of the device."""
        return self._body.temperature_c

    @property
    def air_c(self) -> float:
        """Of the air around it, since the last full minute."""
        return self._air_c

    @property
    def battery(self) -> float | None:
        """Charge from 0 to 1; None: it hangs on the mains."""
        return None if math.isinf(self._capacity_j) else self._charge_j / self._capacity_j

    @property
    def charge_j(self) -> float:
        """Energy in the battery; infinite on the mains."""
        return self._charge_j

    @property
    def is_on(self) -> bool:
        """False with an empty battery, and after overheating until it has cooled down."""
        return self._charge_j > 0.0 and not self.overheated

    def seconds(self, work: Work) -> float:
        """Return how long work would take if the level stayed what it is."""
        return work.seconds(self._slowdowns[self.level])

    def run(self, work: Work) -> bool:
        """Do something, and let as much time pass as it takes.

        Returns:
            Whether it was finished; False when the device went off on the way.
        """
        left = 1.0
        while self.is_on:
            seconds = self.seconds(work)
            if seconds <= 0.0:
                self.work_j += self._drain(work.joules(self._levels[self.level]) * left)
                return self.is_on
            dynamic_w = work.joules(self._levels[self.level]) / seconds
            passed = self._pass(left * seconds, self._base_w() + dynamic_w)
            self.work_j += passed * dynamic_w
            done = passed / seconds
            # What is left after the last piece is rounding.
            if left - done <= 1e-12:
                return True
            left -= done
        return False

    def idle_until(self, time_s: float) -> None:
        """Let time pass up to a moment; nothing happens when that is over already."""
        while self.time_s < time_s:
            self._pass(time_s - self.time_s, self._base_w() if self.is_on else 0.0)

    def _base_w(self) -> float:
        return self._power.awake_w if self.awake else self._power.idle_w

    def _drain(self, joules: float) -> float:
        """Take energy out of the battery, at most what is in it; return what was taken."""
        taken = min(joules, self._charge_j)
        self._charge_j -= taken
        self.energy_j += taken
        return taken

    def _pass(self, seconds: float, power_w: float) -> float:
        """Let time pass until `seconds` are over or something changes; return how much passed."""
        step, crossing_c = min(seconds, self._air_until_s - self.time_s), math.nan
        for threshold_c in self._thresholds():
            until = self._body.seconds_until(threshold_c, power_w, self._air_c)
            if until < step:
                step, crossing_c = until, threshold_c
        lifetime = self._charge_j / power_w if power_w > 0.0 else math.inf
        empty = lifetime <= step
        if empty:
            step, crossing_c = lifetime, math.nan
        self._body.heat(power_w, self._air_c, step)
        if not math.isnan(crossing_c):
            # Exactly there: rounding must not leave it this side of the threshold.
            self._body.temperature_c = crossing_c
        self.time_s += step
        self._drain(power_w * step)
        if empty:
            self.energy_j += self._charge_j
            self._charge_j = 0.0
        if self.level:
            self.throttled_s += step
        if self.time_s >= self._air_until_s:
            self._air_c = self._air(self.time_s)
            self._air_until_s = (self.time_s // _AIR_PERIOD_S + 1.0) * _AIR_PERIOD_S
        self._govern()
        return step

    def _thresholds(self) -> list[float]:
        """Return the temperatures at which something would change."""
        thermal = self.profile.thermal
        if thermal is None:
            return []
        found = [self._cool_c() if self.overheated else thermal.maximum_c]
        if self.level:
            throttle_c = self._levels[self.level].throttle_c
            assert throttle_c is not None
            found.append(throttle_c - thermal.hysteresis_k)
        if self.level + 1 < len(self._levels):
            throttle_c = self._levels[self.level + 1].throttle_c
            assert throttle_c is not None
            found.append(throttle_c)
        return found

    def _cool_c(self) -> float:
        """Return the temperature at which it may be switched on again after overheating."""
        thermal = self.profile.thermal
        assert thermal is not None
        if len(self._levels) == 1:
            return thermal.maximum_c - 10.0
        throttle_c = self._levels[1].throttle_c
        assert throttle_c is not None
        return throttle_c - thermal.hysteresis_k

    def _govern(self) -> None:
        """Choose the level for the present temperature, with hysteresis."""
        thermal = self.profile.thermal
        if thermal is None:
            return
        temperature_c = self._body.temperature_c
        while self.level + 1 < len(self._levels):
            throttle_c = self._levels[self.level + 1].throttle_c
            assert throttle_c is not None
            if temperature_c < throttle_c:
                break
            self.level += 1
        while self.level:
            throttle_c = self._levels[self.level].throttle_c
            assert throttle_c is not None
            if temperature_c > throttle_c - thermal.hysteresis_k:
                break
            self.level -= 1
        if self.overheated:
            self.overheated = temperature_c > self._cool_c()
        else:
            self.overheated = temperature_c >= thermal.maximum_c
