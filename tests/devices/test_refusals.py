"""Bad input over the wire: an error with a reason, and the model that runs goes on running."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import cbor2
import pytest
from devices.conftest import OpenDevice
from devices.subjects import Subject, check, upload_whole
from devices.test_push import hash_of, runs
from smp import header, message, packet

from nestling.bundle.signing import generate_keys, sign
from nestling_devices import Device, LinkError, messages
from nestling_devices.errors import DeviceError
from nestling_runtime.errors import (
    BundleError,
    EngineError,
    NestlingError,
    PathError,
    SignatureError,
    TargetError,
)


@pytest.fixture(autouse=True)
def still_runs(shared: Device, subject: Subject) -> object:
    """After every test of this file the shared device answers as before."""
    yield
    inputs = subject.inputs(11)
    shared.select(subject.paths[-1])
    wanted = subject.expected(subject.bundle, subject.paths[-1], inputs)
    check(subject, shared.run(**inputs), wanted)


def send_raw(device: Device, data: bytes) -> None:
    """Put bytes on the line as they are."""
    device.line.write(data)


def send_body(device: Device, op: int, group: int, command: int, body: bytes) -> None:
    """Put a message on the line whose body is no message's."""
    head = struct.pack("!BBHHBB", op | 0x08, 0, len(body), group, 250, command)
    send_raw(device, b"".join(packet.encode(head + body)))


BODIES = {
    "empty": b"",
    "no map": cbor2.dumps([1, 2, 3]),
    "cut short": cbor2.dumps({"off": 0, "data": bytes(100)})[:-50],
    "length of exabytes": bytes.fromhex("a1646461746 15bffffffffffffff00".replace(" ", "")),
    "array of exabytes": bytes.fromhex("a1667374616765739bffffffffffffffff"),
    "nested a thousand times": b"\xa1\x61x" + b"\x81" * 1000 + b"\x00",
    "indefinite map": b"\xbf" + b"\x61a\x01" * 200,
    "text for a number": cbor2.dumps({"slot": "zero", "off": 0}),
    "negative": cbor2.dumps({"slot": -1, "off": 0}),
    "float": cbor2.dumps({"slot": 0, "off": 1.5}),
}


@pytest.mark.parametrize("name", BODIES)
def test_bodies_that_are_no_messages_are_survived(shared: Device, name: str) -> None:
    for command in (2, 3, 4, 6, 9, 11, 13, 14):
        for op in (0, 2):
            send_body(shared, op, 64, command, BODIES[name])
    assert shared.client.echo("still there") == "still there"


@pytest.mark.parametrize(
    ("op", "group", "command"), [(0, 64, 200), (2, 64, 200), (0, 99, 0), (2, 8, 0), (2, 0, 200)]
)
def test_commands_that_are_none_are_refused(
    shared: Device, op: int, group: int, command: int
) -> None:
    errors = shared.telemetry().errors
    send_body(shared, op, group, command, cbor2.dumps({}))
    assert shared.client.echo("still there") == "still there"
    assert shared.telemetry().errors == errors + 1


def test_bytes_that_are_no_frames_are_passed_over(shared: Device) -> None:
    bad = shared.telemetry().bad_frames
    send_raw(shared, b"boot: hello\r\n\x00\xff\x06\x09")
    send_raw(shared, b"\x06\x09AAAA\n\x04\x14////\n")
    send_raw(shared, b"\x06\x09" + b"A" * (8 * shared.client.message_bytes) + b"\n")
    assert shared.client.echo("still there") == "still there"
    assert shared.telemetry().bad_frames > bad


def test_a_message_larger_than_the_buffer_never_leaves(shared: Device) -> None:
    size = shared.client.message_bytes
    with pytest.raises(LinkError, match=f"takes {size}"):
        shared.client.request(messages.TensorWrite(slot=0, off=0, data=bytes(size)), tries=1)


def test_a_header_that_promises_more_than_the_frame_has_is_survived(shared: Device) -> None:
    head = struct.pack("!BBHHBB", 0x0A, 0, 60_000, 64, 7, 2)
    send_raw(shared, b"".join(packet.encode(head + cbor2.dumps({"path": 0}))))
    assert shared.client.echo("still there") == "still there"


