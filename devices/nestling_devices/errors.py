"""The devices package's branch of the error tree."""

from __future__ import annotations

from nestling_runtime.errors import NestlingError


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
