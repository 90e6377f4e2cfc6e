"""Frames on a line: what is accepted, what is asked for again. No device is needed."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from smp import header, packet

from nestling_devices import Faults, LinkError, messages
from nestling_devices.client import Client
from nestling_devices.errors import DeviceError
from nestling_devices.faults import FaultyLine
from nestling_runtime.errors import BudgetError, PathError


class ScriptedLine:
    """A line whose far end answers every request with what a script says.

    The script is given the request's header and body, and returns frames: lists of bytes that come
    in one after the other.
    """

    def __init__(self, script: object) -> None:
        self.port = "scripted"
        self.sent_bytes = 0
        self.received_bytes = 0
        self.out_waiting = 0
        self.requests: list[tuple[header.Header, dict[str, object]]] = []
        self._script = script
        self._incoming: deque[bytes] = deque()

    def read_all(self) -> bytes:
        return self._incoming.popleft() if self._incoming else b""

    def write(self, data: bytes) -> int:
        decoder = packet.decode()
        next(decoder)
        frame = b""
        for line in data.splitlines(keepends=True):
            try:
                decoder.send(line)
            except StopIteration as end:
                frame = bytes(end.value)
        head = header.Header.loads(frame[: header.Header.SIZE])
        body = cbor2.loads(frame[header.Header.SIZE :])
        self.requests.append((head, body))
        self._incoming.extend(self._script(head, body, len(self.requests)))  # type: ignore[operator]
        self.sent_bytes += len(data)
        return len(data)

    def close(self) -> None:
        pass


def answer(head: header.Header, body: Mapping[str, object], **changes: int) -> bytes:
    """Frame an answer to a request."""
    encoded = cbor2.dumps(body)
    fields = {
        "op": head.op + 1,
        "length": len(encoded),
        "group_id": head.group_id,
        "sequence": head.sequence,
        "command_id": head.command_id,
    } | changes
    made = header.Header(version=header.Version.V2, flags=header.Flag(0), **fields)  # type: ignore[arg-type]
    return b"".join(packet.encode(bytes(made) + encoded))


def parameters(head: header.Header) -> list[bytes] | None:
    """What every connection begins with."""
    if (head.group_id, head.command_id) == (0, 6):
        return [answer(head, {"buf_size": 2048, "buf_count": 1})]
    return None


def connect(script: object, **options: float) -> tuple[Client, ScriptedLine]:
    def with_parameters(head: header.Header, body: dict[str, object], count: int) -> list[bytes]:
        first = parameters(head)
        return first if first is not None else script(head, body, count)  # type: ignore[operator]

    line = ScriptedLine(with_parameters)
    client = Client(lambda wait: line, **({"timeout_s": 0.15, "tries": 3} | options))  # type: ignore[arg-type]
    return client, line


def test_pieces_of_a_frame_may_come_in_any_size() -> None:
    def script(head: header.Header, body: dict[str, object], count: int) -> list[bytes]:
        whole = b"log: hello\r\n" + answer(head, {"r": str(body["d"])}) + b"log: bye\n"
        return [whole[i : i + 3] for i in range(0, len(whole), 3)]

    client, _ = connect(script)
    with client:
        assert client.echo("x" * 500) == "x" * 500
        assert client.retries == 0


def test_a_request_without_an_answer_is_sent_again_as_it_was() -> None:
    def script(head: header.Header, body: dict[str, object], count: int) -> list[bytes]:
        return [answer(head, {"r": "yes"})] if count >= 4 else []

    client, line = connect(script)
    with client:
        assert client.echo("are you there?") == "yes"
        assert client.retries == 2
    assert len({head.sequence for head, _ in line.requests[1:]}) == 1
    assert len({bytes(head) for head, _ in line.requests[1:]}) == 1


def test_silence_is_an_error_that_says_what_was_asked() -> None:
    client, _ = connect(lambda head, body, count: [])
    with client, pytest.raises(LinkError, match=r"RunWrite.*3 tries"):
        client.request(messages.RunWrite())


@pytest.mark.parametrize(
    "changes",
    [{"sequence": 1000 % 251}, {"group_id": 65}, {"command_id": 77}, {"op": 1}],
    ids=["sequence", "group", "command", "op"],
)
def test_an_answer_to_something_else_is_left_out(changes: dict[str, int]) -> None:
    def script(head: header.Header, body: dict[str, object], count: int) -> list[bytes]:
        wrong = {"duration": 1, "stages": 1, "path": 1}
        right = {"duration": 2, "stages": 2, "path": 2}
        if changes.get("sequence") == head.sequence:
            changes["sequence"] += 1
        return [answer(head, wrong, **changes), answer(head, right)]

    client, _ = connect(script)
    with client:
        assert client.request(messages.RunWrite()).duration == 2


def test_refusals_become_the_errors_of_the_runtime() -> None:
    codes = {10: PathError, 11: BudgetError, 16: DeviceError, 200: DeviceError}
    for code, kind in codes.items():

        def script(
            head: header.Header, body: dict[str, object], count: int, code: int = code
        ) -> list[bytes]:
            return [answer(head, {"err": {"group": 64, "rc": code}, "rsn": "because of it"})]

        client, line = connect(script)
        with client, pytest.raises(kind, match="because of it"):
            client.request(messages.RunWrite())
        assert len(line.requests) == 2  # a refusal is an answer: nothing is sent again


def test_a_busy_device_is_waited_for() -> None:
    def script(head: header.Header, body: dict[str, object], count: int) -> list[bytes]:
        return [answer(head, {"rc": 10} if count < 3 else {"r": "done"})]

    client, _ = connect(script)
    with client:
        assert client.echo("") == "done"


def test_members_of_a_later_firmware_are_ignored() -> None:
    def script(head: header.Header, body: dict[str, object], count: int) -> list[bytes]:
        return [answer(head, {"duration": 3, "stages": 1, "path": 0, "mood": "good"})]

    client, _ = connect(script)
    with client:
        assert client.request(messages.RunWrite()).duration == 3


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["flip", "drop", "double", "cut"]),
    share=st.floats(0, 1, exclude_max=True),
    bit=st.integers(0, 7),
)
def test_a_damaged_answer_is_never_taken_for_a_right_one(kind: str, share: float, bit: int) -> None:
    def script(head: header.Header, body: dict[str, object], count: int) -> list[bytes]:
        whole = bytearray(answer(head, {"duration": 123456, "stages": 7, "path": 3}))
        if count == 2:
            place = int(share * len(whole))
            if kind == "flip":
                whole[place] ^= 1 << bit
            elif kind == "drop":
                del whole[place]
            elif kind == "double":
                whole.insert(place, whole[place])
            else:
                del whole[place:]
        return [bytes(whole)]

    client, _ = connect(script, timeout_s=0.05)
    with client:
        found = client.request(messages.RunWrite())
        assert (found.duration, found.stages, found.path) == (123456, 7, 3)


def test_faults_are_what_was_asked_for_and_the_same_every_time() -> None:
    class Sink(ScriptedLine):
        def __init__(self) -> None:
            super().__init__(None)
            self.data = b""

        def write(self, data: bytes) -> int:
            self.data += data
            return len(data)

    original = bytes(random.Random(1).randbytes(20_000))
    runs = []
    for _ in range(2):
        sink = Sink()
        line = FaultyLine(sink, Faults(flip=0.01, drop=0.02, double=0.03, seed=5))
        line.write(original)
        runs.append((sink.data, line.damaged_bytes))
    assert runs[0] == runs[1]
    assert 0.05 < runs[0][1] / len(original) < 0.07
    assert 0.005 < (len(runs[0][0]) - len(original)) / len(original) < 0.015


def test_slow_reads_come_in_pieces() -> None:
    def script(head: header.Header, body: dict[str, object], count: int) -> list[bytes]:
        return [answer(head, {"r": str(body["d"])})]

    def with_parameters(head: header.Header, body: dict[str, object], count: int) -> list[bytes]:
        return parameters(head) or script(head, body, count)

    line = FaultyLine(ScriptedLine(with_parameters), Faults(read_delay_s=0.001, read_limit=5))
    with Client(lambda wait: line) as client:
        assert client.echo("slow") == "slow"
        assert client.retries == 0


def test_the_power_is_cut_at_the_byte_that_was_asked_for() -> None:
    cuts = []
    inner = ScriptedLine(lambda head, body, count: [])
    written: list[bytes] = []
    inner.write = lambda data: written.append(data) or len(data)  # type: ignore[method-assign,func-returns-value]
    line = FaultyLine(inner, Faults(cut_after_bytes=25), cut=lambda: cuts.append(1))
    for _ in range(4):
        line.write(b"0123456789")
    assert b"".join(written)[:25] == b"0123456789" * 2 + b"01234"
    assert cuts == [1]
