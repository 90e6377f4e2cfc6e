"""The messages of group 64, nestling's own, as `firmware/core/smp.cddl` describes them.

One class a message, made of `smp`'s classes as those of the standard groups are, so that
`smpclient` sends and checks them. Answers may carry members that a later firmware adds.
"""

from __future__ import annotations

from dataclasses import dataclass

import cbor2
from pydantic import ConfigDict, Field
from smp import error, header, message

from nestling_devices.errors import NESTLING_GROUP as GROUP
from nestling_devices.errors import Code

ANY_STAGES = 0xFFFF_FFFF
"""What `SelectAnswer.path` is for a list of stages that is no named path."""


_OPEN = ConfigDict(extra="ignore", frozen=True)
_CLOSED = ConfigDict(extra="forbid", frozen=True, serialize_by_alias=True)


class _ReadAnswer(message.ReadResponse):
    """What a device says to a read when all went well."""

    model_config = _OPEN
    _GROUP_ID = GROUP


class _WriteAnswer(message.WriteResponse):
    """What a device says to a write when all went well."""

    model_config = _OPEN
    _GROUP_ID = GROUP


class ErrorV1(error.ErrorV1):
    """A refusal in the form of SMP version 1."""

    _GROUP_ID = GROUP


class ErrorV2(error.ErrorV2[Code]):
    """A refusal in the form of SMP version 2, with nestling's sentence for people."""

    model_config = _OPEN
    _GROUP_ID = GROUP

    rsn: str | None = None


class _Read(message.ReadRequest):
    """A request that changes nothing."""

    model_config = _CLOSED
    _GROUP_ID = GROUP
    _ErrorV1 = ErrorV1
    _ErrorV2 = ErrorV2


class _Write(message.WriteRequest):
    """A request that changes something."""

    model_config = _CLOSED
    _GROUP_ID = GROUP
    _ErrorV1 = ErrorV1
    _ErrorV2 = ErrorV2


class _Page(_Read):
    """A request for the entries of a list from some number on."""

    start: int | None = Field(default=None, serialization_alias="from")


class InfoAnswer(_ReadAnswer):
    """What a device is and what is open; see smp.cddl for the units."""

    _COMMAND_ID = 0

    device: str
    engine: str
    firmware: str
    targets: tuple[str, ...]
    clock: str
    slot_bytes: int
    arena_bytes: int
    chunk_bytes: int
    bundle: str | None = None
    target: str | None = None
    hash: bytes | None = None

    @classmethod
    def loads(cls, data: bytes) -> InfoAnswer:
        """Read the answer; its member "version" has a namesake in every SMP message here."""
        body = cbor2.loads(data[header.Header.SIZE :])
        if isinstance(body, dict) and "version" in body:
            body["firmware"] = body.pop("version")
        return cls(header=header.Header.loads(data[: header.Header.SIZE]), smp_data=data, **body)


class InfoRead(_Read):
    """Ask what the device is."""

    _COMMAND_ID = 0
    _Response = InfoAnswer


@dataclass(frozen=True)
class PathItem:
    """A named path as the device lists it.

    Attributes:
        name: Its name.
        macs: Multiply-accumulates of one run.
        weight_bytes: Weights that it reads.
        stages: Stages in its chain.
        cost: Smoothed duration measured on the device, in units of its clock; None before a run.
    """

    name: str
    macs: int
    weight_bytes: int
    stages: int
    cost: float | None = None


class PathsAnswer(_ReadAnswer):
    """A page of paths, small to large."""

    _COMMAND_ID = 1

    total: int
    paths: tuple[PathItem, ...]


class PathsRead(_Page):
    """Ask for named paths."""

    _COMMAND_ID = 1
    _Response = PathsAnswer


class SelectAnswer(_WriteAnswer):
    """What a switch did; `cost` in units of the device's clock."""

    _COMMAND_ID = 2

    path: int
    stages: int
    cost: int
    loaded: int = Field(validation_alias="loads")


class SelectWrite(_Write):
    """Select by number, by name, or any legal list of stages."""

    _COMMAND_ID = 2
    _Response = SelectAnswer

    path: int | None = None
    name: str | None = None
    stages: tuple[int, ...] | None = None


class RunAnswer(_WriteAnswer):
    """One run; `duration` in units of the device's clock."""

    _COMMAND_ID = 3

    duration: int
    stages: int
    path: int


class RunWrite(_Write):
    """Run what is selected."""

    _COMMAND_ID = 3
    _Response = RunAnswer


class TensorReadAnswer(_ReadAnswer):
    """A piece of a tensor; `len` is that of the whole."""

    _COMMAND_ID = 4

    off: int
    len: int
    data: bytes


class TensorRead(_Read):
    """Read a piece of a slot."""

    _COMMAND_ID = 4
    _Response = TensorReadAnswer

    slot: int
    off: int
    len: int | None = None


class TensorWriteAnswer(_WriteAnswer):
    """The offset that is expected next."""

    _COMMAND_ID = 4

    off: int
    len: int


class TensorWrite(_Write):
    """Write a piece of a slot."""

    _COMMAND_ID = 4
    _Response = TensorWriteAnswer

    slot: int
    off: int
    data: bytes