@pytest.mark.parametrize("version", [header.Version.V1, header.Version.V2])
def test_a_refusal_has_the_form_of_the_requests_version(
    shared: Device, version: header.Version
) -> None:
    with pytest.raises(NestlingError) as caught:
        shared.client.request(messages.SelectWrite(path=10_000, version=version))
    assert str(caught.value)
    assert isinstance(caught.value, PathError if version == header.Version.V2 else DeviceError)


def test_a_tensor_is_written_where_it_is_and_nowhere_else(shared: Device, subject: Subject) -> None:
    slots = shared.tensors()
    shared.select(subject.paths[0])
    number, slot = next((i, s) for i, s in enumerate(slots) if s.role == "input")
    for message_ in (
        messages.TensorWrite(slot=number, off=slot.size_bytes, data=b"x"),
        messages.TensorWrite(slot=number, off=2**63, data=b"x"),
        messages.TensorWrite(slot=number, off=1, data=bytes(slot.size_bytes)),
        messages.TensorWrite(slot=len(slots), off=0, data=b"x"),
        messages.TensorWrite(slot=2**32 - 1, off=0, data=b"x"),
    ):
        with pytest.raises(NestlingError):
            shared.client.request(message_)
    with pytest.raises(NestlingError):
        shared.client.request(messages.TensorRead(slot=number, off=2**63))
    internal = next((i for i, s in enumerate(slots) if s.role == "internal"), None)
    if internal is not None:
        with pytest.raises(NestlingError):
            shared.client.request(messages.TensorWrite(slot=internal, off=0, data=b"x"))


def damaged(bundle: Path, folder: Path, offset: int) -> Path:
    """A copy with one bit flipped."""
    data = bytearray(bundle.read_bytes())
    data[offset] ^= 1
    copy = folder / "damaged.nest"
    copy.write_bytes(data)
    return copy


def push_unchecked(device: Device, data: bytes, *, head_bytes: int) -> None:
    """Push bytes as a client would that does not look at them."""
    client = device.client
    sha = data[32:64]
    piece = device.info().chunk_bytes - 128
    off = 0
    while off < head_bytes:
        first = off == 0
        off = client.request(
            messages.PushHeadWrite(
                off=off,
                data=data[off : min(off + piece, head_bytes)],
                len=head_bytes if first else None,
                total=len(data) if first else None,
                sha=sha if first else None,
            )
        ).off
    answer = client.request(messages.PushMissingRead())
    while answer.copying:
        answer = client.request(messages.PushMissingRead())
    manifest = cbor2.loads(data[64 : 64 + struct.unpack_from("<Q", data, 16)[0]])
    for item in answer.sections:
        section = manifest["sections"][item.section]
        off = item.off
        while off < section["size"]:
            start = section["offset"] + off
            end = min(start + piece, section["offset"] + section["size"])
            off = client.request(
                messages.PushDataWrite(section=item.section, off=off, data=data[start:end])
            ).off
    client.request(messages.PushCommitWrite(), patience_s=60.0)


def head_of(data: bytes | bytearray) -> int:
    return 64 + int(struct.unpack_from("<Q", data, 16)[0])


def test_a_damaged_file_is_refused_before_it_is_sent(
    device: Device, subject: Subject, tmp_path: Path
) -> None:
    sent = device.line.sent_bytes
    with pytest.raises(BundleError):
        device.push(damaged(subject.update, tmp_path, -1))
    assert device.line.sent_bytes == sent
    runs(device, subject, subject.bundle)


@pytest.mark.parametrize("where", ["manifest", "first section", "last byte"])
def test_a_device_finds_damage_by_itself(device: Device, subject: Subject, where: str) -> None:
    data = bytearray(subject.update.read_bytes())
    head = head_of(data)
    manifest = cbor2.loads(bytes(data[64:head]))
    changed = next(
        s
        for s in manifest["sections"]
        if s["sha256"] not in {x["sha256"] for x in _sections(subject.bundle)}
    )
    offset = {
        "manifest": 64 + 40,
        "first section": changed["offset"],
        "last byte": changed["offset"] + changed["size"] - 1,
    }[where]
    data[offset] ^= 1
    with pytest.raises(BundleError):
        push_unchecked(device, bytes(data), head_bytes=head)
    assert device.info().hash == hash_of(subject.bundle)
    runs(device, subject, subject.bundle)
    device.push(subject.update)
    runs(device, subject, subject.update)


def _sections(bundle: Path) -> list[dict[str, bytes]]:
    data = bundle.read_bytes()
    sections: list[dict[str, bytes]] = cbor2.loads(data[64 : head_of(data)])["sections"]
    return sections


