"""What a device is, read from a TOML file.

::

    name = "board-x"             # the file's stem
    title = "Board X, 600 MHz"   # for people
    transport = "serial"         # how the harness reaches it
    architecture = "cortex-m7"
    targets = ["cortex-m"]       # bundle targets that run there, best first
    cores = 1                    # 0: as many as the machine reports
    clock_hz = 600_000_000       # 0: not fixed

    [[memory]]                   # fastest first; none: whatever the operating system gives
    name = "dtcm"
    kind = "ram"
    size_bytes = 131_072
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from nestling_devices.errors import ProfileError
from nestling_devices.table import Table

TRANSPORTS = ("host", "arm64", "m55", "serial", "sim")
"""How a device is reached: in this process, under an emulator, over a line, or simulated."""

MEMORY_KINDS = ("ram", "flash")

_NO_LIMIT = 2**63 - 1


@dataclass(frozen=True)
class MemoryRegion:
    """A stretch of memory that a bundle or its arena may lie in.

    Attributes:
        name: Unique in the profile.
        kind: One of `MEMORY_KINDS`.
        size_bytes: Its size.
    """

    name: str
    kind: str
    size_bytes: int


@dataclass(frozen=True)
class DeviceProfile:
    """One device.

    Attributes:
        name: Short name, the file's stem; what `--device` takes.
        title: One line for people.
        transport: One of `TRANSPORTS`.
        architecture: Processor family, e.g. `aarch64`; `native` is the machine that runs this.
        targets: Bundle targets that run there, best first.
        cores: Number of processor cores; 0 is as many as the machine reports.
        clock_hz: Core clock; 0 when it is not fixed.
        memory: Regions, fastest first; empty when an operating system hands memory out.
    """

    name: str
    title: str
    transport: str
    architecture: str
    targets: tuple[str, ...]
    cores: int
    clock_hz: int
    memory: tuple[MemoryRegion, ...]

    def total_bytes(self, kind: str) -> int | None:
        """Return the size of all regions of a kind, None when the profile has no regions at all."""
        if not self.memory:
            return None
        return sum(region.size_bytes for region in self.memory if region.kind == kind)


def load_profile(path: str | Path) -> DeviceProfile:
    """Read and check one profile.

    Args:
        path: The TOML file.

    Raises:
        ProfileError: The file cannot be read, is not TOML, or has a missing, unknown or wrong key.
    """
    path = Path(path)
    try:
        table = Table(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ProfileError(f"cannot read profile {path.name}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProfileError(f"profile {path.name} is not TOML: {error}") from error
    profile = DeviceProfile(
        name=table.text("name"),
        title=table.text("title"),
        transport=table.text("transport", choices=TRANSPORTS),
        architecture=table.text("architecture"),
        targets=table.texts("targets"),
        cores=table.integer("cores", minimum=0, maximum=4096, default=0),
        clock_hz=table.integer("clock_hz", minimum=0, maximum=10**11, default=0),
        memory=tuple(_memory_region(entry) for entry in table.tables("memory")),
    )
    table.finish()
    if profile.name != path.stem:
        raise ProfileError(
            "the profile's name is not its file's",
            key="name",
            expected=path.stem,
            actual=profile.name,
        )
    names = [region.name for region in profile.memory]
    for name in names:
        if names.count(name) > 1:
            raise ProfileError("two regions of one name", key="memory", actual=name)
    return profile


def profiles() -> dict[str, Path]:
    """Return the profiles that come with nestling: name to file, sorted by name."""
    return {path.stem: path for path in sorted(_profiles_folder().glob("*.toml"))}


def find_profile(name: str) -> DeviceProfile:
    """Read a profile that comes with nestling.

    Raises:
        ProfileError: There is none of that name, or it is wrong.
    """
    known = profiles()
    if name not in known:
        raise ProfileError(
            f"no device profile {name!r}", expected=f"one of {', '.join(known) or 'none'}"
        )
    return load_profile(known[name])


def _profiles_folder() -> Path:
    """Return the folder of the profiles: in the package when installed, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "profiles"
    return installed if installed.is_dir() else package.parent / "profiles"


def _memory_region(table: Table) -> MemoryRegion:
    region = MemoryRegion(
        name=table.text("name"),
        kind=table.text("kind", choices=MEMORY_KINDS),
        size_bytes=table.integer("size_bytes", minimum=1, maximum=_NO_LIMIT),
    )
    table.finish()
    return region
