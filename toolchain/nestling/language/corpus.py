"""Real text without a download: Python's own manual pages and its library's sources.

Prose is `pydoc_data.topics`, one document a topic; code is the standard library without its tests.
Which documents are held out is decided by a hash of the document's name, so it is the same list
everywhere, although the texts differ a little between versions of Python.
"""

from __future__ import annotations

import hashlib
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nestling.errors import TrainError

Kind = Literal["prose", "code"]
Split = Literal["train", "validation", "held-out"]

KINDS: tuple[Kind, ...] = ("prose", "code")

# Tests are not in every installation; encodings are tables of numbers, not code that people write.
_LEFT_OUT = {"test", "tests", "idle_test", "encodings", "site-packages", "dist-packages"}
_LEFT_OUT |= {"__pycache__", "pydoc_data", "lib2to3", "turtledemo"}
_BUCKETS = 20
_HELD_OUT: dict[Kind, frozenset[int]] = {"prose": frozenset({1, 2}), "code": frozenset({1})}
_VALIDATION: dict[Kind, frozenset[int]] = {"prose": frozenset({3}), "code": frozenset({3})}
# Shorter paragraphs are headings and the like: everybody's.
_PARAGRAPH_CHARACTERS = 60


@dataclass(frozen=True)
class Document:
    """One text.

    Attributes:
        name: `prose/<topic>` or `code/<path below the library>`.
        kind: What it is.
        text: All of it.
    """

    name: str
    kind: Kind
    text: str

    @property
    def split(self) -> Split:
        """What it is used for, by a hash of its name."""
        bucket = hashlib.sha256(self.name.partition("/")[2].encode()).digest()[0] % _BUCKETS
        if bucket in _HELD_OUT[self.kind]:
            return "held-out"
        return "validation" if bucket in _VALIDATION[self.kind] else "train"


def load_corpus(split: Split, library: Path | None = None) -> list[Document]:
    """Return the documents of one split, sorted by name.

    Topics quote each other: a paragraph that a held-out topic has too is taken out of the others.

    Args:
        split: Which of them.
        library: Folder of the standard library. Default: the running Python's.

    Raises:
        TrainError: The library has no sources (some installations carry only compiled files).
    """
    documents = [*_topics(), *_sources(library or Path(sysconfig.get_paths()["stdlib"]))]
    if {document.kind for document in documents} != set(KINDS):
        raise TrainError("the standard library carries no sources", actual=library)
    chosen = [document for document in documents if document.split == split]
    if split == "held-out":
        return chosen
    quoted = {
        paragraph
        for document in documents
        if document.split == "held-out" and document.kind == "prose"
        for paragraph in _paragraphs(document.text)
        if len(paragraph) >= _PARAGRAPH_CHARACTERS
    }
    return [_without(document, quoted) for document in chosen]


def _topics() -> Iterator[Document]:
    from pydoc_data.topics import topics

    for name, text in sorted(topics.items()):
        yield Document(f"prose/{name}", "prose", text)


def _sources(library: Path) -> Iterator[Document]:
    for file in sorted(library.rglob("*.py")):
        name = file.relative_to(library)
        if not _LEFT_OUT.intersection(name.parts):
            text = file.read_text(encoding="utf-8", errors="replace")
            yield Document(f"code/{name.as_posix()}", "code", text)


def _paragraphs(text: str) -> list[str]:
    return re.split(r"\n\s*\n", text)


def _without(document: Document, quoted: set[str]) -> Document:
    if document.kind != "prose":
        return document
    kept = [paragraph for paragraph in _paragraphs(document.text) if paragraph not in quoted]
    return Document(document.name, document.kind, "\n\n".join(kept))
