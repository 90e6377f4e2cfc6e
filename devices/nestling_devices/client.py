"""The one SMP client under all devices: smpclient, made synchronous and patient.

A request that brings no answer, or a damaged one, is sent again, with the same number, until it is
answered or the tries are used up. That is safe because every request of the protocol may come twice
(pieces of a transfer carry their offset, and the device says which one it expects).
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError as FutureCancelledError
from typing import Any, TypeVar

from smp.error import MGMT_ERR
from smp.exceptions import SMPException
from smpclient import SMPClient
from smpclient.exceptions import SMPClientException
from smpclient.generics import SMPRequest, TEr1, TEr2, TRep, success
from smpclient.requests.os_management import EchoWrite, MCUMgrParametersRead
from smpclient.transport import SMPTransportDisconnected

from nestling_devices.errors import LinkError, NoAnswerError, refusal_error
from nestling_devices.line import Line
from nestling_devices.sentences import with_sentences
from nestling_devices.transport import DamagedFrameError, LineTransport
from nestling_runtime.closing import Closing

DEFAULT_TIMEOUT_S = 2.5
DEFAULT_TRIES = 5
DEFAULT_CONNECT_S = 10.0

_BUSY_WAIT_S = 0.2

_Result = TypeVar("_Result")

# What concerns the user becomes an error of ours; a request that is sent again concerns nobody.
logging.getLogger("smpclient").setLevel(logging.CRITICAL)


class Client(Closing):
    """A connection to one SMP server. A context manager.

    Calls from several threads take turns; `interject` does not wait for its turn.

    Args:
        open_line: Opens the line, trying for a number of seconds.
        timeout_s: Of one try of one request.
        tries: How often a request is sent before it fails.
        connect_s: How long to wait for the line and the first answer.

    Attributes:
        smp: smpclient's own client, on the same line; its coroutines run by `call`.
        smp: smpclient's own client, on the same line; its coroutines run by `call`.
        timeout_s: As above.
        retries: Requests that had to be sent again so far.

    Raises:
        LinkError: The line cannot be opened, or nobody answers.
    """

    def __init__(
        self,
        open_line: Callable[[float], Line],
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        tries: int = DEFAULT_TRIES,
        connect_s: float = DEFAULT_CONNECT_S,
    ) -> None:
        self.retries = 0
        self.timeout_s = timeout_s
        self._tries = tries
        self._turn = threading.Lock()
        self._transport = LineTransport(open_line)
        self.smp = SMPClient(self._transport, "", timeout_s)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="nestling-smp", daemon=True
        )
        self._thread.start()
        try:
            self.call(self._transport.connect("", connect_s))
            # The first answer may take as long as the device takes to start.
            parameters = self.request(MCUMgrParametersRead(), patience_s=connect_s)
            self._transport.initialize(parameters.buf_size)
        except BaseException:
            self.close()
            raise

    @property
    def line(self) -> Line:
        """The line under it."""
        return self._transport.line

    @property
    def message_bytes(self) -> int:
        """Largest message, header included, that the device takes."""
        return int(self._transport.max_unencoded_size)

    def request(
        self,
        message: SMPRequest[TRep, TEr1, TEr2],
        *,
        patience_s: float = 0.0,
        tries: int | None = None,
    ) -> TRep:
        """Send a request and return its answer.

        Args:
            message: A request of `smpclient` or of `nestling_devices.messages`.
            patience_s: Go on sending it this long, for work that takes the device its time: it
                answers that it is busy, or does not answer, until it is done.
            tries: How often to send it at least; the client's own number by default.

        Raises:
            NoAnswerError: No answer came, however often it was sent.
            LinkError: The line is gone, or the message does not fit into the device's buffer.
            NestlingError: The device refused; see `nestling_devices.errors`.
        """
        least = self._tries if tries is None else tries
        sent = 0
        failure: BaseException | None = None
        with self._turn:
            end = time.monotonic() + patience_s
            while sent < least or time.monotonic() < end:
                self.retries += sent > 0
                sent += 1
                try:
                    answer = self.call(self.smp.request(message, self.timeout_s))
                except TimeoutError:
                    failure = TimeoutError(f"nothing came in {self.timeout_s} s")
                    continue
                except (DamagedFrameError, SMPException, SMPClientException) as error:
                    failure = error
                    continue
                except ValueError as error:
                    raise LinkError("the message cannot be sent", actual=str(error)) from error
                except (SMPTransportDisconnected, OSError) as error:
                    raise LinkError("the line to the device is gone", actual=str(error)) from error
                if success(answer):
                    return answer
                failure = refusal_error(answer, with_sentences(getattr(answer, "rsn", None) or ""))
                if not _is_busy(answer):
                    raise failure
                # An earlier try is still being worked on, and its answer will do for this one too.
                time.sleep(min(_BUSY_WAIT_S, self.timeout_s))
        raise NoAnswerError(
            f"the device does not answer {type(message).__name__}",
            actual=f"{sent} tries; at last, {' '.join(str(failure).split())[:200]}",
            hint="check the line, or reset the device",
        ) from failure

    def interject(self, message: SMPRequest[TRep, TEr1, TEr2]) -> bool:
        """Send a request past one that is being waited for, or in turn when there is none.

        Returns:
            Whether an answer was waited for.

        Raises:
            LinkError: The line is gone.
            NestlingError: The device refused.
        """
        if self._turn.locked():
            try:
                self._transport.interject(message.BYTES)
            except (SMPTransportDisconnected, OSError) as error:
                raise LinkError("the line to the device is gone", actual=str(error)) from error
            return False
        self.request(message)
        return True

    def echo(self, text: str) -> str:
        """Let the device say something back.

        Raises:
            LinkError: No answer.
        """
        return self.request(EchoWrite(d=text)).r

    def close(self) -> None:
        """Close the line; may be called twice."""
        if self._loop.is_closed():
            return
        try:
            if hasattr(self._transport, "_conn"):
                self.call(self._transport.disconnect())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def call(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Run something on the client's own event loop and wait for it, e.g. `smp.upload`.

        Raises:
            LinkError: The connection is closed.
        """
        if self._loop.is_closed():
            work.close()
            raise LinkError("the connection is closed")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except FutureCancelledError as error:
            raise LinkError("the connection is closed") from error
        except KeyboardInterrupt:
            future.cancel()
            raise


def _is_busy(answer: object) -> bool:
    return getattr(answer, "rc", None) == MGMT_ERR.EBUSY
