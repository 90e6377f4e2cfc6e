"""The power fails in every operation of an update, one by one, and in random pairs."""

from __future__ import annotations

import pytest
from core.device import Device, Geometry, PowerCutError
from core.power_cuts import KINDS, power_on, sweep
from core.updates import UPDATES, push, running, version


@pytest.mark.slow
@pytest.mark.parametrize("name", UPDATES)
def test_no_cut_leaves_a_device_without_the_old_or_the_new_model(name: str) -> None:
    counts = sweep(UPDATES[name], pairs=60)
    assert counts.operations > 200
    assert counts.cuts >= 3 * counts.operations
    assert counts.failures == 0


def test_other_geometries_survive_too() -> None:
    for geometry in (Geometry(512 << 10, 16384, 4096), Geometry(320 << 10, 512, 128)):
        counts = sweep(push, geometry, stride=23, pairs=5)
        assert counts.cuts > 0
        assert counts.failures == 0


def test_the_first_bundle_comes_through_every_cut(device: Device) -> None:
    """Before there is a first model, there is none to keep, and never half a one."""
    for operation in range(1, 300, 9):
        for kind in KINDS:
            device.make(Geometry())
            device.cut(operation, kind)
            try:
                push(device, version(1))
            except PowerCutError:
                power_on(device)
                assert running(device) in (None, version(1))
                device.cut(0)
                push(device, version(1))
            device.start()
            assert running(device) == version(1)
