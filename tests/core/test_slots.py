"""The bundle slots as a state machine: the device always runs the bundle that it should."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Any

from core.device import IMAGE, NEST, WRITE, Device, Geometry, PowerCutError, SmpError
from core.power_cuts import power_on
from core.updates import bundle_hash, running, send_file, send_sections, version
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

versions = st.integers(1, 3)


class Slots(RuleBasedStateMachine):
    """A model of what runs now, what runs after a reset, and what the other slot holds."""

    device: Device

    def __init__(self) -> None:
        super().__init__()
        self.device = Device()
        self.device.make(Geometry())
        self.active: int | None = None
        self.now: int | None = None  # runs
        self.idle: int | None = None  # complete in the other slot
        self.pending = False  # the other slot is tried at the next reset
        self.cut: int | None = None

    def teardown(self) -> None:
        self.device.close()

    def on_trial(self) -> bool:
        return self.now is not None and self.now != self.active

    @rule(number=versions, pushed=st.booleans())
    def send(self, number: int, pushed: bool) -> None:
        """An update comes in completely, and is not tried."""
        if number == self.active:
            return  # nobody sends what is there
        data = version(number)
        try:
            if pushed:
                send_sections(self.device, data)
                # Complete, but only the commit checks it.
                self.idle = None
            else:
                send_file(self.device, data)
                self.idle = number
            # A file that is on the device already is not taken a second time.
            self.pending = self.pending and not self.on_trial() and self._still_pending()
        except SmpError as error:
            assert self.on_trial() or "hash" in str(error), error

    def _still_pending(self) -> bool:
        return 3 in self.device.status().states

    @rule(number=versions)
    def commit(self, number: int) -> None:
        """Push, try at once."""
        if number == self.active:
            return
        try:
            send_sections(self.device, version(number))
            self.device.request(WRITE, NEST, 14)
        except SmpError:
            assert self.on_trial()
            return
        self.now, self.idle, self.pending = number, number, False

    @precondition(lambda self: self.idle is not None and not self.on_trial())
    @rule()
    def test(self) -> None:
        """The complete bundle shall be tried at the next reset."""
        assert self.idle is not None
        if self.idle == self.active:
            return
        self.device.request(WRITE, IMAGE, 0, {"hash": bundle_hash(version(self.idle))})
        self.pending = True

    @precondition(lambda self: self.now is not None)
    @rule()
    def confirm(self) -> None:
        """What runs shall stay."""
        before = self.active
        trial = self.on_trial()
        self.device.request(WRITE, IMAGE, 0, {"confirm": True})
        if trial:
            self.active, self.idle, self.pending = self.now, before, False

    @rule()
    def reset(self) -> None:
        """Off and on."""
        self.device.start()
        if self.pending:
            self.now, self.pending = self.idle, False
        else:
            self.now = self.active

    @rule(operations=st.integers(1, 120), kind=st.integers(0, 2), number=versions)
    def cut_update(self, operations: int, kind: int, number: int) -> None:
        """The power fails in the midst of an update; the old bundle stays, or the new one."""
        if number == self.active:
            return
        before = (self.active, self.idle)
        self.device.cut(operations, kind)
        with suppress(PowerCutError, SmpError):
            send_file(self.device, version(number))
        self.device.cut(0)
        power_on(self.device)
        hashes: dict[Any, int] = {version(known): known for known in (1, 2, 3)}
        data = running(self.device)
        self.now = hashes[data] if data is not None else None
        assert self.now in before
        # What the slots hold now is asked for, not guessed.
        self.active, self.pending = self._confirmed(), False
        complete = [image for image in self._images() if not image["confirmed"]]
        self.idle = self._number(complete[0]["hash"]) if complete else None

    def _images(self) -> list[dict[str, Any]]:
        return list(self.device.request(0, IMAGE, 0)["images"])

    def _confirmed(self) -> int | None:
        found = [image for image in self._images() if image["confirmed"]]
        return self._number(found[0]["hash"]) if found else None

    @staticmethod
    def _number(digest: bytes) -> int:
        return {bundle_hash(version(number)): number for number in (1, 2, 3)}[digest]

    @invariant()
    def runs_what_it_should(self) -> None:
        expected = None if self.now is None else version(self.now)
        data = running(self.device)
        assert data == expected, hashlib.sha256(data or b"").hexdigest()


Slots.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestSlots = Slots.TestCase
