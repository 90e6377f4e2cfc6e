"""Objects that hold something until `close`: context managers all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import ClassVar, Self

from nestling_runtime.errors import EngineError


class Closing(ABC):
    """A context manager that gives itself and ends with `close`."""

    @abstractmethod
    def close(self) -> None:
        """Let go of everything; may be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Handle(Closing):
    """An object of the native library, which is closed when it is forgotten, too."""

    _kind: ClassVar[str]  # what an error calls it
    _handle: int | None = None  # None before it is made and after it is closed

    @property
    def handle(self) -> int:
        """The native pointer, for other ctypes code.

        Raises:
            EngineError: It is closed.
        """
        if self._handle is None:
            raise EngineError(f"the {self._kind} is closed")
        return self._handle

    def __del__(self) -> None:
        if self._handle is not None:
            self.close()
