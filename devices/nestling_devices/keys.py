"""Public keys as `nestling keygen` writes them, for devices that ask for signatures."""

from __future__ import annotations

import base64
from pathlib import Path

from nestling_runtime.errors import SignatureError

# What DER puts before the 32 bytes of an Ed25519 key (RFC 8410).
_DER_HEAD = bytes.fromhex("302a300506032b6570032100")


def read_public_key(file: Path) -> bytes:
    """Return the 32 bytes of an Ed25519 public key that `nestling keygen` wrote.

    Raises:
        SignatureError: It is no such file.
    """
    try:
        lines = file.read_text(encoding="ascii").split("-----")
        der = base64.b64decode("".join(lines[2].split()), validate=True)
    except (OSError, ValueError, IndexError) as error:
        raise SignatureError("the public key cannot be read", actual=str(file)) from error
    if len(der) != len(_DER_HEAD) + 32 or not der.startswith(_DER_HEAD):
        raise SignatureError("this is no Ed25519 public key", actual=str(file))
    return der[len(_DER_HEAD) :]
