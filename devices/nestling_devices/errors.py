"""The devices package's branches of the error tree.

::

    NestlingError            (nestling_runtime.errors, with BundleError, PathError, ...)
    |-- ProfileError         a device profile is unknown, unreadable or wrong
    |-- ToolError            a device needs a program or build that is not there; says how to get it
    |-- LinkError            the line to the device cannot be opened, or is gone
    |   `-- NoAnswerError    it is there, but no answer comes
    `-- DeviceError          the device refuses for a reason that is no other branch's

What a device refuses for a reason that the runtime knows too is the runtime's error: a bad path is
a `PathError` whether the engine runs here or there.
"""

from __future__ import annotations

from enum import IntEnum

from nestling_runtime.errors import (
    BudgetError,
    BundleError,
    CancelledError,
    EngineError,
    NestlingError,
    PathError,
    SignatureError,
    TargetError,
)


class ProfileError(NestlingError):
    """A device profile is unknown, unreadable, or has a key that is wrong.

    Args:
        message: What is wrong.
        key: Dotted name of the key concerned, e.g. `memory[0].size_bytes`.
        expected: What the key must be.
        actual: What the file says.
        hint: What the user can do about it.
    """

    def __init__(
        self,
        message: str,
        *,
        key: str | None = None,
        expected: object | None = None,
        actual: object | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, expected=expected, actual=actual, hint=hint)
        self.key = key

    def context(self) -> dict[str, object]:
        """Return the fields that are set, the key first."""
        fields = super().context()
        return {"key": self.key, **fields} if self.key else fields


class ToolError(NestlingError):
    """A device needs a program, library or build that is not there; the hint says how to get it."""


class LinkError(NestlingError):
    """The line to the device cannot be opened, is gone, or stays silent."""


class NoAnswerError(LinkError):
    """The line is there, but no answer came, however often the request was sent."""


class DeviceError(NestlingError):
    """A device refused a request, gave an answer that makes no sense, or cannot be had as asked.

    Args:
        message: The reason.
        group: SMP group that refused, 64 is nestling's; None when it is not known, or none did.
        code: Its code, for group 64 the number of a code of `firmware/core/error.h`; None as above.
        hint: What the user can do about it.
    """

    def __init__(
        self,
        message: str,
        *,
        group: int | None = None,
        code: int | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.group = group
        self.code = code

    def context(self) -> dict[str, object]:
        """Return the fields that are set, group and code first."""
        ours = {"group": self.group, "code": self.code}
        return {
            name: value for name, value in ours.items() if value is not None
        } | super().context()


class Code(IntEnum):
    """Codes of group 64: those of `firmware/core/error.h` without their sign."""

    UNKNOWN = 0
    ARGUMENT = 1
    IO = 2
    FOREIGN = 3
    VERSION = 4
    TRUNCATED = 5
    CORRUPT = 6
    HASH = 7
    SIGNATURE = 8
    LIMIT = 9
    PATH = 10
    BUDGET = 11
    TARGET = 12
    CANCELLED = 13
    ENGINE = 14
    NO_MEMORY = 15
    STATE = 16
    NOT_FOUND = 17
    END = 18

    @classmethod
    def _missing_(cls, value: object) -> Code | None:
        """Take the codes of later firmware for unknown ones."""
        return cls.UNKNOWN if isinstance(value, int) else None


_KINDS: dict[int, type[NestlingError]] = {
    Code.FOREIGN: BundleError,
    Code.VERSION: BundleError,
    Code.TRUNCATED: BundleError,
    Code.CORRUPT: BundleError,
    Code.HASH: BundleError,
    Code.LIMIT: BundleError,
    Code.SIGNATURE: SignatureError,
    Code.PATH: PathError,
    Code.NOT_FOUND: PathError,
    Code.BUDGET: BudgetError,
    Code.TARGET: TargetError,
    Code.CANCELLED: CancelledError,
    Code.ENGINE: EngineError,
}
NESTLING_GROUP = 64


def refusal_error(answer: object, reason: str) -> NestlingError:
    """Return the exception that a refusal stands for.

    Args:
        answer: `ErrorV1` or `ErrorV2` of any group, as `smpclient` returns them.
        reason: Its sentence for people; may be empty.
    """
    err = getattr(answer, "err", None)
    if err is None:
        code = getattr(answer, "rc", 0)
        return DeviceError(reason or f"the device refuses with {_name(code)}", code=int(code))
    group, code = int(err.group), err.rc
    if group != NESTLING_GROUP:
        text = reason or f"the device refuses with {_name(code)}"
        return DeviceError(text, group=group, code=int(code))
    text = reason or f"the device refuses with {_name(code)}"
    kind = _KINDS.get(int(code))
    return kind(text) if kind is not None else DeviceError(text, group=group, code=int(code))


def _name(code: object) -> str:
    """Return an SMP code's name, or its number."""
    return code.name if isinstance(code, IntEnum) else f"code {code}"
