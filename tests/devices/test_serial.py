"""Boards on a line: a daemon somebody else started, behind a pseudo-terminal and behind TCP."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from devices.subjects import check, make_subject

from nestling_devices import DeviceError, LinkError, open_device
from nestling_devices.emulators import build_folder

DAEMON = build_folder() / "native" / "bin" / "nestlingd"


@pytest.fixture(params=[("--pty",), ("--tcp", "127.0.0.1:0")], ids=["pty", "tcp"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a daemon of this test's own."""
    command = [DAEMON, "--flash", tmp_path / "flash.bin", "--slot-bytes", str(1 << 20)]
    with subprocess.Popen([*command, *request.param], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        word, _, found = process.stdout.readline().strip().partition(" ")
        assert word == "ready"
        yield found
        process.terminate()


def test_a_board_on_a_line_is_a_device_like_any_other(
    url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    subject = make_subject("xnnpack", tmp_path_factory.mktemp("bundles"), 0.0)
    inputs = subject.inputs(0)
    with open_device(f"serial:{url}") as device:
        device.push(subject.bundle, confirm=True)
        device.select(subject.paths[0])
        wanted = subject.expected(subject.bundle, subject.paths[0], inputs)
        check(subject, device.run(**inputs), wanted)
        with pytest.raises(DeviceError, match="power"):
            device.power_cut()
    with open_device(f"serial:{url}") as device:
        assert device.info().bundle is not None
        device.reset()
        device.select(subject.paths[0])
        check(subject, device.run(**inputs), wanted)


def test_a_line_with_nobody_at_its_end_is_an_error() -> None:
    with pytest.raises(LinkError, match="cannot open"):
        open_device("serial:/dev/nobody", connect_s=0.2)


@pytest.mark.parametrize("name", ["toaster", "serial:", "sim:", "host:x", ""])
def test_there_are_no_other_devices(name: str) -> None:
    with pytest.raises(DeviceError, match="no device"):
        open_device(name)
