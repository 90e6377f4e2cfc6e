"""Requests of every group, as they should be and as they should not."""

from __future__ import annotations

import random
from typing import Any

import cbor2
import pytest
from bundle.samples import edited
from core.device import (
    ACTIVE,
    COMPLETE,
    EMPTY,
    HEADER,
    IMAGE,
    NEST,
    OS,
    PENDING,
    READ,
    STAT,
    TRYING,
    WRITE,
    Device,
    Geometry,
    PowerCutError,
    SmpError,
)
from core.updates import (
    CHUNK,
    bundle_hash,
    push,
    running,
    sections_of,
    send_file,
    send_sections,
    version,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

STATE, NOT_FOUND, LIMIT, PATH, ARGUMENT = 16, 17, 9, 10, 1


def refused(
    device: Device, op: int, group: int, command: int, body: Any = None, version: int = 1
) -> SmpError:
    with pytest.raises(SmpError) as caught:
        device.request(op, group, command, body, version)
    assert caught.value.body.get("rsn")
    return caught.value


def test_members_in_any_order_and_unknown_ones(device: Device) -> None:
    body: list[tuple[Any, Any]] = [
        ("x", {"a": [1, [2.5, None]], 7: b"z"}),
        ("d", "hi"),
        (3, True),
        ("y", [[], {}]),
    ]
    for seed in range(20):
        random.Random(seed).shuffle(body)
        assert device.request(WRITE, OS, 0, dict(body)) == {"r": "hi"}


def test_indefinite_lengths_are_understood(device: Device) -> None:
    assert device.request(WRITE, OS, 0, b"\xbf\x61d\x62hi\x61x\x9f\x01\xff\xff") == {"r": "hi"}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "'d' of the request is missing"),
        (b"\xa0", "'d' of the request is missing"),
        (b"\x80", "not a CBOR map"),
        (b"\xa1\x61d", "'d' of the request is of a wrong type"),
        (b"\xa1\x61d\x05", "'d' of the request is of a wrong type"),
        (b"\xa1\x61d\x62\xff\xff", "'d' of the request is of a wrong type"),
        (b"\xa2\x61d\x61a\x61d\x61b", "'d' of the request stands there twice"),
        (b"\xa1\x61d\x61a\x00", "bytes follow"),
        (b"\xa2\x61d\x61a", "not well-formed"),
        (b"\xa1\x61d\x7b" + b"\xff" * 8, "wrong type"),
        (b"\xbb" + b"\xff" * 8, "not"),
        (b"\xa2\x61d\x61a\x61x" + b"\x81" * 1900, "nested too deep"),
        (b"\xa2\x61d\x61a\x61x" + b"\xc1" * 1900, "not well-formed"),
        (b"\xa2\x61d\x61a\x61x" + b"\xc1\x81" * 900, "not well-formed"),
        (b"\xa2\x61d\x61a\x61x" + b"\xa1" * 1900, "nested too deep"),
        (b"\xa2\x61d\x61a\x61x\x9b" + b"\xff" * 8, "not well-formed"),
        (b"\xa2" + b"\x81" * 1900 + b"\x61d\x61a", "not well-formed"),
    ],
)
def test_a_body_that_is_malformed_is_refused_with_a_reason(
    device: Device, body: bytes, reason: str
) -> None:
    error = refused(device, WRITE, OS, 0, body)
    assert error.rc == 3 and reason in str(error)
    assert device.request(WRITE, OS, 0, {"d": "fine"}) == {"r": "fine"}


def test_errors_follow_the_version_and_the_group(device: Device) -> None:
    assert refused(device, WRITE, NEST, 3).body["err"] == {"group": NEST, "rc": STATE}
    assert refused(device, WRITE, NEST, 3, version=0).body["rc"] == 6
    assert refused(device, WRITE, IMAGE, 0, {"confirm": True}).body["rc"] == 5
    for group, command, op in ((OS, 99, READ), (3, 0, READ), (65535, 0, READ), (OS, 5, READ)):
        assert refused(device, op, group, command).body["rc"] == 8


def test_what_is_no_request_is_met_with_silence(device: Device) -> None:
    good = HEADER.pack(8 | READ, 0, 0, OS, 5, 6)
    assert device.message(good)
    for message in (b"", good[:7], b"\x09" + good[1:], b"\x0b" + good[1:], b"\x0f" + good[1:]):
        assert device.message(message) == b""


def test_a_wrong_length_or_version_is_an_error(device: Device) -> None:
    for head, rc in ((HEADER.pack(8, 0, 9, OS, 5, 6), 3), (HEADER.pack(16, 0, 0, OS, 5, 6), 13)):
        assert cbor2.loads(device.message(head)[8:])["rc"] == rc


