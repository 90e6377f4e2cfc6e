"""smpclient from PyPI, unchanged, against the server: over a pseudo-terminal as over any port."""

from __future__ import annotations

import asyncio
import os
import threading
import tty
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from core.device import ACTIVE, COMPLETE, Device
from core.updates import bundle_hash, running, version
from smpclient import SMPClient
from smpclient.generics import error_v1, success
from smpclient.requests.image_management import ImageErase, ImageStatesRead, ImageStatesWrite
from smpclient.requests.os_management import EchoWrite, MCUMgrParametersRead, ResetWrite
from smpclient.requests.statistics_management import GroupData, ListOfGroups
from smpclient.transport.serial import SMPSerialTransport

STOP = b"\0stop\0"


@contextmanager
def terminal(device: Device) -> Iterator[str]:
    """The device's line as a pseudo-terminal; yields its path."""
    ours, theirs = os.openpty()
    tty.setraw(theirs)

    def carry() -> None:
        while True:
            data = os.read(ours, 4096)
            if data == STOP:
                return
            os.write(ours, device.line(data))

    thread = threading.Thread(target=carry)
    thread.start()
    try:
        yield os.ttyname(theirs)
    finally:
        os.write(theirs, STOP)
        thread.join(timeout=10)
        for descriptor in (ours, theirs):
            os.close(descriptor)


def talk(device: Device, what: Callable[[SMPClient], Awaitable[Any]]) -> Any:
    """Connect and talk."""

    async def session(path: str) -> Any:
        async with SMPClient(SMPSerialTransport(), path, timeout_s=10) as client:
            return await what(client)

    with terminal(device) as path:
        return asyncio.run(session(path))


def test_echo_parameters_and_reset(device: Device) -> None:
    async def what(client: SMPClient) -> None:
        echo = await client.request(EchoWrite(d="Grüße"))
        assert success(echo) and echo.r == "Grüße"
        parameters = await client.request(MCUMgrParametersRead())
        assert success(parameters) and parameters.buf_size == 2048
        assert success(await client.request(ResetWrite()))

    talk(device, what)
    assert device.status().resets == 1


def test_statistics(device: Device) -> None:
    async def what(client: SMPClient) -> None:
        groups = await client.request(ListOfGroups())
        assert success(groups) and groups.stat_list == ("nestling", "line", "flash")
        flash = await client.request(GroupData(name="flash"))
        assert success(flash) and flash.fields["programs"] > 0
        missing = await client.request(GroupData(name="nothing"))
        assert error_v1(missing) and missing.rc == 5

    talk(device, what)


def test_an_image_is_uploaded_tried_and_confirmed(device: Device) -> None:
    data = version(1)

    async def upload(client: SMPClient) -> None:
        offsets = [offset async for offset in client.upload(data)]
        assert offsets[-1] == len(data) and offsets == sorted(offsets)
        states = await client.request(ImageStatesRead())
        assert success(states) and len(states.images) == 1
        image = states.images[0]
        assert image.hash == bundle_hash(data) and image.version == "version 1"
        assert not image.active and not image.pending
        states = await client.request(ImageStatesWrite(hash=bundle_hash(data)))
        assert success(states) and states.images[0].pending
        assert success(await client.request(ResetWrite()))

    async def confirm(client: SMPClient) -> None:
        states = await client.request(ImageStatesRead())
        assert success(states)
        assert states.images[0].active and not states.images[0].confirmed
        states = await client.request(ImageStatesWrite(confirm=True))
        assert success(states) and states.images[0].confirmed

    talk(device, upload)
    device.start()
    assert running(device) == data
    talk(device, confirm)
    device.start()
    assert device.status().states[0] == ACTIVE


def test_an_upload_goes_on_where_a_reset_stopped_it(device: Device) -> None:
    data = version(1)

    async def part(client: SMPClient) -> None:
        async for offset in client.upload(data):
            if offset > len(data) // 2:
                return

    async def rest(client: SMPClient) -> list[int]:
        return [offset async for offset in client.upload(data)]

    talk(device, part)
    device.start()
    offsets = talk(device, rest)
    assert offsets[0] > len(data) // 3
    assert device.status().states[0] == COMPLETE


def test_errors_carry_a_reason(device: Device) -> None:
    async def what(client: SMPClient) -> None:
        refused = await client.request(ImageStatesWrite(hash=b"\1" * 32))
        assert error_v1(refused) and refused.rsn and "no slot holds" in refused.rsn
        erased = await client.request(ImageErase(slot=9))
        assert error_v1(erased) and erased.rsn and "no such slot" in erased.rsn

    talk(device, what)
