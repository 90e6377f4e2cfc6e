"""Signing bundles: COSE_Sign1 (RFC 9052) with Ed25519 over the manifest's SHA-256.

The manifest holds the hash of every section, so one signature of 84 bytes vouches for the whole
file. Room for it is kept in every bundle: signing changes the prefix and those 84 bytes, and moves
nothing.

A signature says who made the bytes, not that they are a valid bundle; the reader decides that.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from pycose.algorithms import EdDSA
from pycose.exceptions import CoseException
from pycose.headers import KID, Algorithm
from pycose.keys import OKPKey
from pycose.keys.curves import Ed25519
from pycose.messages import Sign1Message

from nestling.bundle.atomic import replacing
from nestling.bundle.manifest import (
    FORMAT_VERSION,
    MAGIC,
    MANIFEST_LIMIT_BYTES,
    PREFIX_BYTES,
    SIGNATURE_BYTES,
)
from nestling.errors import BundleError, SignatureError

KEY_ID_BYTES = 8
ED25519_SIGNATURE_BYTES = 64
PRIVATE_KEY_MODE = 0o600

PathLike = str | os.PathLike[str]


def key_id(key: Ed25519PublicKey) -> bytes:
    """Return the eight bytes that name a key: the first of SHA-256(public key)."""
    return hashlib.sha256(key.public_bytes_raw()).digest()[:KEY_ID_BYTES]


def generate_keys(private_path: PathLike, public_path: PathLike) -> str:
    """Make a key pair and write both halves as PEM (PKCS #8 and SubjectPublicKeyInfo).

    Args:
        private_path: Where the private key goes; readable by its owner alone.
        public_path: Where the public key goes.

    Returns:
        The key's id, in hex.

    Raises:
        SignatureError: One of the files is there already: keys are never overwritten.
        OSError: A file cannot be written.
    """
    for path in (private_path, public_path):
        if Path(path).exists():
            raise SignatureError(
                "a key is never overwritten", actual=str(path), hint="choose another name"
            )
    private = Ed25519PrivateKey.generate()
    public = private.public_key()
    with replacing(Path(private_path), PRIVATE_KEY_MODE) as file:
        file.write(
            private.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
    with replacing(Path(public_path)) as file:
        file.write(
            public.public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
    return key_id(public).hex()


def load_private_key(path: PathLike) -> Ed25519PrivateKey:
    """Read an Ed25519 private key from an unencrypted PEM file.

    Raises:
        SignatureError: The file holds something else.
        OSError: The file cannot be read.
    """
    try:
        key = serialization.load_pem_private_key(Path(path).read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SignatureError("this is not a private key", actual=str(path)) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SignatureError("the private key is not of Ed25519", actual=str(path))
    return key


def load_public_key(path: PathLike) -> Ed25519PublicKey:
    """Read an Ed25519 public key from a PEM file.

    Raises:
        SignatureError: The file holds something else.
        OSError: The file cannot be read.
    """
    try:
        key = serialization.load_pem_public_key(Path(path).read_bytes())
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SignatureError("this is not a public key", actual=str(path)) from error
    if not isinstance(key, Ed25519PublicKey):
        raise SignatureError("the public key is not of Ed25519", actual=str(path))
    return key


@dataclass(frozen=True)
class _Head:
    """The start of a bundle: what signing needs of it."""

    signature_bytes: int
    manifest_bytes: int
    total_bytes: int
    manifest_sha256: bytes


def _read_head(file: BinaryIO) -> _Head:
    """Read the prefix, and check that the manifest is the one it names; leaves `file` behind it.

    Raises:
        BundleError: It is not a bundle of this version, or its manifest is damaged.
    """
    prefix = file.read(PREFIX_BYTES)
    if prefix[: len(MAGIC)] != MAGIC:
        raise BundleError("this is not a nestling bundle", section="prefix")
    if len(prefix) < PREFIX_BYTES:
        raise BundleError(
            "the bundle is cut short", section="prefix", expected=PREFIX_BYTES, actual=len(prefix)
        )
    version = int.from_bytes(prefix[8:12], "little")
    if not 1 <= version <= FORMAT_VERSION:
        raise BundleError(
            "the bundle is of another format version",
            section="prefix",
            expected=f"1 to {FORMAT_VERSION}",
            actual=version,
        )
    head = _Head(
        signature_bytes=int.from_bytes(prefix[12:16], "little"),
        manifest_bytes=int.from_bytes(prefix[16:24], "little"),
        total_bytes=int.from_bytes(prefix[24:32], "little"),
        manifest_sha256=prefix[32:],
    )
    size = os.fstat(file.fileno()).st_size
    if size != head.total_bytes:
        raise BundleError(
            "the bundle is cut short or has bytes behind its end",
            section="prefix",
            expected=head.total_bytes,
            actual=size,
        )
    if head.manifest_bytes > min(size, MANIFEST_LIMIT_BYTES):
        raise BundleError("the manifest is too large", section="prefix", actual=head.manifest_bytes)
    if head.signature_bytes not in (0, SIGNATURE_BYTES):
        raise SignatureError("the signature is malformed", section="signature")
    if hashlib.sha256(file.read(head.manifest_bytes)).digest() != head.manifest_sha256:
        raise BundleError(
            "the manifest's bytes are not those that were written", section="manifest"
        )
    return head


def _message(identity: bytes) -> Sign1Message:
    """Return a COSE_Sign1 of the one form that the format knows, without its signature."""
    return Sign1Message(phdr={Algorithm: EdDSA}, uhdr={KID: identity})


def _split(encoded: bytes) -> tuple[bytes, bytes]:
    """Return the key id and the Ed25519 signature of an encoded COSE_Sign1.

    Raises:
        SignatureError: It is not of the one form that the format knows, byte by byte.
    """
    identity, signature = encoded[9 : 9 + KEY_ID_BYTES], encoded[-ED25519_SIGNATURE_BYTES:]
    form = _message(identity)
    form.signature = signature
    if len(encoded) != SIGNATURE_BYTES or form.encode(sign=False) != encoded:
        raise SignatureError("the signature is malformed", section="signature")
    return identity, signature


def sign(path: PathLike, private_key: PathLike) -> str:
    """Sign a bundle in place; an earlier signature is replaced.

    Args:
        path: The bundle. It is replaced in one step.
        private_key: PEM file.

    Returns:
        The id of the key, in hex.

    Raises:
        BundleError: The file is not a bundle, or its manifest is damaged.
        SignatureError: The key cannot be used.
        OSError: A file cannot be read or written.
    """
    key = load_private_key(private_key)
    identity = key_id(key.public_key())
    bundle = Path(path)
    with open(bundle, "rb") as source:
        head = _read_head(source)
        message = _message(identity)
        message.key = OKPKey(
            crv=Ed25519, x=key.public_key().public_bytes_raw(), d=key.private_bytes_raw()
        )
        signature = message.encode(detached_payload=head.manifest_sha256)
        if len(signature) != SIGNATURE_BYTES:
            raise SignatureError("the signature has an unexpected size", actual=len(signature))
        end = PREFIX_BYTES + head.manifest_bytes
        source.seek(0)
        with replacing(bundle) as file:
            shutil.copyfileobj(source, file, 1 << 20)
            file.seek(12)
            file.write(SIGNATURE_BYTES.to_bytes(4, "little"))
            file.seek(end)
            file.write(signature)
    return identity.hex()


def verify(path: PathLike, public_key: PathLike) -> str:
    """Check that a bundle's manifest was signed with one key.

    The hashes of the sections are the reader's business: a bundle is to be trusted when this passes
    and the reader has checked every section.

    Args:
        path: The bundle.
        public_key: PEM file.

    Returns:
        The id of the key, in hex.

    Raises:
        BundleError: The file is not a bundle, or its manifest is damaged.
        SignatureError: It is not signed, signed by another key, or the signature is forged.
        OSError: A file cannot be read.
    """
    key = load_public_key(public_key)
    identity = key_id(key)
    with open(path, "rb") as file:
        head = _read_head(file)
        if head.signature_bytes == 0:
            raise SignatureError("the bundle is not signed", section="signature")
        encoded = file.read(SIGNATURE_BYTES)
    signer, signature = _split(encoded)
    if signer != identity:
        raise SignatureError(
            "the bundle is signed by another key",
            section="signature",
            expected=identity.hex(),
            actual=signer.hex(),
        )
    message = _message(identity)
    message.key = OKPKey(crv=Ed25519, x=key.public_bytes_raw())
    message.signature = signature
    try:
        genuine = message.verify_signature(detached_payload=head.manifest_sha256)
    except (CoseException, ValueError) as error:
        raise SignatureError("the signature is malformed", section="signature") from error
    if not genuine:
        raise SignatureError("the signature does not belong to this manifest", section="signature")
    return identity.hex()