def test_a_bundle_for_another_target_is_refused(device: Device, subject: Subject) -> None:
    with pytest.raises(TargetError):
        device.push(subject.foreign)
    assert device.info().hash == hash_of(subject.bundle)
    runs(device, subject, subject.bundle)


def test_a_bundle_larger_than_a_slot_is_refused_at_once(device: Device, subject: Subject) -> None:
    slot_bytes = device.info().slot_bytes
    data = bytearray(subject.update.read_bytes())
    total = slot_bytes + 1
    head = head_of(data)
    with pytest.raises(NestlingError, match="larger than a slot"):
        device.client.request(
            messages.PushHeadWrite(
                off=0, data=bytes(data[:100]), len=head, total=total, sha=bytes(data[32:64])
            )
        )
    runs(device, subject, subject.bundle)


def test_sections_cannot_be_written_without_a_head(device: Device, subject: Subject) -> None:
    with pytest.raises(NestlingError):
        device.client.request(messages.PushMissingRead())
    with pytest.raises(NestlingError):
        device.client.request(messages.PushDataWrite(section=0, off=0, data=b"x"))
    with pytest.raises(NestlingError):
        device.client.request(messages.PushCommitWrite())
    runs(device, subject, subject.bundle)


def test_a_commit_without_all_bytes_says_how_many_are_missing(
    device: Device, subject: Subject
) -> None:
    data = subject.update.read_bytes()
    head = head_of(data)
    device.client.request(
        messages.PushHeadWrite(
            off=0, data=data[: min(head, 1000)], len=head, total=len(data), sha=data[32:64]
        )
    )
    with pytest.raises(NestlingError):
        device.client.request(messages.PushCommitWrite())
    runs(device, subject, subject.bundle)


def test_the_standard_upload_works_with_the_unchanged_client(
    device: Device, subject: Subject
) -> None:
    """smpclient's own upload and its own idea of a serial line, over the same port."""
    upload_whole(device, subject.update)
    runs(device, subject, subject.update)


def test_an_upload_with_a_wrong_hash_is_refused(device: Device, subject: Subject) -> None:
    from smpclient.requests.image_management import ImageUploadWrite

    data = bytearray(subject.update.read_bytes())
    data[-1] ^= 1
    piece, off = device.info().chunk_bytes - 128, 0
    with pytest.raises(NestlingError):
        while off < len(data):
            first = off == 0
            off = device.client.request(
                ImageUploadWrite(
                    off=off,
                    data=bytes(data[off : off + piece]),
                    len=len(data) if first else None,
                    sha=hashlib.sha256(data).digest() if first else None,
                ),
                patience_s=60.0,
            ).off or len(data)
    runs(device, subject, subject.bundle)


def test_a_device_with_a_key_takes_only_what_was_signed_with_it(
    open_fresh: OpenDevice, subject: Subject, kind: str, tmp_path: Path
) -> None:
    generate_keys(tmp_path / "own.key", tmp_path / "own.pub")
    generate_keys(tmp_path / "other.key", tmp_path / "other.pub")
    if kind.startswith("sim:"):  # has no keys, and says so instead of taking anything
        with pytest.raises(DeviceError, match="does not check signatures"):
            open_fresh(blank=True, public_key=tmp_path / "own.pub")
        return
    device = open_fresh(blank=True, public_key=tmp_path / "own.pub")
    bundle = tmp_path / "signed.nest"
    bundle.write_bytes(subject.bundle.read_bytes())
    with pytest.raises(SignatureError):
        device.push(bundle)
    sign(bundle, tmp_path / "other.key")
    with pytest.raises(SignatureError):
        device.push(bundle)
    assert device.info().bundle is None
    sign(bundle, tmp_path / "own.key")
    device.push(bundle)
    runs(device, subject, subject.bundle)


def test_an_unknown_member_is_ignored(shared: Device) -> None:
    class Later(messages.SelectWrite):
        novelty: int = 0

    assert shared.client.request(Later(path=0, novelty=7)).path == 0
    assert issubclass(Later, message.WriteRequest)


def test_running_without_a_bundle_is_refused(open_fresh: OpenDevice) -> None:
    device = open_fresh(blank=True)
    for call in (device.paths, device.tensors, device.run, lambda: device.select(0)):
        with pytest.raises((DeviceError, PathError, EngineError, BundleError)):
            call()
    with pytest.raises(DeviceError):
        device.revert()