def test_statistics_count(device: Device) -> None:
    before = device.request(READ, STAT, 0, {"name": "nestling"})["fields"]
    refused(device, WRITE, NEST, 3)
    after = device.request(READ, STAT, 0, {"name": "nestling"})["fields"]
    assert after["errors"] == before["errors"] + 1
    assert after["requests"] == before["requests"] + 2


def test_the_bundle_is_described(device: Device) -> None:
    assert "bundle" not in device.request(READ, NEST, 0)
    refused(device, READ, NEST, 1)
    push(device, version(1))
    info = device.request(READ, NEST, 0)
    assert info["bundle"] == "version 1" and info["hash"] == bundle_hash(version(1))
    paths = device.request(READ, NEST, 1)
    assert [path["name"] for path in paths["paths"]] == ["small", "full"]
    assert device.request(READ, NEST, 1, {"from": 1})["paths"] == paths["paths"][1:]
    assert device.request(READ, NEST, 1, {"from": 2**32 - 1})["paths"] == []
    slots = device.request(READ, NEST, 5)["slots"]
    assert slots[0] == {"name": "image", "role": "input", "dtype": "f32", "shape": [1, 4]}
    trace = device.request(READ, NEST, 8)
    assert trace["total"] == 4 and len(trace["stages"]) == 4


def test_paths_are_selected_by_number_name_and_stages(device: Device) -> None:
    push(device, version(1))
    assert device.request(WRITE, NEST, 2, {"name": "full"})["path"] == 1
    assert device.request(WRITE, NEST, 2, {"path": 0})["stages"] == 2
    assert device.request(WRITE, NEST, 2, {"stages": [0, 1, 2]})["path"] == 2**32 - 1
    assert refused(device, WRITE, NEST, 2, {"name": "none"}).rc == PATH
    assert refused(device, WRITE, NEST, 2, {"path": 9}).rc == PATH
    assert refused(device, WRITE, NEST, 2, {"stages": [2, 0]}).rc == PATH
    assert refused(device, WRITE, NEST, 2, {"stages": []}).rc == PATH
    for body in ({}, {"path": 0, "name": "full"}, {"stages": [0] * 257}, {"path": 2**32}):
        refused(device, WRITE, NEST, 2, body)


def test_tensors_are_read_and_written_in_pieces(device: Device) -> None:
    push(device, version(1))
    data = bytes(range(16))
    assert device.request(WRITE, NEST, 4, {"slot": 0, "off": 0, "data": data[:9]})["off"] == 9
    answer = device.request(WRITE, NEST, 4, {"slot": 0, "off": 9, "data": data[9:]})
    assert answer == {"off": 16, "len": 16}
    assert device.request(READ, NEST, 4, {"slot": 0, "off": 0})["data"] == data
    assert device.request(READ, NEST, 4, {"slot": 0, "off": 4, "len": 3})["data"] == data[4:7]
    assert device.request(READ, NEST, 4, {"slot": 0, "off": 16})["data"] == b""
    assert refused(device, READ, NEST, 4, {"slot": 0, "off": 17}).rc == LIMIT
    assert refused(device, READ, NEST, 4, {"slot": 0, "off": 2**64 - 1}).rc == LIMIT
    assert refused(device, WRITE, NEST, 4, {"slot": 0, "off": 9, "data": data}).rc == LIMIT
    assert refused(device, READ, NEST, 4, {"slot": 1, "off": 0}).rc == NOT_FOUND  # internal


def test_the_policy_stays_where_nothing_was_measured(device: Device) -> None:
    push(device, version(1))
    device.request(WRITE, NEST, 2, {"name": "full"})
    assert device.request(WRITE, NEST, 9, {"deadline": 1000}) == {"path": 0, "switched": True}
    assert device.request(WRITE, NEST, 9, {"deadline": 1000}) == {"path": 0, "switched": False}


def test_a_push_sends_the_section_that_differs_and_nothing_else(device: Device) -> None:
    push(device, version(1))
    sent = send_sections(device, version(2))
    sections = sections_of(version(2))
    own = [i for i, (offset, size) in enumerate(sections) if sent.get(i)]
    assert len(own) == 1
    assert sent[own[0]] == sections[own[0]][1] == 5000
    assert sum(sent.values()) == 5000 + sent[-1]
    device.request(WRITE, NEST, 14, {"confirm": True})
    assert running(device) == version(2)


def test_a_section_that_rotted_on_the_device_is_sent_again(device: Device) -> None:
    push(device, version(1))
    status = device.status()
    offset, size = sections_of(version(1))[1]
    at = status.offsets[status.running or 0] + offset
    device.write(at, bytes(byte ^ 1 for byte in device.read(at, size)))
    sent = send_sections(device, version(2))
    assert sent[1] == size
    device.request(WRITE, NEST, 14, {"confirm": True})
    assert running(device) == version(2)


