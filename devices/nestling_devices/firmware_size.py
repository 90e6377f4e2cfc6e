"""How much flash the firmware of the emulated board takes."""

from __future__ import annotations

import subprocess
from pathlib import Path

from nestling_devices.errors import ToolError


def text_bytes(program: Path) -> int:
    """Return the bytes of code and constants of a firmware, as `arm-none-eabi-size` counts them.

    Raises:
        ToolError: The tool or the program is not there.
    """
    try:
        done = subprocess.run(
            ["arm-none-eabi-size", str(program)], capture_output=True, text=True, check=True
        )
    except FileNotFoundError as error:
        raise ToolError(
            "arm-none-eabi-size is not there", hint="apt-get install binutils-arm-none-eabi"
        ) from error
    except subprocess.CalledProcessError as error:
        raise ToolError(
            f"the firmware cannot be measured: {error.stderr.strip()}", hint="make firmware"
        ) from error
    return int(done.stdout.splitlines()[1].split()[0])


def firmware_text_bytes(build: Path) -> dict[str, int]:
    """Return the metric `firmware_text_bytes` of a build folder.

    Returns:
        Bytes `with_kernels`, the whole firmware, and `without_kernels`, all else: start-up, engine,
        protocol, bundle slots, SHA-256 and Ed25519.

    Raises:
        ToolError: Something is not there.
    """
    folder = build / "firmware" / "mps3_an547"
    return {
        "with_kernels": text_bytes(folder / "nestling.elf"),
        "without_kernels": text_bytes(folder / "nestling_bare.elf"),
    }
