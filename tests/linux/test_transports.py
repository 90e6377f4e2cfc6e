"""smpclient from PyPI talks to the daemon, over each kind of line, on each processor."""

from __future__ import annotations

import os
import shutil
import subprocess
import tty
from pathlib import Path

import numpy as np
import pytest
import serial
from linux.bundles import PATHS, expected, random_image, write_int8
from linux.conftest import StartDaemon
from linux.daemon import QEMU, ROOT, SLOT_BYTES, Daemon, Stock, arm64_build
from smp import packet
from smp.os_management import EchoWriteResponse
from smpclient.requests.image_management import ImageErase, ImageStatesRead, ImageStatesWrite
from smpclient.requests.os_management import EchoWrite, MCUMgrParametersRead, ResetWrite
from smpclient.requests.statistics_management import GroupData, ListOfGroups

from nestling_devices import messages

PORTS = ("--pty", "--tcp")


@pytest.mark.parametrize("port", PORTS)
def test_the_standard_groups(start: StartDaemon, bundle: Path, port: str) -> None:
    with start(port) as daemon, Stock(daemon.url) as client:
        assert client.ask(EchoWrite(d="over and over")).r == "over and over"
        assert client.ask(MCUMgrParametersRead()).buf_size == 16384
        assert client.ask(ImageStatesRead()).images == []
        assert client.ask(messages.InfoRead()).slot_bytes >= SLOT_BYTES
        client.upload(bundle.read_bytes())
        client.ask(ImageStatesWrite(hash=client.hash_of_upload(), confirm=True))
        client.ask(ResetWrite())
        (image,) = client.ask(ImageStatesRead()).images
        assert (image.version, image.active, image.confirmed) == ("tiny", True, True)
        for group in client.ask(ListOfGroups()).stat_list:
            assert client.ask(GroupData(name=group)).fields
        assert client.refused(ImageErase(slot=image.slot))


@pytest.mark.parametrize("port", PORTS)
def test_every_path_computes_what_the_sdk_computes(
    start: StartDaemon, bundle: Path, port: str
) -> None:
    with start(port) as daemon, Stock(daemon.url) as client:
        client.upload(bundle.read_bytes())
        client.ask(ImageStatesWrite(hash=client.hash_of_upload(), confirm=True))
        client.ask(ResetWrite())
        assert [path.name for path in client.ask(messages.PathsRead()).paths] == list(PATHS)
        for seed in range(5):
            for path in PATHS:
                image = random_image(seed)
                np.testing.assert_allclose(
                    client.infer(path, image), expected(bundle, path, image), rtol=0, atol=1e-5
                )


@pytest.fixture(scope="module")
def int8_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_int8(tmp_path_factory.mktemp("linux") / "int8.nest")


def test_int8_answers_are_the_same_on_every_processor(
    start: StartDaemon, int8_bundle: Path
) -> None:
    bundle = int8_bundle
    with start() as daemon, Stock(daemon.url) as client:
        client.upload(bundle.read_bytes())
        client.ask(ImageStatesWrite(hash=client.hash_of_upload(), confirm=True))
        client.ask(ResetWrite())
        for path in client.ask(messages.PathsRead()).paths:
            for seed in range(20):
                image = random_image(seed, (1, 1, 8, 8))
                answer = int(np.argmax(client.infer(path.name, image)))
                assert answer == int(np.argmax(expected(bundle, path.name, image)))


def test_the_folder_for_a_board_works_wherever_it_lies(tmp_path: Path) -> None:
    folder = shutil.copytree(arm64_build() / "device", tmp_path / "board")
    program = folder / "nestling_runtime" / "bin" / "nestlingd"
    for library in folder.rglob("libnestling*.so"):
        assert str(ROOT).encode() not in library.read_bytes()
    slot = ("--slot-bytes", str(SLOT_BYTES))
    with (
        Daemon([*QEMU, program], tmp_path / "flash", "--tcp", *slot) as daemon,
        Stock(daemon.url) as client,
    ):
        assert client.ask(messages.InfoRead()).device == "linux-aarch64"


def test_clients_come_and_go(start: StartDaemon, bundle: Path) -> None:
    with start() as daemon:
        for number in range(5):
            with Stock(daemon.url) as client:
                assert client.ask(EchoWrite(d=str(number))).r == str(number)
        # One that leaves in the middle of a message, and whose answer nobody takes.
        with serial.serial_for_url(daemon.url) as line:
            line.write(b"\x06\x09AA0JAAAB")
        with Stock(daemon.url) as client:
            client.upload(bundle.read_bytes())
            client.ask(messages.TelemetryRead())


def test_a_second_client_waits_for_the_first(start: StartDaemon) -> None:
    with start() as daemon:
        first = Stock(daemon.url)
        with serial.serial_for_url(daemon.url, timeout=0.2) as second:
            second.write(b"\x06\x09ABcCAAABAAAAALmhYWRhYmEa\n")
            assert second.read(1) == b""
            first.ask(EchoWrite(d="still me"))
            first.close()
        with Stock(daemon.url) as third:
            third.ask(EchoWrite(d="me"))


def test_noise_is_passed_over(start: StartDaemon) -> None:
    rng = np.random.default_rng(0)
    with start() as daemon:
        with serial.serial_for_url(daemon.url, timeout=1) as line:
            for size in rng.integers(1, 3000, 60):
                line.write(rng.integers(0, 256, int(size), np.uint8).tobytes())
                line.write(b"\x06\x09" + bytes(rng.integers(43, 123, int(size), np.uint8)) + b"\n")
        with Stock(daemon.url) as client:
            assert client.ask(EchoWrite(d="after all that")).r == "after all that"


def test_a_serial_port_is_served(program: list[str | Path], tmp_path: Path) -> None:
    """The far end of a pseudo-terminal is a serial port for all that the daemon can tell."""
    near, far = os.openpty()
    tty.setraw(far)
    process = subprocess.Popen(
        [
            *(*program, "--serial", os.ttyname(far), "--baud", "921600"),
            *("--flash", tmp_path / "flash", "--slot-bytes", str(SLOT_BYTES)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().decode() == f"ready {os.ttyname(far)}\n"
        os.write(near, b"".join(packet.encode(EchoWrite(d="wire").BYTES)))
        with open(near, "rb", closefd=False) as line:
            answer = line.readline()
        decoder = packet.decode()
        next(decoder)
        with pytest.raises(StopIteration) as end:
            decoder.send(answer)
        assert EchoWriteResponse.loads(bytes(end.value.value)).r == "wire"
    finally:
        process.terminate()
        _, complaints = process.communicate(timeout=60)
        os.close(near)
        os.close(far)
    assert process.returncode == 0, complaints