def test_requests_that_come_twice_change_nothing(device: Device) -> None:
    """A client that did not hear the answer sends again."""
    data = version(1)
    for _ in range(2):
        send_file(device, data)
    before = device.status().operations
    answer = device.request(WRITE, IMAGE, 1, {"off": len(data) - 9, "data": data[-9:]})
    assert answer == {"off": len(data), "match": True}
    assert device.status().operations == before
    for _ in range(2):
        device.request(WRITE, NEST, 14, {"confirm": True})
    assert device.status().operations == before + 3
    send_sections(device, version(2))
    number = len(sections_of(version(2))) - 1
    piece = {"section": number, "off": 0, "data": b"\xaa" * 100}
    before = device.status().operations
    size = sections_of(version(2))[number][1]
    assert device.request(WRITE, NEST, 13, piece) == {"off": size}
    assert device.status().operations == before


def test_pieces_out_of_order_are_answered_with_the_one_expected(device: Device) -> None:
    data = version(1)
    refused(device, WRITE, IMAGE, 1, {"off": 5, "data": b"late"})
    first = {"off": 0, "data": data[:100], "len": len(data), "sha": b"\0" * 32}
    assert device.request(WRITE, IMAGE, 1, first) == {"off": 100}
    for off in (0, 99, 101, 2**40):
        body = {"off": off, "data": data[:50], **({k: first[k] for k in ("len", "sha")})}
        assert device.request(WRITE, IMAGE, 1, body) == {"off": 100}
    assert device.request(WRITE, IMAGE, 1, {"off": 100, "data": b""}) == {"off": 100}


def test_too_large_a_bundle_is_refused_by_the_bytes(device: Device) -> None:
    capacity = device.request(READ, NEST, 0)["slot_bytes"]
    body = {"off": 0, "data": b"", "len": capacity + 1}
    error = refused(device, WRITE, IMAGE, 1, body)
    assert error.rc == 2 and f"expected {capacity + 1}, actual {capacity}" in str(error)
    head = {"off": 0, "data": b"", "len": 500, "total": 2**63, "sha": b"\1" * 32}
    assert refused(device, WRITE, NEST, 11, head).rc == LIMIT
    assert "more bytes were sent" in str(
        refused(device, WRITE, IMAGE, 1, {"off": 0, "data": b"\0" * 101, "len": 100})
    )


def test_a_file_that_is_not_what_was_announced_is_dropped(device: Device) -> None:
    push(device, version(1))
    data = bytearray(version(2))
    data[-1] ^= 1
    for sha in (None, b"\2" * 32):
        off = 0
        with pytest.raises(SmpError, match="bytes are not those"):
            while off < len(data):
                body: dict[str, Any] = {"off": off, "data": bytes(data[off : off + CHUNK])}
                if off == 0:
                    body |= {"len": len(data)} | ({} if sha is None else {"sha": sha})
                off = device.request(WRITE, IMAGE, 1, body)["off"]
        assert device.status().states[1] == EMPTY
    refused(device, WRITE, NEST, 14)
    assert running(device) == version(1)
    push(device, version(2))
    assert running(device) == version(2)


def test_a_push_that_is_not_complete_says_how_much_is_missing(device: Device) -> None:
    data = version(1)
    refused(device, WRITE, NEST, 13, {"section": 0, "off": 0, "data": b"x"})
    refused(device, READ, NEST, 12)
    refused(device, WRITE, NEST, 14)
    end = sections_of(data)[0][0]
    for off in range(0, end, CHUNK):
        body: dict[str, Any] = {"off": off, "data": data[off : min(off + CHUNK, end)]}
        if off == 0:
            body |= {"len": end, "total": len(data), "sha": bundle_hash(data)}
        device.request(WRITE, NEST, 11, body)
    error = refused(device, WRITE, NEST, 14)
    assert error.rc == STATE
    missing = sum(size for _, size in sections_of(data))
    assert f"expected {len(data)}, actual {len(data) - missing}" in str(error)
    assert refused(device, WRITE, NEST, 13, {"section": 99, "off": 0, "data": b"x"}).rc == NOT_FOUND
    size = sections_of(data)[0][1]
    over = {"section": 0, "off": 0, "data": b"x" * (size + 1)}
    assert refused(device, WRITE, NEST, 13, over).rc == LIMIT


def test_a_foreign_head_is_refused(device: Device) -> None:
    head = b"\0" * 300
    body = {"off": 0, "data": head, "len": 300, "total": 40000, "sha": b"\1" * 32}
    assert refused(device, WRITE, NEST, 11, body).body["err"]["rc"] == 3  # NST_E_FOREIGN
    assert device.status().states[0] == EMPTY
    data = version(1)
    end = sections_of(data)[0][0]
    lie = {"off": 0, "data": data[:CHUNK], "len": end, "total": len(data), "sha": b"\1" * 32}
    with pytest.raises(SmpError, match="name"):
        device.request(WRITE, NEST, 11, lie)
        for off in range(CHUNK, end, CHUNK):
            device.request(WRITE, NEST, 11, {"off": off, "data": data[off : min(off + CHUNK, end)]})


