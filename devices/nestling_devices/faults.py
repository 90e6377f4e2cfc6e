"""Faults to inject on any device: a bad line, a slow one, a cut in the middle of a transfer.

    with open_device("m55", faults=Faults(flip=1e-4, seed=1)) as device:
        device.push("digits.nest")         # takes longer, or says why it does not complete

Rates are probabilities for each byte, in each direction. The same seed gives the same faults for
the same traffic.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from nestling_devices.line import Line


@dataclass(frozen=True)
class Faults:
    """What goes wrong on a line.

    Attributes:
        flip: Probability that a byte has one bit flipped.
        drop: Probability that a byte is lost.
        double: Probability that a byte comes twice.
        read_delay_s: Pause before bytes that have come in are handed over.
        read_limit: Most bytes that one read gives; 0 for no limit.
        cut_after_bytes: The device loses its power when this many bytes were sent to it; 0: never.
        seed: Of the random numbers.
    """

    flip: float = 0.0
    drop: float = 0.0
    double: float = 0.0
    read_delay_s: float = 0.0
    read_limit: int = 0
    cut_after_bytes: int = 0
    seed: int = 0


class FaultyLine:
    """A line with faults around another line.

    Args:
        inner: The line to damage.
        faults: How.
        cut: Called once, when the device is to lose its power.

    Attributes:
        port: Of the inner line.
        damaged_bytes: Bytes flipped, lost or doubled so far.
    """

    def __init__(
        self, inner: Line, faults: Faults, *, cut: Callable[[], None] | None = None
    ) -> None:
        self.port = inner.port
        self.damaged_bytes = 0
        self._inner = inner
        self._faults = faults
        self._cut = cut
        self._random = random.Random(faults.seed)
        self._sent = 0
        self._held = b""  # read already, not handed over yet

    @property
    def sent_bytes(self) -> int:
        """See `Line`; as the inner line counts them."""
        return self._inner.sent_bytes

    @property
    def received_bytes(self) -> int:
        """See `Line`; as the inner line counts them."""
        return self._inner.received_bytes

    @property
    def out_waiting(self) -> int:
        """See `Line`."""
        return self._inner.out_waiting

    def read_all(self) -> bytes:
        """Return what has come in, damaged."""
        data = self._held or self._damage(self._inner.read_all())
        self._held = b""
        if data and self._faults.read_delay_s:
            time.sleep(self._faults.read_delay_s)
        if self._faults.read_limit:
            data, self._held = data[: self._faults.read_limit], data[self._faults.read_limit :]
        return data

    def write(self, data: bytes) -> int:
        """Send, damaged; cuts the power at the byte that was asked for."""
        limit = self._faults.cut_after_bytes
        if limit and self._cut is not None and self._sent + len(data) >= limit:
            self._inner.write(self._damage(data[: limit - self._sent]))
            cut, self._cut = self._cut, None
            cut()
            return len(data)
        self._sent += len(data)
        self._inner.write(self._damage(data))
        return len(data)

    def close(self) -> None:
        """See `Line`."""
        self._inner.close()

    def _damage(self, data: bytes) -> bytes:
        rates = self._faults
        if not (rates.flip or rates.drop or rates.double):
            return data
        out = bytearray()
        for byte in data:
            draw = self._random.random()
            if draw < rates.drop:
                self.damaged_bytes += 1
                continue
            if draw < rates.drop + rates.double:
                self.damaged_bytes += 1
                out.append(byte)
            elif draw < rates.drop + rates.double + rates.flip:
                self.damaged_bytes += 1
                byte ^= 1 << self._random.randrange(8)
            out.append(byte)
        return bytes(out)
