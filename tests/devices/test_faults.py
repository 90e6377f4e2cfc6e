"""A bad line: what is lost or damaged is asked for again, and no wrong result is accepted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from devices.conftest import OpenDevice
from devices.subjects import Subject, check, make_subject
from devices.test_push import runs

from nestling_devices import Faults, LinkError, open_device

FRAMES = 10_000
BAD_LINE = Faults(flip=5e-5, drop=5e-5, double=5e-5, seed=20)


def test_ten_thousand_frames_over_a_bad_line_bring_no_wrong_result(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    subject = make_subject("xnnpack", tmp_path_factory.mktemp("bundles"), 0.0)
    cases = [
        (path, inputs, subject.expected(subject.bundle, path, inputs))
        for path in subject.paths
        for inputs in (subject.inputs(seed) for seed in range(20))
    ]
    rng = np.random.default_rng(0)
    device = open_device(
        "host",
        folder=tmp_path,
        slot_bytes=1 << 20,
        threads=1,
        timeout_s=0.02,
        tries=40,
        faults=BAD_LINE,
    )
    frames = 0
    with device:
        device.push(subject.bundle, confirm=True)
        while frames < FRAMES:
            path, inputs, wanted = cases[rng.integers(len(cases))]
            device.select(path)
            check(subject, device.run(**inputs), wanted)
            frames += 4
        counted = device.telemetry()
        assert counted.frames + counted.bad_frames > FRAMES
        assert counted.bad_frames > FRAMES / 200
        assert device.client.retries > FRAMES / 50


def test_a_push_over_a_bad_line_completes(open_fresh: OpenDevice, subject: Subject) -> None:
    faults = Faults(flip=5e-5, drop=5e-5, double=5e-5, seed=4)
    device = open_fresh(faults=faults, timeout_s=0.5, tries=20)
    device.push(subject.update, confirm=True)
    runs(device, subject, subject.update)
    assert device.client.retries > 0


def test_a_hopeless_line_says_so_and_does_not_hang(
    open_fresh: OpenDevice, subject: Subject
) -> None:
    device = open_fresh(timeout_s=0.5, connect_s=1.0)
    device.power_cut()
    device.set_faults(Faults(drop=0.3, seed=1))
    with pytest.raises(LinkError, match="does not answer"):
        device.open()
    device.set_faults(None)
    device.open()
    runs(device, subject, subject.bundle)


def test_slow_reads_change_nothing(open_fresh: OpenDevice, subject: Subject) -> None:
    device = open_fresh(faults=Faults(read_delay_s=0.002, read_limit=100))
    runs(device, subject, subject.bundle)
    assert device.client.retries == 0
