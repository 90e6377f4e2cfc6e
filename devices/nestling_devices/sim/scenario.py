"""What happens to a device over a day: when it is used, how hot the air is, what is asked of it."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_HOUR_S = 3600.0


@dataclass(frozen=True)
class Scenario:
    """A day, or a part of one; times are seconds after midnight.

    In a session the device is awake and gets a request every `period_s`; between sessions it
    sleeps. A request is a batch of inputs, as many as keep the largest path busy for `load` of the
    deadline on a cool device: the scenario asks of small and large models what is hard for them.

    Attributes:
        title: One line for people.
        start_s: When it begins.
        end_s: When it ends.
        sessions: Start and end of each, one after the other.
        period_s: Between requests.
        deadline_s: From a request's arrival to the moment at which its answer is of use.
        load: Share of the deadline that a request takes on the largest path, on a cool device.
        charge: Of the battery at the start, 0 to 1.
        coolest_c: Temperature of the air at its coolest, 12 hours from the hottest.
        hottest_c: At its hottest.
        hottest_at_s: When that is.
        scatter: Standard deviation of the logarithm of a run's time.
        disturbance: Share of requests that something else on the device slows down.
        disturbed_factor: By how much.
        seed: Of everything random.
    """

    title: str
    start_s: float
    end_s: float
    sessions: tuple[tuple[float, float], ...]
    period_s: float
    deadline_s: float
    load: float
    charge: float
    coolest_c: float
    hottest_c: float
    hottest_at_s: float = 15.0 * _HOUR_S
    scatter: float = 0.03
    disturbance: float = 0.01
    disturbed_factor: float = 1.25
    seed: int = 0

    def __post_init__(self) -> None:
        """Check that times go forward.

        Raises:
            ValueError: They do not, or a figure is out of its range.
        """
        moments = [self.start_s, *(t for session in self.sessions for t in session), self.end_s]
        if any(later < earlier for earlier, later in itertools.pairwise(moments)):
            raise ValueError("sessions follow each other between start and end")
        if not (self.period_s > 0 and self.deadline_s > 0 and self.load > 0):
            raise ValueError("period, deadline and load are above 0")
        if not (0 <= self.disturbance <= 1 and self.scatter >= 0 and self.disturbed_factor > 0):
            raise ValueError("scatter and disturbance are out of range")

    @property
    def used_s(self) -> float:
        """How long the sessions last together."""
        return sum(end - start for start, end in self.sessions)

    def air_c(self, time_s: float) -> float:
        """Return the temperature of the air: a cosine over the day."""
        middle = (self.hottest_c + self.coolest_c) / 2
        swing = (self.hottest_c - self.coolest_c) / 2
        phase = (time_s - self.hottest_at_s) / (24 * _HOUR_S)
        return middle + swing * math.cos(2 * math.pi * phase)

    def arrivals_s(self) -> npt.NDArray[np.float64]:
        """Return when requests arrive."""
        series = [np.arange(start, end, self.period_s) for start, end in self.sessions]
        return np.concatenate(series) if series else np.empty(0)

    def factors(self, count: int) -> npt.NDArray[np.float64]:
        """Return by how much longer each request takes; the same for all policies."""
        random = np.random.default_rng([self.seed, 1])
        scattered = np.exp(self.scatter * random.standard_normal(count))
        disturbed = random.random(count) < self.disturbance
        return np.where(disturbed, scattered * self.disturbed_factor, scattered)


def hot_day(seed: int = 0) -> Scenario:
    """Return a hot summer's day: 24 to 36 degrees, battery at 30 % in the morning, no charger.

    Twelve sessions of 6 to 20 minutes between 8 and 22 o'clock; five requests a second, each to be
    answered before the next one.
    """
    random = np.random.default_rng([seed, 0])
    count = 12
    # One in each of equal pieces of the day, at a random moment of it, with pauses between.
    pieces = np.linspace(8 * _HOUR_S, 22 * _HOUR_S, count + 1)
    sessions = []
    for begin, end in itertools.pairwise(pieces):
        length = random.uniform(6 * 60.0, 20 * 60.0)
        start = random.uniform(begin + 8 * 60.0, end - 12 * 60.0 - length)
        sessions.append((float(start), float(start + length)))
    return Scenario(
        title="hot day, 24 to 36 degrees",
        start_s=7 * _HOUR_S,
        end_s=23 * _HOUR_S,
        sessions=tuple(sessions),
        period_s=0.2,
        deadline_s=0.2,
        load=0.75,
        charge=0.30,
        coolest_c=24.0,
        hottest_c=36.0,
        seed=seed,
    )
