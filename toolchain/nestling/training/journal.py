"""The training log: one JSON object a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nestling.errors import TrainError


class Journal:
    """Appends records to a JSONL file; None as path keeps nothing.

    A resumed run continues the file: records of steps that the checkpoint does not know, which the
    interrupted run wrote after it, are cut off, and so is a line that was half written.
    """

    def __init__(self, path: Path | None, first_step: int = 0) -> None:
        self._path = path
        if path is None:
            return
        kept = _records_before(path, first_step) if first_step else []
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        except OSError as error:
            raise TrainError(f"cannot write {path}: {error.strerror}") from error

    def write(self, **record: Any) -> None:
        """Append one record, at once visible to whoever follows the file."""
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")


def _records_before(path: Path, step: int) -> list[str]:
    if not path.exists():
        return []
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            break
        if not isinstance(record, dict) or record.get("step", 0) > step:
            break
        kept.append(line)
    return kept
