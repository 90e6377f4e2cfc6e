"""Sentences of errors that a small device keeps out of its flash.

Such a firmware says "§412;" for the sentence that begins at byte 412 of its own list. The build
leaves the list beside the firmware (``nestling.texts``): zero-terminated UTF-8 texts.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from nestling_devices.emulators import build_folder

TEXTS_VARIABLE = "NESTLING_TEXTS"
"""Names the list of a board's firmware; that of the emulated board's by default."""

_PLACE = re.compile("§([0-9]+);")


def with_sentences(reason: str) -> str:
    """Return a device's reason in full; places of which nothing is known stay as they are."""
    if "§" not in reason:
        return reason
    named = os.environ.get(TEXTS_VARIABLE)
    file = Path(named) if named else build_folder() / "firmware" / "mps3_an547" / "nestling.texts"
    try:
        texts = file.read_bytes()
    except OSError:
        return f"{reason} (sentence of the firmware; {TEXTS_VARIABLE} names its nestling.texts)"

    def sentence(place: re.Match[str]) -> str:
        begin = int(place[1])
        end = texts.find(b"\0", begin)
        return texts[begin:end].decode(errors="replace") if end >= 0 else place[0]

    return _PLACE.sub(sentence, reason)
