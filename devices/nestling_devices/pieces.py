"""Pieces of a transfer: as large as the device takes, smaller while the line is bad.

A long message over a line that damages one byte in some thousands never arrives; a short one does.
Pieces carry their offset, so their size is the sender's to choose.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from nestling_devices.errors import NoAnswerError

LEAST_BYTES = 64
_QUICK_TRIES = 2
_GROW_AFTER = 16

_Answer = TypeVar("_Answer")


class Pieces:
    """The size of pieces on one line.

    Args:
        most_bytes: What the device takes.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = max(most_bytes, LEAST_BYTES)
        self._size_bytes = self._most_bytes
        self._good = 0

    def send(self, send: Callable[[int, int | None], _Answer]) -> _Answer:
        """Send one piece, smaller and smaller until it is answered.

        Args:
            send: Given the most bytes of the piece and how often to try (None: as often as usual),
                sends it.

        Returns:
            What `send` returned.

        Raises:
            NoAnswerError: Not even the smallest piece is answered.
            NestlingError: The device refuses, or the line is gone.
        """
        while True:
            last_resort = self._size_bytes <= LEAST_BYTES
            try:
                answer = send(self._size_bytes, None if last_resort else _QUICK_TRIES)
            except NoAnswerError:
                if last_resort:
                    raise
                self._size_bytes = max(LEAST_BYTES, self._size_bytes // 2)
                self._good = 0
                continue
            self._good += 1
            if self._good >= _GROW_AFTER:
                self._size_bytes = min(self._most_bytes, self._size_bytes * 2)
                self._good = 0
            return answer
