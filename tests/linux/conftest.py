"""The daemon, built with sanitizers for this computer and as it is for aarch64; bundles for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from linux.bundles import write_tiny
from linux.daemon import QEMU, SLOT_BYTES, Daemon, arm64_build, sanitized_daemon

StartDaemon = Callable[..., Daemon]


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle."""
    return write_tiny(tmp_path_factory.mktemp("linux") / "tiny.nest")


@pytest.fixture(scope="session")
def update(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another version of it."""
    return write_tiny(tmp_path_factory.mktemp("linux") / "update.nest", scale=2.0)


@pytest.fixture(params=["x86_64", "aarch64"])
def program(request: pytest.FixtureRequest) -> list[str | Path]:
    """The daemon of each processor."""
    if request.param == "x86_64":
        return [sanitized_daemon()]
    return [*QEMU, arm64_build() / "bin" / "nestlingd"]


@pytest.fixture
def start(program: list[str | Path], tmp_path: Path) -> StartDaemon:
    """Starts daemons, one after the other, on one flash."""

    def started(port: str = "--tcp", *options: str) -> Daemon:
        slot = ["--slot-bytes", str(SLOT_BYTES)]
        return Daemon(program, tmp_path / "device.flash", port, *slot, *options)

    return started
