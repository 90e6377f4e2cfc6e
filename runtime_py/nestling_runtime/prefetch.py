"""Loading a path in the background."""

from __future__ import annotations

import contextlib
from ctypes import byref, c_void_p
from types import TracebackType
from typing import TYPE_CHECKING

from nestling_runtime import abi, native
from nestling_runtime.closing import Handle
from nestling_runtime.errors import NestlingError

if TYPE_CHECKING:
    from nestling_runtime.engine import Model, ProgressCallback


class Prefetch(Handle):
    """A path that is being loaded, from `Model.prefetch`; a context manager that waits."""

    _kind = "prefetch"

    def __init__(
        self, model: Model, path: int, mode: int, progress: ProgressCallback | None
    ) -> None:
        self._model = model
        self._progress = progress
        self._raised: BaseException | None = None
        # Kept here: the library calls it until `wait` has returned.
        self._callback = abi.Progress(self._report)
        handle = c_void_p()
        native.call(
            "nst_prefetch_start", model.handle, path, mode, self._callback, None, byref(handle)
        )
        self._handle = handle.value

    def _report(self, user: object, loaded: int, total: int, left: int) -> int:
        if self._progress is None:
            return 0
        try:
            return 1 if self._progress(loaded, total, left) else 0
        except BaseException as error:  # handed to whoever waits; nothing may cross the library
            self._raised = error
            return 1

    @property
    def done(self) -> bool:
        """Whether `wait` would return at once."""
        return self._handle is None or bool(native.library().nst_prefetch_done(self._handle))

    def cancel(self) -> None:
        """Ask it to stop after the stage that is being loaded. From any thread."""
        if self._handle is not None:
            native.library().nst_prefetch_cancel(self._handle)

    def wait(self) -> None:
        """Wait for the end; a second call does nothing.

        Raises:
            CancelledError: It was cancelled; what was loaded stays.
            BudgetError: It does not fit.
            BundleError: A section is damaged.
            EngineError: ExecuTorch refuses a stage.
            Exception: Whatever the progress callback raised.
        """
        if self._handle is None:
            return
        handle, self._handle = self._handle, None
        error = abi.Error()
        code = native.library().nst_prefetch_wait(handle, byref(error))
        self._model.child_closed()
        raised, self._raised = self._raised, None
        if raised is not None:
            raise raised
        native.check(code, error)

    def close(self) -> None:
        """Cancel, wait, and forget the result."""
        self.cancel()
        with contextlib.suppress(NestlingError):
            self.wait()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.wait()
        else:
            self.close()
