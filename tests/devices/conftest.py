"""Devices for the suite: each kind once with a bundle, and fresh ones for tests that change it.

Emulators listen on ports of their own and are ended by their own process handles.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from devices.subjects import Subject, make_subject

from nestling_devices import Device, open_device

KINDS = ("host", "arm64", "m55", "sim:phone-mid")
TARGETS = {
    "host": "xnnpack",
    "arm64": "xnnpack",
    "m55": "cortex-m55",
    "sim:phone-mid": "xnnpack",
}
# fp32 on another processor adds up in another order; everything else is the oracle's bytes.
TOLERANCES = {"host": 0.0, "arm64": 1e-5, "m55": 0.0, "sim:phone-mid": 0.0}
SLOT_BYTES = 1 << 20

OpenDevice = Callable[..., Device]


@pytest.fixture(scope="session", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """The name of the device that a test runs on."""
    return str(request.param)


@pytest.fixture(scope="session")
def subject(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    """The bundles for it."""
    folder = tmp_path_factory.mktemp(f"bundles-{kind}")
    made = make_subject(TARGETS[kind], folder, TOLERANCES[kind])
    yield made
    made.close()


@pytest.fixture(scope="session")
def prepared(kind: str, subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a device that keeps the subject's bundle, and is off."""
    folder = tmp_path_factory.mktemp(f"prepared-{kind}")
    with open_device(kind, folder=folder, slot_bytes=SLOT_BYTES, threads=1) as device:
        device.push(subject.bundle, confirm=True)
    return folder


@pytest.fixture(scope="session")
def shared(kind: str, prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    """A device with the bundle, for tests that leave its flash alone."""
    folder = _copy(prepared, tmp_path_factory.mktemp(f"shared-{kind}"))
    with open_device(kind, folder=folder, threads=1) as device:
        yield device


@pytest.fixture
def open_fresh(kind: str, prepared: Path, tmp_path: Path) -> Iterator[OpenDevice]:
    """Opens devices of this test's own: with the bundle, or `blank=True` without."""
    devices: list[Device] = []

    def open_one(*, blank: bool = False, **options: Any) -> Device:
        folder = tmp_path / f"device{len(devices)}"
        folder.mkdir()
        if blank:
            options.setdefault("slot_bytes", SLOT_BYTES)
        else:
            _copy(prepared, folder)
        device = open_device(kind, folder=folder, threads=1, **options)
        devices.append(device)
        return device

    yield open_one
    for device in devices:
        device.close()


@pytest.fixture
def device(open_fresh: OpenDevice) -> Device:
    """A device of this test's own, with the bundle."""
    return open_fresh()


def _copy(source: Path, target: Path) -> Path:
    """Copy a device's folder; flash files have holes, which stay holes."""
    subprocess.run(["cp", "-r", "--sparse=always", f"{source}/.", str(target)], check=True)
    return target
