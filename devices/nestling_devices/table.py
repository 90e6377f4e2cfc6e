"""Strict reading of one TOML table: each key is taken once, by type and range; none may be left.

A profile with a misspelt key would silently describe another device; here it is an error that names
the key.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from nestling_devices.errors import ProfileError

_MISSING = object()
_TYPE_NAMES = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a table",
}


class Table:
    """One TOML table on its way into a dataclass.

    Args:
        values: The table as `tomllib` gives it.
        name: Its dotted name in the file, empty for the top level; errors carry it.
    """

    def __init__(self, values: Mapping[str, Any], name: str = "") -> None:
        self._rest = dict(values)
        self._name = name
        self._asked: list[str] = []

    def text(
        self, key: str, *, choices: tuple[str, ...] | None = None, default: str | None = None
    ) -> str:
        """Take a non-empty string.

        Args:
            key: Which one.
            choices: What it may be; None for anything.
            default: What a missing key means; without one the key is required.

        Raises:
            ProfileError: It is missing without a default, not a string, empty or none of the
                choices.
        """
        value: str = self._take(key, str, _MISSING if default is None else default)
        if value is default:
            return value
        if choices is not None and value not in choices:
            raise ProfileError(
                "unknown value",
                key=self._dotted(key),
                expected=f"one of {', '.join(choices)}" if choices else "nothing",
                actual=repr(value),
            )
        if not value:
            raise ProfileError("empty value", key=self._dotted(key), expected="a non-empty string")
        return value

    def integer(self, key: str, *, minimum: int, maximum: int, default: int | None = None) -> int:
        """Take an integer in a range, ends included.

        Args:
            key: Which one.
            minimum: Smallest that is allowed.
            maximum: Largest that is allowed.
            default: What a missing key means; without one the key is required.

        Raises:
            ProfileError: It is missing without a default, not an integer or out of range.
        """
        value: int = self._take(key, int, _MISSING if default is None else default)
        if not minimum <= value <= maximum:
            raise ProfileError(
                "value out of range",
                key=self._dotted(key),
                expected=f"{minimum} to {maximum}",
                actual=value,
            )
        return value

    def number(
        self, key: str, *, minimum: float, maximum: float, default: float | None = None
    ) -> float:
        """Take a number in a range, ends included; an integer will do.

        Args:
            key: Which one.
            minimum: Smallest that is allowed.
            maximum: Largest that is allowed.
            default: What a missing key means; without one the key is required.

        Raises:
            ProfileError: It is missing without a default, no number or out of range.
        """
        value = float(self._take(key, float, _MISSING if default is None else default))
        # Not a number compares false with everything, and is refused here.
        if not minimum <= value <= maximum:
            raise ProfileError(
                "value out of range",
                key=self._dotted(key),
                expected=f"{minimum:g} to {maximum:g}",
                actual=value,
            )
        return value

    def texts(self, key: str, *, optional: bool = False) -> tuple[str, ...]:
        """Take a list of non-empty, distinct strings; one that is optional may be missing or empty.

        Raises:
            ProfileError: It is missing, not such a list, or empty.
        """
        values: list[Any] = self._take(key, list, [] if optional else _MISSING)
        if optional and not values:
            return ()
        for index, value in enumerate(values):
            if not isinstance(value, str) or not value:
                raise ProfileError(
                    "wrong type",
                    key=f"{self._dotted(key)}[{index}]",
                    expected="a non-empty string",
                    actual=repr(value),
                )
        if not values or len(set(values)) != len(values):
            raise ProfileError(
                "bad list", key=self._dotted(key), expected="distinct values, at least one"
            )
        return tuple(values)

    def tables(self, key: str) -> list[Table]:
        """Take an array of tables; missing means none.

        Raises:
            ProfileError: It is something else.
        """
        values: list[Any] = self._take(key, list, [])
        for index, value in enumerate(values):
            if not isinstance(value, dict):
                raise ProfileError(
                    "wrong type",
                    key=f"{self._dotted(key)}[{index}]",
                    expected="a table",
                    actual=repr(value),
                )
        return [Table(value, f"{self._dotted(key)}[{i}]") for i, value in enumerate(values)]

    def table(self, key: str) -> Table | None:
        """Take a table; None when there is none of that name.

        Raises:
            ProfileError: It is something else.
        """
        values = self._take(key, dict, None)
        return None if values is None else Table(values, self._dotted(key))

    def finish(self) -> None:
        """Say that everything was taken.

        Raises:
            ProfileError: A key is left; the likely spelling is suggested.
        """
        for key in self._rest:
            close = difflib.get_close_matches(key, self._asked, n=1)
            raise ProfileError(
                "unknown key",
                key=self._dotted(key),
                hint=f"did you mean `{close[0]}`?" if close else None,
            )

    def _dotted(self, key: str) -> str:
        return f"{self._name}.{key}" if self._name else key

    def _take(self, key: str, kind: type, default: object = _MISSING) -> Any:
        self._asked.append(key)
        value = self._rest.pop(key, default)
        if value is _MISSING:
            raise ProfileError("missing key", key=self._dotted(key), expected=_TYPE_NAMES[kind])
        if value is default:
            return value
        accepted = (int, float) if kind is float else kind
        # bool is an int to Python, not to a reader of the file.
        if not isinstance(value, accepted) or (kind is not bool and isinstance(value, bool)):
            raise ProfileError(
                "wrong type",
                key=self._dotted(key),
                expected=_TYPE_NAMES[kind],
                actual=repr(value),
            )
        return value
