"""Pushing: what is on the wire, what survives a cut, what a trial is."""

from __future__ import annotations

from pathlib import Path

import pytest
from devices.conftest import OpenDevice
from devices.subjects import Subject, check

from nestling_devices import Device, Faults, LinkError
from nestling_devices.errors import DeviceError
from nestling_runtime.bundle import Bundle
from nestling_runtime.errors import CancelledError


def runs(device: Device, subject: Subject, bundle: Path) -> None:
    """Every path of a bundle gives the oracle's outputs."""
    for seed, path in enumerate(subject.paths):
        inputs = subject.inputs(seed)
        device.select(path)
        check(subject, device.run(**inputs), subject.expected(bundle, path, inputs))


def hash_of(bundle: Path) -> bytes:
    return bundle.read_bytes()[32:64]


def test_a_bundle_arrives_whole_and_progress_tells_how_far(
    open_fresh: OpenDevice, subject: Subject
) -> None:
    device = open_fresh(blank=True)
    assert device.info().bundle is None
    assert device.slots() == ()
    told: list[tuple[int, int]] = []
    report = device.push(subject.bundle, progress=lambda *pair: told.append(pair))
    size = subject.bundle.stat().st_size
    assert told == sorted(told)
    assert told[0][0] < size
    assert told[-1] == (size, size)
    assert report.bundle_bytes == size
    assert report.sections_sent == report.sections
    assert report.hash == hash_of(subject.bundle) == device.info().hash
    runs(device, subject, subject.bundle)


def test_only_the_blob_that_differs_goes_over_the_wire(device: Device, subject: Subject) -> None:
    with Bundle.open(subject.bundle) as old, Bundle.open(subject.update) as new:
        known = {section.sha256 for section in old.sections}
        changed = [section for section in new.sections if section.sha256 not in known]
        head = 64 + new.manifest_bytes
    assert len(changed) == 1
    report = device.push(subject.update)
    assert report.sections_sent == 1
    assert report.payload_bytes == head + changed[0].size_bytes
    # Base64, lines, message headers; every message once.
    assert report.line_bytes < 1.5 * report.payload_bytes + 2000
    runs(device, subject, subject.update)


def test_the_same_bundle_again_costs_its_head(device: Device, subject: Subject) -> None:
    report = device.push(subject.bundle)
    assert report.sections_sent == 0
    assert report.payload_bytes < subject.bundle.stat().st_size / 4
    runs(device, subject, subject.bundle)


def test_a_trial_ends_with_a_reset_unless_it_is_confirmed(device: Device, subject: Subject) -> None:
    device.push(subject.update)
    assert device.info().hash == hash_of(subject.update)
    device.reset()
    assert device.info().hash == hash_of(subject.bundle)
    device.push(subject.update)
    device.confirm()
    device.reset()
    assert device.info().hash == hash_of(subject.update)
    runs(device, subject, subject.update)


def test_a_trial_is_not_tried_again_after_a_power_cut(device: Device, subject: Subject) -> None:
    device.push(subject.update)
    device.power_cut()
    device.open()
    assert device.info().hash == hash_of(subject.bundle)
    runs(device, subject, subject.bundle)


def test_revert_goes_back_at_once(device: Device, subject: Subject) -> None:
    device.push(subject.update)
    device.revert()
    assert device.info().hash == hash_of(subject.bundle)
    runs(device, subject, subject.bundle)
    with pytest.raises(DeviceError, match="confirmed"):
        device.revert()


def test_confirmed_updates_alternate_between_the_slots(device: Device, subject: Subject) -> None:
    slots = []
    for bundle in (subject.update, subject.bundle, subject.update):
        slots.append(device.push(bundle, confirm=True).slot)
        runs(device, subject, bundle)
    assert slots[0] == slots[2] != slots[1]
    assert [slot.confirmed for slot in device.slots() if slot.active] == [True]


def test_the_old_bundle_runs_while_the_new_one_comes_in(device: Device, subject: Subject) -> None:
    seen: list[int] = []

    def progress(done: int, total: int) -> None:
        if not seen and done > total / 2:
            inputs = subject.inputs(1)
            device.select(subject.paths[-1])
            found = device.run(**inputs)
            check(subject, found, subject.expected(subject.bundle, subject.paths[-1], inputs))
            seen.append(done)

    device.push(subject.update, progress=progress)
    assert seen
    runs(device, subject, subject.update)


def test_a_cancelled_push_goes_on_where_it_stopped(
    open_fresh: OpenDevice, subject: Subject
) -> None:
    device = open_fresh(blank=True)
    size = subject.bundle.stat().st_size
    with pytest.raises(CancelledError, match="push"):
        device.push(subject.bundle, progress=lambda done, total: done > total * 0.7)
    assert device.info().bundle is None
    report = device.push(subject.bundle)
    assert report.payload_bytes < size * 0.6
    runs(device, subject, subject.bundle)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9])
def test_a_push_goes_on_after_a_power_cut(
    open_fresh: OpenDevice, subject: Subject, share: float
) -> None:
    with Bundle.open(subject.bundle) as bundle:
        payload = sum(section.size_bytes for section in bundle.sections) + bundle.manifest_bytes
    device = open_fresh(blank=True, faults=Faults(cut_after_bytes=int(payload * share * 4 / 3)))
    with pytest.raises(LinkError):
        device.push(subject.bundle)
    device.set_faults(None)
    device.power_cut()
    device.open()
    report = device.push(subject.bundle, confirm=True)
    # What is lost is a sector of each piece that was being written.
    assert report.payload_bytes < payload * (1.0 - share) + 3 * 16384
    runs(device, subject, subject.bundle)


def test_an_update_that_was_cut_leaves_the_old_bundle(
    open_fresh: OpenDevice, subject: Subject
) -> None:
    device = open_fresh(faults=Faults(cut_after_bytes=4000))
    with pytest.raises(LinkError):
        device.push(subject.update)
    device.set_faults(None)
    device.power_cut()
    device.open()
    assert device.info().hash == hash_of(subject.bundle)
    runs(device, subject, subject.bundle)
    device.push(subject.update)
    runs(device, subject, subject.update)


@pytest.mark.parametrize(
    ("operations", "cut"), [(1, "before"), (2, "torn"), (6, "after"), (25, "torn"), (40, "before")]
)
def test_a_cut_inside_of_a_flash_operation_loses_no_model(
    open_fresh: OpenDevice, subject: Subject, operations: int, cut: str
) -> None:
    device = open_fresh(flash_faults=True, timeout_s=0.3, tries=2)
    device.cut_flash_after(operations, cut)
    with pytest.raises(LinkError):
        device.push(subject.update, confirm=True)
    device.power_cut()
    device.open()
    assert device.info().hash in (hash_of(subject.bundle), hash_of(subject.update))
    runs(
        device,
        subject,
        subject.bundle if device.info().hash == hash_of(subject.bundle) else subject.update,
    )
    device.push(subject.update, confirm=True)
    device.reset()
    runs(device, subject, subject.update)


def test_an_erased_slot_is_empty(device: Device, subject: Subject) -> None:
    slot = device.push(subject.update).slot
    device.revert()
    assert len(device.slots()) == 2
    device.erase(slot)
    assert [s.hash for s in device.slots()] == [hash_of(subject.bundle)]
    runs(device, subject, subject.bundle)