def test_a_trial_ends_with_the_reset(device: Device) -> None:
    push(device, version(1))
    send_sections(device, version(2))
    device.request(WRITE, NEST, 14)
    assert running(device) == version(2)
    assert device.status().states == (ACTIVE, TRYING)
    # The slot that is being tried is not overwritten.
    body = {"off": 0, "data": b"", "len": 50000}
    assert "confirmed or rejected first" in str(refused(device, WRITE, IMAGE, 1, body))
    device.start()
    assert running(device) == version(1)
    assert device.status().states == (ACTIVE, COMPLETE)
    # It may be tried again, and confirmed.
    device.request(WRITE, IMAGE, 0, {"hash": bundle_hash(version(2))})
    assert device.status().states == (ACTIVE, PENDING)
    device.start()
    assert running(device) == version(2)
    device.request(WRITE, IMAGE, 0, {"confirm": True})
    device.start()
    assert running(device) == version(2)
    assert device.status().states == (COMPLETE, ACTIVE)


def test_a_trial_is_ended_at_once_by_the_old_hash(device: Device) -> None:
    push(device, version(1))
    send_sections(device, version(2))
    device.request(WRITE, NEST, 14)
    device.request(WRITE, IMAGE, 0, {"hash": bundle_hash(version(1))})
    assert running(device) == version(1)
    assert device.status().states == (ACTIVE, COMPLETE)


def test_the_old_version_can_be_brought_back(device: Device) -> None:
    push(device, version(1))
    push(device, version(2))
    images = device.request(READ, IMAGE, 0)["images"]
    assert [image["version"] for image in images] == ["version 1", "version 2"]
    device.request(WRITE, IMAGE, 0, {"hash": bundle_hash(version(1)), "confirm": True})
    device.start()
    assert running(device) == version(1)


def test_the_idle_slot_is_erased_and_the_other_is_not(device: Device) -> None:
    push(device, version(1))
    push(device, version(2))
    assert refused(device, WRITE, IMAGE, 5, {"slot": 1}).rc == 6
    assert refused(device, WRITE, IMAGE, 5, {"slot": 2**64 - 1}).rc == 5
    device.request(WRITE, IMAGE, 5)
    assert device.status().states == (EMPTY, ACTIVE)
    assert running(device) == version(2)


def test_a_bundle_for_another_target_never_runs(device: Device) -> None:
    def edit(manifest: dict[str, Any]) -> None:
        manifest["target"] = "unknown"

    push(device, version(1))
    other = edited(version(2), edit)
    send_file(device, other)
    assert refused(device, WRITE, NEST, 14).rc == 12
    assert running(device) == version(1)
    device.request(WRITE, IMAGE, 0, {"hash": bundle_hash(other)})
    device.start()
    assert running(device) == version(1)
    assert device.status().states == (ACTIVE, COMPLETE)


def test_a_broken_active_bundle_gives_way_to_the_other_one(device: Device) -> None:
    push(device, version(1))
    push(device, version(2))
    device.write(device.status().offsets[1] + 70, b"\0" * 50)
    device.start()
    assert running(device) == version(1)


def test_power_cuts_can_be_asked_for(device: Device) -> None:
    device.request(WRITE, NEST, 15, {"operations": 2, "cut": 1})
    with pytest.raises(PowerCutError):
        push(device, version(1))
    device.start()
    refused(device, WRITE, NEST, 15, {"operations": 2, "cut": 3})


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    op=st.sampled_from([READ, WRITE]),
    group=st.sampled_from([OS, IMAGE, STAT, NEST]),
    command=st.integers(0, 16),
    body=st.dictionaries(
        st.sampled_from(
            [
                "off",
                "data",
                "len",
                "sha",
                "total",
                "section",
                "slot",
                "path",
                "name",
                "stages",
                "from",
                "hash",
                "confirm",
                "deadline",
                "budget",
                "on",
                "d",
                "format",
                "image",
            ]
        ),
        st.integers(0, 2**64 - 1)
        | st.integers(0, 40)
        | st.binary(max_size=40)
        | st.text(max_size=9)
        | st.booleans()
        | st.lists(st.integers(0, 9), max_size=5),
        max_size=5,
    ),
)
def test_any_request_is_answered_and_the_model_goes_on(
    device: Device, op: int, group: int, command: int, body: dict[str, Any]
) -> None:
    if device.request(READ, NEST, 0).get("bundle") != "version 1":
        device.make(Geometry())
        push(device, version(1))
    try:
        device.request(op, group, command, body)
    except SmpError as error:
        assert error.body["rsn"]
    assert running(device) == version(1)
