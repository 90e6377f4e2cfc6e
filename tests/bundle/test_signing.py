"""Signatures: made in Python, checked in Python, in C, and by a second COSE library's rules."""

from __future__ import annotations

import stat
from pathlib import Path

import cbor2
import pytest
from bundle.samples import manifest_end, tiny, written
from core.server import Reader
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from nestling.bundle.signing import generate_keys, load_public_key, sign, verify
from nestling.errors import BundleError, SignatureError


class Keys:
    """A key pair in a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self.private = folder / f"{name}.pem"
        self.public = folder / f"{name}.pub.pem"
        self.id = generate_keys(self.private, self.public)

    @property
    def key(self) -> Ed25519PublicKey:
        return load_public_key(self.public)


@pytest.fixture
def ours(tmp_path: Path) -> Keys:
    return Keys(tmp_path, "ours")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "a.nest"
    path.write_bytes(written(tiny())[0])
    return path


def test_a_signed_bundle_verifies_in_python_and_c(reader: Reader, bundle: Path, ours: Keys) -> None:
    assert sign(bundle, ours.private) == ours.id
    assert verify(bundle, ours.public) == ours.id
    answer = reader.open(bundle.read_bytes())
    assert answer["bundle"]["signature_bytes"] == 84
    assert reader.verify(ours.key.public_bytes_raw()) == "NST_OK"


def test_signing_changes_nothing_but_the_signature(bundle: Path, ours: Keys) -> None:
    before = bundle.read_bytes()
    sign(bundle, ours.private)
    after = bundle.read_bytes()
    start = manifest_end(before)
    changed = {at for at, (a, b) in enumerate(zip(before, after, strict=True)) if a != b}
    assert changed <= set(range(12, 16)) | set(range(start, start + 84))


def test_the_signature_is_plain_cose(bundle: Path, ours: Keys) -> None:
    sign(bundle, ours.private)
    data = bundle.read_bytes()
    start = manifest_end(data)
    message = cbor2.loads(data[start : start + 84])
    assert message.tag == 18
    protected, unprotected, payload, signature = message.value
    assert cbor2.loads(protected) == {1: -8}
    assert unprotected == {4: bytes.fromhex(ours.id)}
    assert payload is None
    # RFC 9052, section 4.4
    structure = cbor2.dumps(["Signature1", protected, b"", data[32:64]])
    ours.key.verify(signature, structure)


def test_signing_again_replaces_the_signature(bundle: Path, ours: Keys, tmp_path: Path) -> None:
    other = Keys(tmp_path, "other")
    sign(bundle, other.private)
    sign(bundle, ours.private)
    assert verify(bundle, ours.public) == ours.id
    with pytest.raises(SignatureError, match="another key"):
        verify(bundle, other.public)


def test_another_key_is_refused(reader: Reader, bundle: Path, ours: Keys, tmp_path: Path) -> None:
    other = Keys(tmp_path, "other")
    sign(bundle, ours.private)
    with pytest.raises(SignatureError, match="another key") as caught:
        verify(bundle, other.public)
    assert (caught.value.expected, caught.value.actual) == (other.id, ours.id)
    reader.open(bundle.read_bytes())
    assert reader.verify(other.key.public_bytes_raw()) == "NST_E_SIGNATURE"


def test_an_unsigned_bundle_is_refused(reader: Reader, bundle: Path, ours: Keys) -> None:
    with pytest.raises(SignatureError, match="not signed"):
        verify(bundle, ours.public)
    reader.open(bundle.read_bytes())
    assert reader.verify(ours.key.public_bytes_raw()) == "NST_E_SIGNATURE"


def test_a_signature_of_another_manifest_is_refused(
    reader: Reader, bundle: Path, ours: Keys, tmp_path: Path
) -> None:
    sign(bundle, ours.private)
    signed = bundle.read_bytes()
    builder = tiny()
    builder.name = "mini"  # as long as "tiny": the manifests have one size
    forged = bytearray(written(builder)[0])
    start = manifest_end(signed)
    assert manifest_end(bytes(forged)) == start
    forged[12:16] = signed[12:16]
    forged[start : start + 84] = signed[start : start + 84]
    bundle.write_bytes(forged)
    with pytest.raises(SignatureError, match="does not belong"):
        verify(bundle, ours.public)
    assert "error" not in reader.open(bytes(forged))
    assert reader.verify(ours.key.public_bytes_raw()) == "NST_E_SIGNATURE"


@pytest.mark.parametrize("at", [0, 1, 4, 20, 22, 83])
def test_a_damaged_signature_is_refused(bundle: Path, ours: Keys, at: int) -> None:
    sign(bundle, ours.private)
    data = bytearray(bundle.read_bytes())
    data[manifest_end(bytes(data)) + at] ^= 1
    bundle.write_bytes(data)
    with pytest.raises(SignatureError):
        verify(bundle, ours.public)


def test_a_damaged_manifest_is_neither_signed_nor_verified(bundle: Path, ours: Keys) -> None:
    data = bytearray(bundle.read_bytes())
    data[70] ^= 1
    bundle.write_bytes(data)
    with pytest.raises(BundleError, match="manifest"):
        sign(bundle, ours.private)
    with pytest.raises(BundleError, match="manifest"):
        verify(bundle, ours.public)
    assert bundle.read_bytes() == data


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a nestling bundle"),
        (b"PK\x03\x04" + bytes(100), "not a nestling bundle"),
        (b"\x89NEST\r\n\x1a\x01", "cut short"),
        (b"\x89NEST\r\n\x1a\x09" + bytes(100), "another format version"),
    ],
)
def test_another_file_is_not_signed(bundle: Path, ours: Keys, content: bytes, words: str) -> None:
    bundle.write_bytes(content)
    with pytest.raises(BundleError, match=words):
        sign(bundle, ours.private)
    with pytest.raises(BundleError, match=words):
        verify(bundle, ours.public)
    assert bundle.read_bytes() == content


def test_a_cut_bundle_is_not_signed(bundle: Path, ours: Keys) -> None:
    bundle.write_bytes(bundle.read_bytes()[:-1])
    with pytest.raises(BundleError, match="cut short"):
        sign(bundle, ours.private)


def test_keys_are_private_and_never_overwritten(ours: Keys) -> None:
    assert stat.S_IMODE(ours.private.stat().st_mode) == 0o600
    before = ours.private.read_bytes()
    with pytest.raises(SignatureError, match="never overwritten"):
        generate_keys(ours.private, ours.public)
    assert ours.private.read_bytes() == before


def test_what_is_no_ed25519_key_is_refused(bundle: Path, ours: Keys, tmp_path: Path) -> None:
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("not a key")
    with pytest.raises(SignatureError, match="not a private key"):
        sign(bundle, rubbish)
    with pytest.raises(SignatureError, match="not a public key"):
        verify(bundle, rubbish)
    with pytest.raises(SignatureError, match="not a private key"):
        sign(bundle, ours.public)
    with pytest.raises(SignatureError, match="not a public key"):
        verify(bundle, ours.private)
    foreign = generate_private_key(SECP256R1())
    rubbish.write_bytes(
        foreign.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    with pytest.raises(SignatureError, match="Ed25519"):
        sign(bundle, rubbish)


def test_a_missing_key_is_an_ordinary_error(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sign(bundle, tmp_path / "none.pem")
