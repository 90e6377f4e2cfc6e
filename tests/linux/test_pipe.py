"""The device inside of a process: power cuts in every flash operation, threads, restarts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import serial
from linux.bundles import expected, random_image, write_slow
from linux.daemon import SLOT_BYTES
from smp import header, packet
from smpclient.generics import SMPRequest, TEr1, TEr2, TRep
from smpclient.requests.image_management import ImageStatesWrite, ImageUploadWrite
from smpclient.requests.os_management import EchoWrite, ResetWrite

from nestling_devices import messages
from nestling_devices.pipe import CUTS, Pipe
from nestling_runtime.errors import NestlingError

PIECE_BYTES = 8192


class Board:
    """A pipe that is spoken to in messages."""

    def __init__(self, flash: Path) -> None:
        self.pipe = Pipe(flash, slot_bytes=SLOT_BYTES, threads=1)

    def ask(self, request: SMPRequest[TRep, TEr1, TEr2]) -> TRep:
        """Send a request; return its answer, which must not be an error."""
        self.pipe.write(b"".join(packet.encode(request.BYTES)))
        (frame,) = frames(self.pipe.read())
        return request._Response.loads(frame)

    def install(self, bundle: Path) -> bytes:
        """Upload a bundle and make it the one that stays; return the hash of what runs then."""
        data = bundle.read_bytes()
        offset = 0
        while offset < len(data):
            piece = data[offset : offset + PIECE_BYTES]
            size = len(data) if offset == 0 else None
            offset = self.ask(ImageUploadWrite(off=offset, data=piece, len=size)).off or 0
        digest = bytes(data[32:64])  # of the manifest, in the bundle's prefix
        self.ask(ImageStatesWrite(hash=digest, confirm=True))
        self.ask(ResetWrite())
        return self.running()

    def running(self) -> bytes:
        """Hash of the bundle that runs."""
        digest = self.ask(messages.InfoRead()).hash
        assert digest is not None
        return digest

    def infer(self, path: str, image: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> bytes:
        """Run a path of the tiny net; return the bytes of its logits."""
        self.ask(messages.SelectWrite(name=path))
        self.ask(messages.TensorWrite(slot=0, off=0, data=image.tobytes()))
        self.ask(messages.RunWrite())
        return self.ask(messages.TensorRead(slot=3, off=0)).data


def frames(data: bytes) -> list[bytes]:
    """Every message on the line."""
    found = []
    decoder = packet.decode()
    next(decoder)
    for line in data.splitlines(keepends=True):
        try:
            decoder.send(line)
        except StopIteration as end:
            found.append(bytes(end.value))
            decoder = packet.decode()
            next(decoder)
    return found


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    """A board with an empty flash."""
    made = Board(tmp_path / "flash")
    yield made
    made.pipe.destroy()


def test_power_cut_in_every_flash_operation_of_an_update(
    board: Board, bundle: Path, update: Path
) -> None:
    image = random_image(0)
    # Before the board opens one: both give one name to different weights, which the engine minds.
    answers = {version: expected(version, "full", image).tobytes() for version in (bundle, update)}
    known = {board.install(version): version for version in (bundle, update)}
    before = board.ask(messages.TelemetryRead())
    board.install(bundle)  # how many operations an update takes; counters go on from reset to reset
    after = board.ask(messages.TelemetryRead())
    operations = (after.flash_erases + after.flash_programs) - (
        before.flash_erases + before.flash_programs
    )
    assert operations > 30
    for operation in range(1, operations + 1):
        stays = board.running()
        (other,) = (digest for digest in known if digest != stays)
        board.pipe.cut_after(operation, CUTS[operation % len(CUTS)])
        with pytest.raises((serial.SerialException, ValueError)):
            board.install(known[other])
        with pytest.raises(serial.SerialException):
            board.pipe.write(b"\n")
        board.pipe.cut_after(0)
        board.pipe.restart()
        now = board.running()
        assert now in (stays, other)
        assert board.infer("full", image) == answers[known[now]]
        # Back to two complete versions, so that each round takes the same operations.
        for digest in (other, stays):
            board.install(known[digest])


def test_the_flash_is_the_device(bundle: Path, tmp_path: Path) -> None:
    board = Board(tmp_path / "flash")
    digest = board.install(bundle)
    with pytest.raises(NestlingError, match="another program uses the flash file"):
        Pipe(tmp_path / "flash")
    board.pipe.destroy()
    board = Board(tmp_path / "flash")
    assert board.running() == digest
    board.pipe.restart()
    assert board.running() == digest
    board.pipe.destroy()


def test_a_second_thread_cancels(board: Board, tmp_path: Path) -> None:
    board.install(write_slow(tmp_path / "slow.nest"))
    board.ask(messages.SelectWrite(name="long"))
    run = b"".join(packet.encode(messages.RunWrite().BYTES))
    look = b"".join(packet.encode(messages.TelemetryRead().BYTES))
    # The run has begun when the device is busy. Should this thread be inside of the pipe first,
    # then it does the run, to the end; and once more.
    writer = None
    collected = b""
    while b"a run is in progress" not in b"".join(frames(collected)):
        if writer is None or not writer.is_alive():
            collected = b""
            writer = threading.Thread(target=board.pipe.write, args=(run,))
            writer.start()
        board.pipe.write(look)
        collected += board.pipe.read(wait_ms=1000)
    assert writer is not None
    board.pipe.write(b"".join(packet.encode(messages.CancelWrite().BYTES)))
    writer.join()
    collected += board.pipe.read(wait_ms=0)
    *_, cancel, last = frames(collected)
    assert int(header.Header.loads(cancel[: header.Header.SIZE]).command_id) == 10
    assert b"cancelled" in last
    assert board.ask(EchoWrite(d="and on")).r == "and on"
