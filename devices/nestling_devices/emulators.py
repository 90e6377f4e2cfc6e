"""Devices that are emulated in a process of their own: `arm64` and `m55`."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Sequence
from pathlib import Path

from nestling_devices.errors import ToolError
from nestling_devices.keys import read_public_key
from nestling_devices.machine import (
    MachineOptions,
    Need,
    ProcessMachine,
    free_port,
    is_listening,
)

BUILD_VARIABLE = "NESTLING_BUILD"
"""Names the folder that the firmware was built into; `build` in the checkout by default."""

FLASH_FILE_BYTES = 2 << 30
"""QEMU maps the whole DDR of the board; the file is sparse."""

# The board's flash is the first 64 MiB of it; the last 16 KiB belong to whoever makes the board.
_PROVISION_OFFSET = (64 << 20) - (16 << 10)
# Superblock, headers of the slots, and the alignment of the bundles in them.
_STORE_OVERHEAD_BYTES = 64 << 10

_ARM64_LIBRARIES = "/usr/aarch64-linux-gnu"
# A Raspberry Pi 5's. QEMU 7.2's default has SME, whose emulation gives XNNPACK's int8 kernels wrong
# results.
_ARM64_CPU = "cortex-a76"


def build_folder() -> Path:
    """Return where firmware is looked for."""
    named = os.environ.get(BUILD_VARIABLE)
    return Path(named) if named else Path(__file__).resolve().parents[2] / "build"


def _program(name: str, package: str) -> Need:
    return Need(name, shutil.which(name), f"apt-get install {package}")


def _file(path: Path, target: str) -> Need:
    return Need(str(path), str(path) if path.is_file() else None, f"make {target}")


def _require(needs: Sequence[Need]) -> list[str]:
    """Return where the needs are.

    Raises:
        ToolError: One is missing; the hint says what brings it.
    """
    places = []
    for need in needs:
        if need.found is None:
            raise ToolError(f"{need.what} is not there", hint=f"get it with `{need.remedy}`")
        places.append(need.found)
    return places


class Arm64Machine(ProcessMachine):
    """nestlingd for aarch64 under qemu-user; the same binary runs on a Raspberry Pi."""

    name = "arm64"

    def __init__(self, options: MachineOptions) -> None:
        super().__init__(options.folder)
        self._options = options

    @staticmethod
    def needs() -> list[Need]:
        """Return what it cannot do without."""
        loader = Path(_ARM64_LIBRARIES) / "lib" / "ld-linux-aarch64.so.1"
        return [
            _program("qemu-aarch64", "qemu-user"),
            _file(build_folder() / "arm64" / "bin" / "nestlingd", "arm64"),
            Need(
                str(loader),
                str(loader) if loader.exists() else None,
                "apt-get install libc6-arm64-cross libstdc++6-arm64-cross",
            ),
        ]

    def command(self) -> Sequence[str]:
        """See `ProcessMachine`."""
        qemu, daemon, _ = _require(self.needs())
        arguments = [qemu, "-cpu", _ARM64_CPU, "-L", _ARM64_LIBRARIES, daemon]
        arguments += ["--flash", str(self.folder / "flash.bin"), "--tcp", "127.0.0.1:0"]
        options = self._options
        if options.slot_bytes:
            arguments += ["--slot-bytes", str(options.slot_bytes)]
        if options.budget_bytes:
            arguments += ["--budget-bytes", str(options.budget_bytes)]
        if options.threads:
            arguments += ["--threads", str(options.threads)]
        if options.public_key is not None:
            arguments += ["--public-key", str(options.public_key)]
        if options.faults:
            arguments += ["--faults"]
        return arguments

    def ready_url(self) -> str | None:
        """See `ProcessMachine`; the daemon says it itself."""
        words = self.console().split()
        return words[words.index("ready") + 1] if "ready" in words[:-1] else None


class M55Machine(ProcessMachine):
    """The firmware on QEMU's mps3-an547 board; its flash is a file that survives the emulator."""

    name = "m55"

    def __init__(self, options: MachineOptions) -> None:
        super().__init__(options.folder)
        self._options = options
        self._port = 0

    @property
    def flash_file(self) -> Path:
        """The flash, for tests that look inside."""
        return self.folder / "flash.bin"

    @staticmethod
    def needs() -> list[Need]:
        """Return what it cannot do without."""
        return [
            _program("qemu-system-arm", "qemu-system-arm"),
            _file(build_folder() / "firmware" / "mps3_an547" / "nestling.elf", "firmware"),
        ]

    def command(self) -> Sequence[str]:
        """See `ProcessMachine`."""
        # Somebody else may take the port before QEMU does; then it ends, and is started again.
        self._port = free_port()
        self._provision()
        qemu, firmware = _require(self.needs())
        backend = (
            f"memory-backend-file,id=flash0,size={FLASH_FILE_BYTES},"
            f"mem-path={self.flash_file},share=on"
        )
        return [
            qemu,
            *("-M", "mps3-an547", "-display", "none", "-monitor", "none"),
            *("-semihosting-config", "enable=on,target=native"),
            *("-serial", f"tcp:127.0.0.1:{self._port},server,nowait,nodelay"),
            *("-object", backend, "-machine", "memory-backend=flash0"),
            # Virtual time counts instructions, 32 ns each. Where the firmware sleeps, time passes
            # as outside: with sleep=off it would jump to the next timer, and there is none.
            *("-icount", "shift=5,align=off,sleep=on"),
            *("-kernel", firmware),
        ]

    def _provision(self) -> None:
        """Write what whoever makes a board gives it: see boards/mps3_an547/flash_ddr.h."""
        options = self._options
        if not options.slot_bytes and options.public_key is None:
            return
        store_bytes = 2 * options.slot_bytes + _STORE_OVERHEAD_BYTES if options.slot_bytes else 0
        key = b"" if options.public_key is None else read_public_key(options.public_key)
        record = struct.pack("<8sQII", b"NSTBOARD", store_bytes, bool(key), 0) + key
        with self.flash_file.open("r+b" if self.flash_file.exists() else "w+b") as file:
            file.truncate(FLASH_FILE_BYTES)
            file.seek(_PROVISION_OFFSET)
            file.write(record)

    def ready_url(self) -> str | None:
        """See `ProcessMachine`; looks, as connecting would take QEMU's only connection."""
        return f"socket://127.0.0.1:{self._port}" if is_listening(self._port) else None
