"""The one error tree of nestling.

Every failure that a user of nestling can meet is a `NestlingError`; the class says who has to act,
the fields say where to look::

    NestlingError
    |-- BundleError        the file is corrupt, foreign, cut short or of a newer version
    |   `-- SignatureError the signature is missing, malformed or not by a trusted key
    |-- PathError          the path is unknown, or its stages cannot run in that order
    |-- BudgetError        the memory budget does not hold what was asked; carries `missing_bytes`
    |-- TargetError        the bundle was built for a target that this runtime does not have
    |-- CancelledError     the run was cancelled between two stages
    `-- EngineError        ExecuTorch refused a program, a method or an input
        `-- ContextError   a conversation is as long as the model's context

The toolchain adds its own branches in `nestling.errors`. This module imports nothing, so that every
other one may import it.

A message is one sentence without a full stop; context goes into the keyword fields and is appended
by `str()`, so that the command line, Python and the logs say the same thing.
"""

from __future__ import annotations


class NestlingError(Exception):
    """Base of every error that nestling raises on purpose.

    Args:
        message: What went wrong, one sentence, lower case, no full stop.
        section: Name of the bundle section concerned.
        stage: Name of the stage concerned.
        expected: What the reader, the engine or the caller's contract asks for.
        actual: What was found instead.
        hint: What the user can do about it.
    """

    def __init__(
        self,
        message: str,
        *,
        section: str | None = None,
        stage: str | None = None,
        expected: object | None = None,
        actual: object | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.section = section
        self.stage = stage
        self.expected = expected
        self.actual = actual
        self.hint = hint

    def context(self) -> dict[str, object]:
        """Return the fields that are set, for logs and `--json` output."""
        fields = {
            "section": self.section,
            "stage": self.stage,
            "expected": self.expected,
            "actual": self.actual,
            "hint": self.hint,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def __str__(self) -> str:
        """Return the message, the context in parentheses, then the hint."""
        notes = [f"{name} {value}" for name, value in self.context().items() if name != "hint"]
        text = f"{self.message} ({', '.join(notes)})" if notes else self.message
        return f"{text}; {self.hint}" if self.hint else text

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the fields when the error crosses a process border (export workers)."""
        return (_rebuild, (type(self), self.message, self.__dict__.copy()))


def _rebuild(kind: type[NestlingError], message: str, fields: dict[str, object]) -> NestlingError:
    """Make an unpickled error again without going through a subclass's own signature."""
    error = kind.__new__(kind, message)
    Exception.__init__(error, message)
    error.__dict__.update(fields)
    return error


class BundleError(NestlingError):
    """The bundle is corrupt, cut short, foreign or of a newer format version."""


class SignatureError(BundleError):
    """The bundle's signature is missing, malformed or not made by a trusted key."""


class PathError(NestlingError):
    """A path is unknown, or its stages do not fit together in that order."""


class BudgetError(NestlingError):
    """The memory budget cannot hold what was asked for, even after eviction.

    Args:
        message: What was to be loaded.
        missing_bytes: By how many bytes the budget is too small.
        section: See `NestlingError`.
        stage: See `NestlingError`.
        expected: See `NestlingError`.
        actual: See `NestlingError`.
        hint: See `NestlingError`.
    """

    def __init__(
        self,
        message: str,
        *,
        missing_bytes: int = 0,
        section: str | None = None,
        stage: str | None = None,
        expected: object | None = None,
        actual: object | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(
            message, section=section, stage=stage, expected=expected, actual=actual, hint=hint
        )
        self.missing_bytes = missing_bytes

    def context(self) -> dict[str, object]:
        """Return the fields that are set, the missing bytes among them."""
        fields = super().context()
        return {"missing_bytes": self.missing_bytes, **fields} if self.missing_bytes else fields


class TargetError(NestlingError):
    """The bundle was built for a target which this runtime, or this toolchain, does not have."""


class CancelledError(NestlingError):
    """The run was cancelled between two stages; the session is still usable."""


class EngineError(NestlingError):
    """ExecuTorch refused a program, a method, an input or an output."""


class ContextError(EngineError):
    """A conversation is as long as the model's context, or a prompt does not fit into it."""
