"""During a run the daemon answers an echo and a cancel, and calls itself busy otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import serial
from linux.bundles import SLOW_ROWS, SLOW_UNITS, expected, random_image, write_slow
from linux.daemon import SLOT_BYTES, Daemon, Stock, sanitized_daemon
from smp import header, message, packet
from smpclient.requests.image_management import ImageStatesWrite
from smpclient.requests.os_management import EchoWrite, ResetWrite

from nestling_devices import messages


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose path `long` runs for seconds."""
    return write_slow(tmp_path_factory.mktemp("slow") / "slow.nest")


@pytest.fixture
def daemon(slow: Path, tmp_path: Path) -> Iterator[Daemon]:
    """A daemon that runs it."""
    slot = ("--slot-bytes", str(SLOT_BYTES))
    with Daemon([sanitized_daemon()], tmp_path / "flash", "--tcp", *slot) as started:
        with Stock(started.url) as client:
            client.upload(slow.read_bytes())
            client.ask(ImageStatesWrite(hash=client.hash_of_upload(), confirm=True))
            client.ask(ResetWrite())
        yield started


class Wire:
    """Sends several requests at once, and takes answers in the order in which they come."""

    def __init__(self, url: str) -> None:
        self._line = serial.serial_for_url(url, timeout=120)

    def send(self, *requests: message.WriteRequest) -> None:
        self._line.write(b"".join(b"".join(packet.encode(r.BYTES)) for r in requests))

    def answer(self) -> tuple[tuple[int, int], bytes]:
        """Group and command of the next answer, and its body."""
        decoder = packet.decode()
        next(decoder)
        while True:
            try:
                decoder.send(self._line.read_until(b"\n"))
            except StopIteration as end:
                frame = bytes(end.value)
                head = header.Header.loads(frame[: header.Header.SIZE])
                return (int(head.group_id), int(head.command_id)), frame[header.Header.SIZE :]

    def close(self) -> None:
        self._line.close()


ECHO, RUN, CANCEL, SELECT = (0, 0), (64, 3), (64, 10), (64, 2)


def test_a_run_is_cancelled_by_what_comes_meanwhile(daemon: Daemon, slow: Path) -> None:
    with Stock(daemon.url) as client:
        client.ask(messages.SelectWrite(name="long"))
    wire = Wire(daemon.url)
    wire.send(
        messages.RunWrite(),
        EchoWrite(d="are you there"),
        messages.SelectWrite(name="short"),
        messages.CancelWrite(),
    )
    answers = [wire.answer() for _ in range(4)]
    wire.close()
    assert [what for what, _ in answers] == [ECHO, SELECT, CANCEL, RUN]
    assert b"are you there" in answers[0][1]
    assert b"a run is in progress" in answers[1][1]
    assert b"cancelled" in answers[3][1]
    # The next run is not touched, and right.
    image = random_image(0, (SLOW_ROWS, SLOW_UNITS))
    with Stock(daemon.url) as client:
        assert client.ask(messages.TelemetryRead()).cancels == 1
        np.testing.assert_allclose(
            client.infer("short", image), expected(slow, "short", image), rtol=0, atol=1e-4
        )


def test_a_client_that_leaves_during_its_run_gets_no_answer(daemon: Daemon) -> None:
    with Stock(daemon.url) as client:
        client.ask(messages.SelectWrite(name="long"))
    gone = Wire(daemon.url)
    gone.send(messages.RunWrite(), EchoWrite(d="running"))
    assert gone.answer()[0] == ECHO
    gone.close()
    wire = Wire(daemon.url)
    wire.send(messages.CancelWrite(), EchoWrite(d="mine"))
    # Nothing of the other client's run is among the answers.
    assert [wire.answer()[0] for _ in range(2)] == [CANCEL, ECHO]
    wire.close()
    with Stock(daemon.url) as client:
        assert client.ask(EchoWrite(d="still here")).r == "still here"


def test_ending_the_daemon_ends_a_run(daemon: Daemon) -> None:
    with Stock(daemon.url) as client:
        client.ask(messages.SelectWrite(name="long"))
    wire = Wire(daemon.url)
    wire.send(messages.RunWrite(), EchoWrite(d="running"))
    assert wire.answer()[0] == ECHO
    daemon.end()
    wire.close()
