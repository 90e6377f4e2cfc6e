"""The toolchain's branches of the error tree, and the runtime's, re-exported.

::

    NestlingError            (nestling_runtime.errors, with BundleError, PathError, ...)
    |-- ModelError           the model has no elastic place, or cannot be cut as asked
    |-- ExportError          quantising, partitioning or lowering failed
    `-- TrainError           training cannot start, resume or go on

Code in `nestling` imports errors from here, so that one line brings the whole tree.
"""

from __future__ import annotations

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

__all__ = [
    "BudgetError",
    "BundleError",
    "CancelledError",
    "EngineError",
    "ExportError",
    "ModelError",
    "NestlingError",
    "PathError",
    "SignatureError",
    "TargetError",
    "TrainError",
    "first_line",
]


def first_line(error: BaseException) -> str:
    """Return the kind of a foreign error and the beginning of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__


class ModelError(NestlingError):
    """A model has no elastic place, its widths do not divide, or it cannot be partitioned.

    Args:
        message: What is wrong with the model.
        module: Qualified name of the module concerned, as `named_modules()` gives it.
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
        module: str | None = None,
        section: str | None = None,
        stage: str | None = None,
        expected: object | None = None,
        actual: object | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(
            message, section=section, stage=stage, expected=expected, actual=actual, hint=hint
        )
        self.module = module

    def context(self) -> dict[str, object]:
        """Return the fields that are set, the module first."""
        fields = super().context()
        return {"module": self.module, **fields} if self.module else fields


class ExportError(NestlingError):
    """Quantising, partitioning or lowering a stage failed."""


class TrainError(NestlingError):
    """Training cannot start, resume or go on (bad configuration, checkpoint or data)."""
