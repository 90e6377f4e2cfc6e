"""Killing the daemon at any moment is a power cut: the device starts again with a valid model."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import numpy as np
import pytest
from linux.bundles import PATHS, expected, random_image
from linux.conftest import StartDaemon
from linux.daemon import Daemon, Stock
from smpclient.requests.image_management import ImageErase, ImageStatesRead, ImageStatesWrite
from smpclient.requests.os_management import ResetWrite

from nestling_devices import messages

KILLS = 6


def running(client: Stock) -> bytes:
    """Hash of the bundle that runs."""
    digest = client.ask(messages.InfoRead()).hash
    assert digest is not None
    return digest


def confirmed(client: Stock) -> bytes:
    """Hash of the bundle that stays."""
    (image,) = (image for image in client.ask(ImageStatesRead()).images if image.confirmed)
    assert image.hash is not None
    return bytes(image.hash)


def check_answers(client: Stock, bundle: Path, seed: int) -> None:
    """The paths of what runs compute what they should."""
    image = random_image(seed)
    for path in PATHS:
        np.testing.assert_allclose(
            client.infer(path, image), expected(bundle, path, image), rtol=0, atol=1e-5
        )


def install(client: Stock, bundle: Path) -> bytes:
    """Make a bundle the one that stays; return its hash."""
    client.upload(bundle.read_bytes())
    digest = client.hash_of_upload()
    client.ask(ImageStatesWrite(hash=digest, confirm=True))
    client.ask(ResetWrite())
    assert running(client) == digest
    return digest


def test_two_updates_and_a_revert(start: StartDaemon, bundle: Path, update: Path) -> None:
    with start() as daemon, Stock(daemon.url) as client:
        old = install(client, bundle)
        check_answers(client, bundle, 0)
        # The first update is tried, not confirmed, and gone after the next reset.
        client.upload(update.read_bytes())
        new = client.hash_of_upload()
        client.ask(ImageStatesWrite(hash=new, confirm=False))
        client.ask(ResetWrite())
        assert (running(client), confirmed(client)) == (new, old)
        check_answers(client, update, 1)
        client.ask(ResetWrite())
        assert (running(client), confirmed(client)) == (old, old)
        check_answers(client, bundle, 2)
        # The second one is confirmed while it runs, and stays.
        client.ask(ImageStatesWrite(hash=new, confirm=False))
        client.ask(ResetWrite())
        client.ask(ImageStatesWrite(confirm=True))
    with start() as daemon, Stock(daemon.url) as client:
        assert (running(client), confirmed(client)) == (new, new)
        check_answers(client, update, 3)


def test_an_upload_goes_on_after_a_kill(start: StartDaemon, bundle: Path) -> None:
    data = bundle.read_bytes()
    with start("--tcp", "--message-bytes", "1024") as daemon:
        client = Stock(daemon.url)
        killer = Killer(daemon, after_bytes=len(data) // 2)
        killer.upload(client, data)
        daemon.kill()
    with start("--tcp", "--message-bytes", "1024") as daemon, Stock(daemon.url) as client:
        assert client.upload(data) >= len(data) // 4


def test_killed_at_random_moments_of_an_update(
    start: StartDaemon, bundle: Path, update: Path
) -> None:
    chance = random.Random(3)
    bundles = {}
    with start() as daemon, Stock(daemon.url) as client:
        bundles[install(client, bundle)] = bundle
        client.upload(update.read_bytes())
        bundles[client.hash_of_upload()] = update
    for kill in range(KILLS):
        with start("--tcp", "--message-bytes", "2048") as daemon:
            client = Stock(daemon.url)
            stays = confirmed(client)
            assert running(client) == stays
            (other,) = (digest for digest in bundles if digest != stays)
            killer = Killer(daemon, after_s=chance.uniform(0.0, 0.6))
            killer.install(client, bundles[other].read_bytes(), other)
            daemon.kill()
        with start() as daemon, Stock(daemon.url) as client:
            now = running(client)
            # Confirmed is confirmed, and nothing else has changed anything.
            assert now in ((other,) if killer.was_confirmed else (stays, other))
            check_answers(client, bundles[now], kill)
            client.ask(ResetWrite())
            assert running(client) == confirmed(client)


def test_cut_inside_of_a_flash_operation(start: StartDaemon, bundle: Path, update: Path) -> None:
    chance = random.Random(4)
    with start() as daemon, Stock(daemon.url) as client:
        old = install(client, bundle)
    for cut in range(3):
        with start("--tcp", "--faults") as daemon:
            client = Stock(daemon.url)
            client.ask(messages.FaultWrite(operations=chance.randrange(1, 50), cut=cut))
            with pytest.raises(Exception):  # noqa: B017 - whatever a dead line brings
                client.upload(update.read_bytes())
            assert daemon.wait() == -9
        with start() as daemon, Stock(daemon.url) as client:
            assert running(client) == old
            check_answers(client, bundle, cut)
            client.ask(ImageErase(slot=1))  # the next round begins afresh


class Killer:
    """Kills a daemon while a client is at work, after some time or bytes.

    Args:
        daemon: Whose power is cut.
        after_s: How long from now.
        after_bytes: Or after this much of an upload.

    Attributes:
        was_confirmed: `install` came through, answer and all.
    """

    def __init__(
        self, daemon: Daemon, *, after_s: float | None = None, after_bytes: int | None = None
    ) -> None:
        self.was_confirmed = False
        self._daemon = daemon
        self._after_bytes = after_bytes
        if after_s is not None:
            self._timer = threading.Timer(after_s, daemon.kill)
            self._timer.start()

    def upload(self, client: Stock, data: bytes) -> None:
        """Upload until the kill."""
        with pytest.raises(Exception):  # noqa: B017 - whatever a dead line brings
            client.upload(data, seen=self._look)

    def install(self, client: Stock, data: bytes, digest: bytes) -> None:
        """Upload and confirm, or as much of it as there is time for."""
        try:
            client.upload(data)
            client.ask(ImageStatesWrite(hash=digest, confirm=True))
            self.was_confirmed = True
        except Exception:  # whatever a dead line brings
            pass
        self._timer.join()

    def _look(self, offset: int) -> None:
        if self._after_bytes is not None and offset >= self._after_bytes:
            self._daemon.kill()
