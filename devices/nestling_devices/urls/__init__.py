"""pyserial's way to new URLs: each module `protocol_X` here brings the class behind `X://`.

Importing `nestling_devices` tells pyserial of this package.
"""

from __future__ import annotations

import serial


def register() -> None:
    """Let `serial.serial_for_url` know the URLs of this package; again: no-op."""
    if __name__ not in serial.protocol_handler_packages:
        serial.protocol_handler_packages.append(__name__)
