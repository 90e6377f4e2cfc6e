"""Heat: one body with a capacity and a resistance to the air, solved exactly.

Under constant power P and air temperature A the body goes exponentially to A + P R, with the time
constant R C. There is no step size, so there is no step error: the simulator asks for the time at
which a threshold will be crossed and jumps there.
"""

from __future__ import annotations

import math

from nestling_devices.profile import Thermal


class Body:
    """The temperature of a device.

    Args:
        thermal: Resistance and capacity; None: it is always as warm as the air.
        temperature_c: To begin with.
    """

    def __init__(self, thermal: Thermal | None, temperature_c: float) -> None:
        self._resistance = thermal.resistance_k_per_w if thermal else 0.0
        self._time_constant_s = (
            thermal.resistance_k_per_w * thermal.capacity_j_per_k if thermal else 0.0
        )
        self.temperature_c = temperature_c

    def steady_c(self, power_w: float, air_c: float) -> float:
        """Return the temperature that it goes to."""
        return air_c + power_w * self._resistance

    def heat(self, power_w: float, air_c: float, seconds: float) -> None:
        """Let time pass under constant power and air temperature."""
        steady = self.steady_c(power_w, air_c)
        if self._time_constant_s == 0.0:
            self.temperature_c = steady
            return
        left = math.exp(-seconds / self._time_constant_s)
        self.temperature_c = steady + (self.temperature_c - steady) * left

    def seconds_until(self, wanted_c: float, power_w: float, air_c: float) -> float:
        """Return when it will have a temperature, under constant power and air temperature.

        Infinity when it never will, or only in the limit; 0 when it has it now.
        """
        steady = self.steady_c(power_w, air_c)
        distance, wanted = self.temperature_c - steady, wanted_c - steady
        if distance == wanted:
            return 0.0
        # It must lie between here and the steady temperature, and not be that one.
        if wanted == 0.0 or distance * wanted <= 0.0 or abs(wanted) > abs(distance):
            return math.inf
        return self._time_constant_s * math.log(distance / wanted)
