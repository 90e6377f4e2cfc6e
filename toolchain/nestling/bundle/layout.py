"""Where the bytes of a bundle go: sections filled with items, and the prefix before them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from nestling.bundle.manifest import (
    ITEM_ALIGNMENT_BYTES,
    MAGIC,
    PREFIX_BYTES,
    SECTION_ALIGNMENT_BYTES,
    SIGNATURE_BYTES,
    SectionKind,
)
from nestling.errors import BundleError

Buffer = bytes | bytearray | memoryview


def aligned(size: int, alignment: int) -> int:
    """Return `size` rounded up to a multiple of `alignment`."""
    return -(-size // alignment) * alignment


def first_section_offset(manifest_bytes: int) -> int:
    """Return where the first section starts: room for a signature is kept, signed or not."""
    return aligned(PREFIX_BYTES + manifest_bytes + SIGNATURE_BYTES, SECTION_ALIGNMENT_BYTES)


def prefix_bytes(
    manifest: bytes, signature_bytes: int, total_bytes: int, format_version: int
) -> bytes:
    """Return the 64 bytes that start a bundle."""
    numbers = (
        format_version.to_bytes(4, "little"),
        signature_bytes.to_bytes(4, "little"),
        len(manifest).to_bytes(8, "little"),
        total_bytes.to_bytes(8, "little"),
    )
    return MAGIC + b"".join(numbers) + hashlib.sha256(manifest).digest()


def content_digest(data: Buffer) -> bytes:
    """Return the SHA-256 of `data`."""
    return hashlib.sha256(memoryview(data).cast("B")).digest()


@dataclass(eq=False)
class Item:
    """The bytes of a constant or program; `offset` in its section is known after `lay_out`."""

    data: memoryview
    digest: bytes
    offset: int = -1


@dataclass(eq=False)
class FilledSection:
    """A section while it is being filled: distinct contents, in the order they came."""

    name: str
    kind: SectionKind
    level: int | None = None
    items: dict[bytes, Item] = field(default_factory=dict)

    def place(self, data: Buffer) -> Item:
        """Return the item with these bytes; a new one only if the section has none yet.

        Raises:
            BundleError: There are no bytes.
        """
        view = memoryview(data).cast("B")
        if view.nbytes == 0:
            raise BundleError("there are no bytes to store", section=self.name)
        digest = content_digest(view)
        return self.items.setdefault(digest, Item(view, digest))

    def lay_out(self) -> int:
        """Give every item its offset; return the size of the section in bytes."""
        end = 0
        for item in self.items.values():
            item.offset = aligned(end, ITEM_ALIGNMENT_BYTES)
            end = item.offset + item.data.nbytes
        return end

    def chunks(self) -> Iterator[Buffer]:
        """Yield the section's bytes, padding included. `lay_out` must have run."""
        end = 0
        for item in self.items.values():
            if item.offset > end:
                yield bytes(item.offset - end)
            yield item.data
            end = item.offset + item.data.nbytes

    def sha256(self) -> bytes:
        """Return the hash of the section's bytes."""
        digest = hashlib.sha256()
        for chunk in self.chunks():
            digest.update(chunk)
        return digest.digest()
