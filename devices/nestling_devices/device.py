"""A device: push a bundle to it, select a path, run, look at it, cut its power.

    with open_device("m55") as device:
        device.push("digits.nest")
        device.select("tiny")
        logits = device.run(image=image)["logits"]
        device.select("full")

The same for every kind of device (`nestling_devices.registry`); all go through one SMP client.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import Self

import numpy.typing as npt
from smpclient.requests.image_management import ImageErase, ImageStatesRead, ImageStatesWrite
from smpclient.requests.os_management import ResetWrite
from smpclient.requests.statistics_management import GroupData, ListOfGroups

from nestling_devices import messages
from nestling_devices.client import (
    DEFAULT_CONNECT_S,
    DEFAULT_TIMEOUT_S,
    DEFAULT_TRIES,
    Client,
)
from nestling_devices.errors import DeviceError, LinkError, NoAnswerError
from nestling_devices.faults import Faults, FaultyLine
from nestling_devices.line import Line
from nestling_devices.machine import Machine
from nestling_devices.pipe import CUTS
from nestling_devices.push import BundleFile, Progress, Push, PushReport
from nestling_devices.reports import (
    DeviceInfo,
    Residency,
    RunReport,
    Selection,
    SlotState,
    Telemetry,
    report_from,
)
from nestling_devices.tensors import Tensors
from nestling_runtime.bundle import Slot
from nestling_runtime.closing import Closing
from nestling_runtime.errors import PathError, SignatureError
from nestling_runtime.session import Array

COMMIT_PATIENCE_S = 120.0
RUN_PATIENCE_S = 60.0
SELECT_PATIENCE_S = 60.0


class Device(Closing):
    """A device of any kind. A context manager; `nestling_devices.open_device` makes it.

    Args:
        kind: What `open_device` was given.
        machine: What stands behind it; closed with the device.
        faults: What goes wrong on its line; None for nothing.
        timeout_s: Of one try of a short request.
        tries: How often a request is sent before it fails.
        connect_s: How long `open` waits for the first answer.

    Attributes:
        kind: As above.
        last_run: Of the last `run`; None before.
    """

    def __init__(
        self,
        kind: str,
        machine: Machine,
        *,
        faults: Faults | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        tries: int = DEFAULT_TRIES,
        connect_s: float = DEFAULT_CONNECT_S,
    ) -> None:
        self.kind = kind
        self.last_run: RunReport | None = None
        self._machine = machine
        self._faults = faults
        self._timeout_s = timeout_s
        self._tries = tries
        self._connect_s = connect_s
        self._client: Client | None = None
        self._info: DeviceInfo | None = None
        self._tensors: Tensors | None = None

    # ---- power and line

    def open(self) -> Self:
        """Switch it on and connect; does nothing while it is open.

        Raises:
            ToolError: Something that it needs is missing.
            LinkError: It does not answer.
        """
        if self._client is None:
            self._machine.start()
            self._client = Client(
                self._open_line,
                timeout_s=self._timeout_s,
                tries=self._tries,
                connect_s=self._connect_s,
            )
        return self

    @property
    def client(self) -> Client:
        """The connection, for messages that have no method here.

        Raises:
            LinkError: The device is not open.
        """
        if self._client is None:
            raise LinkError("the device is not open")
        return self._client

    @property
    def machine(self) -> Machine:
        """What stands behind it, for tests that look inside."""
        return self._machine

    @property
    def line(self) -> Line:
        """The line, with its counters.

        Raises:
            LinkError: The device is not open.
        """
        return self.client.line

    def cut_flash_after(self, operations: int, cut: str = "before") -> None:
        """Let the power fail in a flash operation from now on; of devices with `flash_faults`.

        Args:
            operations: 1 is the next one, 0 is never.
            cut: What is left of the operation: "before" nothing, "torn" half, "after" all of it.

        Raises:
            DeviceError: The device does not allow it.
        """
        self.client.request(messages.FaultWrite(operations=operations, cut=CUTS.index(cut)))

    def set_faults(self, faults: Faults | None) -> None:
        """Let things go wrong on the line from the next `open` on; None ends it."""
        self._faults = faults

    def power_cut(self) -> None:
        """Take its power away, at once. `open` switches it on again, with what is in its flash.

        Raises:
            DeviceError: It is a board that nobody here can switch off.
        """
        self._machine.power_cut()
        self._disconnect()

    def reset(self) -> None:
        """Let it start anew, and connect again.

        Raises:
            LinkError: It does not come back.
            NestlingError: It refuses.
        """
        # It may be gone before its answer has left.
        with contextlib.suppress(LinkError):
            self.client.request(ResetWrite(), tries=1)
        self._disconnect()
        self.open()

    def close(self) -> None:
        """Disconnect, and switch off what was started for it; may be called twice."""
        self._disconnect()
        self._machine.close()

    def __enter__(self) -> Self:
        return self.open()

    def _open_line(self, wait_s: float) -> Line:
        line = self._machine.open_line(wait_s)
        if self._faults is None:
            return line
        return FaultyLine(line, self._faults, cut=self._machine.power_cut)

    def _disconnect(self) -> None:
        client, self._client = self._client, None
        self._forget()
        if client is not None:
            client.close()

    def _forget(self) -> None:
        self._info = None
        self._tensors = None

    # ---- bundles

    def push(
        self,
        bundle: str | os.PathLike[str],
        *,
        confirm: bool = False,
        progress: Progress | None = None,
    ) -> PushReport:
        """Send a bundle: only what is not on the device; then try it, or keep it.

        A push that was broken off goes on where it stopped when it is called again.

        Args:
            bundle: The file.
            confirm: Keep it; otherwise it runs until the next reset unless it is confirmed.
            progress: Called with the bytes that are on the device and the bytes of the bundle.

        Raises:
            BundleError: The file is damaged, or the device found it so.
            SignatureError: The device wants a signature that it does not have.
            TargetError: It is built for another target.
            CancelledError: `progress` said so.
            DeviceError: It does not fit, or the flash failed.
            LinkError: The line is gone.
        """
        file = BundleFile(bundle)
        before = self.line.sent_bytes
        info = self.info()
        transfer = Push(self.client, file, chunk_bytes=info.chunk_bytes, progress=progress)
        transfer.send_head()
        sent = transfer.send_sections()
        slot = self._commit(file, confirm)
        self._forget()
        return PushReport(
            slot=slot,
            hash=file.hash,
            bundle_bytes=file.size_bytes,
            payload_bytes=transfer.payload_bytes,
            sections_sent=sent,
            sections=len(file.sections),
            line_bytes=self.line.sent_bytes - before,
        )

    def _commit(self, file: BundleFile, confirm: bool) -> int:
        """Commit; a second one, after an answer that was lost, finds nothing to do."""
        try:
            answer = self.client.request(
                messages.PushCommitWrite(confirm=confirm), patience_s=COMMIT_PATIENCE_S
            )
        except SignatureError:
            # Signing changes no byte of the manifest, by which the device knows an update again.
            for slot in self.slots():
                if not slot.active and not slot.confirmed and slot.hash == file.hash:
                    self.erase(slot.slot)
            raise
        except DeviceError:
            for slot in self.slots():
                if slot.active and slot.hash == file.hash and slot.confirmed >= confirm:
                    return slot.slot
            raise
        if answer.hash != file.hash:
            raise DeviceError("the device has opened another bundle than the one that was sent")
        return answer.slot

    def confirm(self) -> None:
        """Keep the bundle that is open.

        Raises:
            NestlingError: The device refuses.
        """
        self.client.request(ImageStatesWrite(confirm=True), patience_s=COMMIT_PATIENCE_S)
        self._forget()

    def revert(self) -> None:
        """Go back to the bundle that is kept, now; the one on trial is not tried again.

        Raises:
            DeviceError: There is none, or it is the one that runs.
        """
        kept = next((slot for slot in self.slots() if slot.confirmed), None)
        if kept is None or kept.hash is None:
            raise DeviceError("no bundle is confirmed: there is nothing to go back to")
        if kept.active:
            raise DeviceError("the bundle that runs is the confirmed one")
        self.client.request(
            ImageStatesWrite(hash=kept.hash, confirm=False), patience_s=COMMIT_PATIENCE_S
        )
        self._forget()

    def slots(self) -> tuple[SlotState, ...]:
        """Return the bundle slots that hold something.

        Raises:
            NestlingError: The device refuses, or does not answer.
        """
        answer = self.client.request(ImageStatesRead())
        return tuple(
            SlotState(
                slot=image.slot,
                version=image.version,
                hash=bytes(image.hash) if image.hash is not None else None,
                active=bool(image.active),
                confirmed=bool(image.confirmed),
                pending=bool(image.pending),
            )
            for image in answer.images
        )

    def erase(self, slot: int) -> None:
        """Forget the bundle of a slot that does not run.

        Raises:
            NestlingError: The device refuses.
        """
        self.client.request(ImageErase(slot=slot), patience_s=COMMIT_PATIENCE_S)

    # ---- running

    def info(self) -> DeviceInfo:
        """Return what the device is and what is open.

        Raises:
            NestlingError: It refuses, or does not answer.
        """
        if self._info is None:
            self._info = report_from(DeviceInfo, self.client.request(messages.InfoRead()))
        return self._info

    def paths(self) -> tuple[messages.PathItem, ...]:
        """Return the named paths of the open bundle, small to large.

        Raises:
            DeviceError: No bundle is open.
        """
        found: list[messages.PathItem] = []
        while True:
            answer = self.client.request(messages.PathsRead(start=len(found)))
            found.extend(answer.paths)
            if len(found) >= answer.total or not answer.paths:
                return tuple(found)

    def tensors(self) -> tuple[Slot, ...]:
        """Return the slots (inputs, outputs, state) of the open bundle.

        Raises:
            DeviceError: No bundle is open.
        """
        return self._open_tensors().slots

    def select(self, path: str | int | Sequence[int]) -> Selection:
        """Select a named path, or any legal list of stages.

        Args:
            path: Name or number of a path, or numbers of stages.

        Raises:
            PathError: There is no such path, or the list is not legal.
            BudgetError: It does not fit into the memory budget.
            NestlingError: The device refuses for another reason.
        """
        if isinstance(path, str):
            message = messages.SelectWrite(name=path)
        elif isinstance(path, int):
            message = messages.SelectWrite(path=path)
        else:
            if not path:
                raise PathError("the list of stages is empty")
            message = messages.SelectWrite(stages=tuple(int(stage) for stage in path))
        answer = self.client.request(message, patience_s=SELECT_PATIENCE_S)
        return Selection(_path_number(answer.path), answer.stages, answer.cost, answer.loaded)

    def run(self, **inputs: npt.ArrayLike) -> dict[str, Array]:
        """Run the selected path once.

        Args:
            **inputs: Arrays by slot name; inputs that are left out keep what they held.

        Returns:
            A new array for each output slot, by name.

        Raises:
            EngineError: An input is unknown, of another dtype or shape, or the engine failed.
            CancelledError: `cancel` was called.
            NestlingError: The device refuses for another reason, or does not answer.
        """
        tensors = self._open_tensors()
        for name, value in inputs.items():
            tensors.write(name, value)
        self.last_run = self._run_once(tensors.has_state)
        return tensors.outputs()

    def read(self, name: str) -> Array:
        """Return what an input, output or state slot holds.

        Raises:
            EngineError: There is no such slot, or nothing is selected.
        """
        return self._open_tensors().read(name)

    def choose(self, deadline: int) -> tuple[int, bool]:
        """Let the device's policy choose and select the largest path that meets a deadline.

        Args:
            deadline: In units of `DeviceInfo.clock`.

        Returns:
            The path's number, and whether it was another one before.

        Raises:
            NestlingError: The device refuses.
        """
        message = messages.ChooseWrite(deadline=deadline)
        answer = self.client.request(message, patience_s=SELECT_PATIENCE_S)
        return answer.path, answer.switched

    def cancel(self) -> None:
        """Cancel the run that another thread waits for, or the next one.

        Raises:
            NestlingError: The device refuses, or the line is gone.
        """
        self.client.interject(messages.CancelWrite())

    # ---- looking at it

    def residency(self) -> Residency:
        """Return what is in memory.

        Raises:
            NestlingError: The device refuses.
        """
        return report_from(Residency, self.client.request(messages.ResidencyRead()))

    def set_budget(self, budget_bytes: int) -> Residency:
        """Limit the weights in memory; 0 lifts it.

        Raises:
            BudgetError: What is selected is larger; nothing changes.
        """
        answer = self.client.request(messages.ResidencyWrite(budget=budget_bytes))
        return report_from(Residency, answer)

    def telemetry(self) -> Telemetry:
        """Return counters and sensors.

        Raises:
            NestlingError: The device refuses.
        """
        return report_from(Telemetry, self.client.request(messages.TelemetryRead()))

    def set_trace(self, on: bool) -> None:
        """Let the device count what each stage costs, or stop it.

        Raises:
            NestlingError: The device refuses.
        """
        self.client.request(messages.TraceWrite(on=on))

    def trace(self) -> tuple[messages.TraceItem, ...]:
        """Return what stages have cost while tracing was on.

        Raises:
            NestlingError: The device refuses.
        """
        found: list[messages.TraceItem] = []
        while True:
            answer = self.client.request(messages.TraceRead(start=len(found)))
            found.extend(answer.stages)
            if len(found) >= answer.total or not answer.stages:
                return tuple(found)

    def statistics(self) -> dict[str, dict[str, int]]:
        """Return the standard statistics groups, by name.

        Raises:
            NestlingError: The device refuses.
        """
        names = self.client.request(ListOfGroups()).stat_list
        return {name: self.client.request(GroupData(name=name)).fields for name in names}

    # ---- inside

    def _open_tensors(self) -> Tensors:
        if self._tensors is None:
            self._tensors = Tensors(self.client, self.info().chunk_bytes)
        return self._tensors

    def _run_once(self, has_state: bool) -> RunReport:
        """Run; a model with state must not run twice because an answer was lost."""
        message = messages.RunWrite()
        if not has_state:
            answer = self.client.request(message, patience_s=RUN_PATIENCE_S)
            return RunReport(answer.duration, answer.stages, _path_number(answer.path))
        runs = self.telemetry().runs
        for _ in range(self._tries):
            with contextlib.suppress(NoAnswerError):
                answer = self.client.request(message, tries=1)
                return RunReport(answer.duration, answer.stages, _path_number(answer.path))
            # A device that runs says that it is busy, so this waits until it has.
            seen = self.client.request(messages.TelemetryRead(), patience_s=RUN_PATIENCE_S)
            if seen.runs != runs:
                return RunReport(0, 0, None)
        raise NoAnswerError("the device does not run", actual=f"{self._tries} tries")


def _path_number(number: int) -> int | None:
    return None if number == messages.ANY_STAGES else number