@dataclass(frozen=True)
class SlotItem:
    """A slot of the open bundle: its dtype by the bundle's name, e.g. "i8"."""

    name: str
    role: str
    dtype: str
    shape: tuple[int, ...]


class SlotsAnswer(_ReadAnswer):
    """A page of slots."""

    _COMMAND_ID = 5

    total: int
    slots: tuple[SlotItem, ...]


class SlotsRead(_Page):
    """Ask for slots."""

    _COMMAND_ID = 5
    _Response = SlotsAnswer


class ResidencyAnswer(_ReadAnswer):
    """Memory; all in bytes but for the last three. The answer to a write is the same."""

    _COMMAND_ID = 6

    arena: int
    arena_capacity: int
    resident: int
    budget: int
    stages: int
    loaded: int = Field(validation_alias="loads")
    evictions: int


class ResidencyRead(_Read):
    """Ask what is in memory."""

    _COMMAND_ID = 6
    _Response = ResidencyAnswer


class ResidencyWrite(_Write):
    """Set the budget, in bytes; 0 lifts it."""

    _COMMAND_ID = 6
    _Response = ResidencyAnswer

    budget: int


class TelemetryAnswer(_ReadAnswer):
    """Counters since the device started, and sensors that it has."""

    _COMMAND_ID = 7

    uptime_ms: int
    runs: int
    switches: int
    errors: int
    cancels: int
    frames: int
    bad_frames: int
    flash_erases: int
    flash_programs: int
    temperature_c: float | None = None
    battery: float | None = None


class TelemetryRead(_Read):
    """Ask for counters and sensors."""

    _COMMAND_ID = 7
    _Response = TelemetryAnswer


@dataclass(frozen=True)
class TraceItem:
    """One stage: `cost` over all calls in units of the clock, `resident` bytes of weights."""

    stage: int
    calls: int
    cost: int
    resident: int


class TraceAnswer(_ReadAnswer):
    """A page of stages."""

    _COMMAND_ID = 8

    total: int
    stages: tuple[TraceItem, ...]


class TraceRead(_Page):
    """Ask for what stages have cost."""

    _COMMAND_ID = 8
    _Response = TraceAnswer


class TraceWriteAnswer(_WriteAnswer):
    """Whether tracing is on."""

    _COMMAND_ID = 8

    on: bool


class TraceWrite(_Write):
    """Turn tracing on or off."""

    _COMMAND_ID = 8
    _Response = TraceWriteAnswer

    on: bool


class ChooseAnswer(_WriteAnswer):
    """What the policy chose."""

    _COMMAND_ID = 9

    path: int
    switched: bool


class ChooseWrite(_Write):
    """Let the policy choose for a deadline, in units of the clock."""

    _COMMAND_ID = 9
    _Response = ChooseAnswer

    deadline: int


class CancelAnswer(_WriteAnswer):
    """Nothing to say."""

    _COMMAND_ID = 10


class CancelWrite(_Write):
    """Cancel the run in progress, or the next one."""

    _COMMAND_ID = 10
    _Response = CancelAnswer


class PushHeadAnswer(_WriteAnswer):
    """The offset that is expected next."""

    _COMMAND_ID = 11

    off: int


class PushHeadWrite(_Write):
    """A piece of what precedes a bundle's sections; the last three only at offset 0."""

    _COMMAND_ID = 11
    _Response = PushHeadAnswer

    off: int
    data: bytes
    len: int | None = None
    total: int | None = None
    sha: bytes | None = None


@dataclass(frozen=True)
class MissingItem:
    """A section that is not on the device, or not all of it: `off` bytes are."""

    section: int
    off: int


class PushMissingAnswer(_ReadAnswer):
    """A page of sections to send; `copying` bytes are still to be copied on the device."""

    _COMMAND_ID = 12

    total: int
    copying: int
    sections: tuple[MissingItem, ...]


class PushMissingRead(_Page):
    """Ask which sections have to be sent."""

    _COMMAND_ID = 12
    _Response = PushMissingAnswer


class PushDataAnswer(_WriteAnswer):
    """The offset that is expected next."""

    _COMMAND_ID = 13

    off: int


class PushDataWrite(_Write):
    """A piece of a section."""

    _COMMAND_ID = 13
    _Response = PushDataAnswer

    section: int
    off: int
    data: bytes


class PushCommitAnswer(_WriteAnswer):
    """Where the new bundle lies, and its hash."""

    _COMMAND_ID = 14

    slot: int
    hash: bytes


class PushCommitWrite(_Write):
    """Check and open the new bundle; it stays after a reset only if it is confirmed."""

    _COMMAND_ID = 14
    _Response = PushCommitAnswer

    confirm: bool | None = None


class FaultAnswer(_WriteAnswer):
    """Nothing to say."""

    _COMMAND_ID = 15


class FaultWrite(_Write):
    """Let the power fail in the n-th flash operation from now; `cut` is before, in or after it."""

    _COMMAND_ID = 15
    _Response = FaultAnswer

    operations: int
    cut: int | None = None
