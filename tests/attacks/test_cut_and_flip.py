"""A bundle cut at every byte, and every bit of it flipped: always an ordinary error.

The reader runs under AddressSanitizer and UBSan. Flips are tried twice: as they are, where the hash
must catch them, and with the manifest's hash made right again, where every rule of the format gets
its turn.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from bundle.samples import manifest_end, tiny, written
from core.server import Reader

from nestling.bundle.signing import generate_keys, sign

DATA, MANIFEST = written(tiny())

# What a flip may do to the prefix: nothing but these, and never NST_OK.
ERRORS = {
    "NST_E_FOREIGN",
    "NST_E_VERSION",
    "NST_E_TRUNCATED",
    "NST_E_CORRUPT",
    "NST_E_HASH",
    "NST_E_LIMIT",
    "NST_E_SIGNATURE",
    "NST_E_PATH",
}


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("signed")
    path = folder / "a.nest"
    path.write_bytes(DATA)
    generate_keys(folder / "private.pem", folder / "public.pem")
    sign(path, folder / "private.pem")
    return path.read_bytes()


def test_a_bundle_cut_at_any_length_is_truncated(reader: Reader) -> None:
    assert reader.cut(DATA) == {"NST_E_TRUNCATED": len(DATA)}


def test_no_flip_before_the_sections_is_accepted(reader: Reader) -> None:
    end = manifest_end(DATA)
    answer = reader.flip(DATA, 0, end)
    assert set(answer["plain"]) <= ERRORS
    assert sum(answer["plain"].values()) == 8 * end
    # With the hash made right, some flips make another valid bundle (a name, a count of macs).
    assert set(answer["rehashed"]) <= ERRORS | {"NST_OK"}
    assert answer["rehashed"]["NST_E_CORRUPT"] > answer["rehashed"]["NST_OK"]


def test_no_flip_in_the_padding_is_accepted(reader: Reader) -> None:
    first = MANIFEST.sections[0]
    near_the_manifest = reader.flip(DATA, manifest_end(DATA), manifest_end(DATA) + 300)
    near_the_section = reader.flip(DATA, first.offset - 20, first.offset)
    for answer in (near_the_manifest, near_the_section):
        assert set(answer["plain"]) == {"NST_E_CORRUPT"}


def test_every_flip_in_a_section_is_caught_by_its_hash(reader: Reader) -> None:
    for section in MANIFEST.sections:
        answer = reader.flip(DATA, section.offset, section.offset + section.size, sections=True)
        assert answer["plain"] == {"NST_E_HASH": 8 * section.size}


def test_no_flip_of_a_signed_bundle_is_accepted(reader: Reader, signed: bytes) -> None:
    prefix = reader.flip(signed, 0, 64)
    assert set(prefix["plain"]) <= ERRORS


def test_a_flip_in_a_signature_is_malformed_or_does_not_verify(
    reader: Reader, signed: bytes, tmp_path: Path
) -> None:
    start = manifest_end(signed)
    key = bytes(32)
    for at in range(start, start + 84):
        data = bytearray(signed)
        data[at] ^= 0x20
        answer = reader.open(bytes(data))
        if "error" in answer:
            assert answer["error"]["code"] == "NST_E_SIGNATURE"
        else:
            assert reader.verify(key) == "NST_E_SIGNATURE"
