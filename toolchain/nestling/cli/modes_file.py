r"""Modes as a file spells them: a TOML table for each.

[low]
answering = "tiny"

[high]
prefix = "Think carefully.\n"
thinking = "entropy:threshold=2"
thinking_tokens = 256
opening = "<think>"
closing = "</think>"
answering = "full"
answer_tokens = 200
"""

from __future__ import annotations

import tomllib
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from nestling.cli.token_policies import parse_policy
from nestling.errors import PathError

if TYPE_CHECKING:
    from nestling_runtime import Decoder
    from nestling_runtime.modes import Mode

_POLICIES = ("thinking", "answering")


def read_modes(file: Path, decoder: Decoder) -> dict[str, Mode]:
    """Return the modes of a file by name.

    Args:
        file: TOML, a table for each mode with the fields of `nestling_runtime.modes.Mode`; policies
            as the command line spells them.
        decoder: Whose paths the policies name.

    Raises:
        PathError: The file is not TOML, a mode has a field that there is not or of another type, or
            a policy names no path.
        EngineError: A mode's numbers make no sense.
    """
    from nestling_runtime.modes import Mode

    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PathError(f"the modes in {file} cannot be read", actual=str(error)) from error
    types = {field.name: int if field.name.endswith("_tokens") else str for field in fields(Mode)}
    modes = {}
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise PathError(f"{file}: the mode {name!r} is no table")
        for key, value in table.items():
            if key == "name" or key not in types:
                raise PathError(
                    f"{file}: the mode {name!r} has no {key!r}",
                    expected=", ".join(key for key in types if key != "name"),
                )
            if type(value) is not types[key]:
                raise PathError(
                    f"{file}: {key!r} of the mode {name!r} is of another type",
                    expected="a number" if types[key] is int else "a text",
                    actual=repr(value),
                )
        policies = {key: parse_policy(table[key], decoder) for key in _POLICIES if key in table}
        modes[name] = Mode(name, **{**table, **policies})
    return modes
