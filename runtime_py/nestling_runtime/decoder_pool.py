"""Many conversations in a budget of memory: those that wait go to files, beginnings are shared.

with nestling_runtime.open("model.nest") as model, model.decoder_pool(64 << 20) as pool:
    talks = [pool.decoder() for _ in range(100)]
    talks[0].append(tokens)
    talks[0].generate("full")
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Sequence
from ctypes import byref, c_void_p
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nestling_runtime import native, pool_abi
from nestling_runtime.closing import Handle
from nestling_runtime.decoder import Decoder

if TYPE_CHECKING:
    from nestling_runtime.engine import Model


@dataclass(frozen=True)
class PoolState:
    """What a pool holds and has done.

    Attributes:
        budget_bytes: For rows in memory, in whole blocks.
        used_bytes: Of blocks in memory; shared ones count once.
        peak_bytes: Highest `used_bytes` so far.
        shared_bytes: Of blocks in shared memory, in use or kept for later.
        away_bytes: Of blocks that are in files alone.
        block_bytes: Of one block.
        block_tokens: Tokens of one block.
        conversations: Decoders of the pool.
        swap_outs: Conversations that left memory so far.
        swap_ins: Conversations that came back.
        written_bytes: To files so far.
        read_bytes: From files so far.
        writes: Transfers to files.
        reads: Transfers from files.
        adopted_tokens: That were not computed, since another conversation had them.
    """

    budget_bytes: int
    used_bytes: int
    peak_bytes: int
    shared_bytes: int
    away_bytes: int
    block_bytes: int
    block_tokens: int
    conversations: int
    swap_outs: int
    swap_ins: int
    written_bytes: int
    read_bytes: int
    writes: int
    reads: int
    adopted_tokens: int


@dataclass(frozen=True)
class PoolCache:
    """Where the blocks of one conversation are.

    Attributes:
        own_blocks: In memory of its own.
        shared_blocks: In memory once for all that have them.
        away_blocks: In its file alone.
        saved_blocks: Whose content is in its file, whether in memory or not.
    """

    own_blocks: int
    shared_blocks: int
    away_blocks: int
    saved_blocks: int


class PooledDecoder(Decoder):
    """A conversation of a pool; made by `DecoderPool.decoder`.

    Where what was swapped out cannot be read, `generate` and `logits` raise an `EngineError` once;
    the tokens stay, and the next call computes their rows anew.
    """

    def __init__(self, model: Model, pool: DecoderPool, vocabulary: Sequence[bytes] | None) -> None:
        self._pool = pool
        super().__init__(model, vocabulary)

    def _create(self) -> int | None:
        handle = c_void_p()
        native.call("nst_pool_decoder", self._pool.handle, byref(handle))
        return handle.value

    def swap_out(self) -> None:
        """Free the memory of its caches now.

        Raises:
            EngineError: The file cannot be written; the rows stay in memory.
        """
        with self._lock:
            self._call("nst_decoder_swap_out")

    def swap_in(self) -> None:
        """Begin to read what was swapped out, for a use that is expected soon; does not wait.

        Raises:
            BudgetError: What generates now leaves too little memory.
        """
        with self._lock:
            self._call("nst_decoder_swap_in")

    def cache(self) -> PoolCache:
        """Return where its blocks are."""
        raw = pool_abi.PoolCache()
        with self._lock:
            self._call("nst_decoder_cache", byref(raw))
        return PoolCache(raw.own_blocks, raw.shared_blocks, raw.away_blocks, raw.saved_blocks)

    def close(self) -> None:
        """See `Decoder`."""
        open_before = self._handle is not None
        super().close()
        if open_before:
            self._pool.child_closed()


class DecoderPool(Handle):
    """Memory for many conversations; made by `Model.decoder_pool`. A context manager.

    Decoders of one pool may be used by several threads at once.

    Args:
        model: An open model whose bundle holds a decoder.
        budget_bytes: For rows of all caches in memory; holds at every moment.
        folder: Where files of conversations go that are swapped out: the pool makes a folder in it
            that only its user may open. Default: the system's for temporary files.
        share: Whether beginnings that conversations have in common are kept, and computed, once.
    """

    _kind = "pool"

    def __init__(
        self,
        model: Model,
        budget_bytes: int,
        *,
        folder: str | os.PathLike[str] | None = None,
        share: bool = True,
    ) -> None:
        self._model = model
        self._lock = threading.RLock()
        self._decoders: weakref.WeakSet[PooledDecoder] = weakref.WeakSet()
        self._alive = 0
        self._abandoned = False
        options = pool_abi.PoolOptions()
        native.library().nst_pool_options_default(byref(options))
        options.budget_bytes = max(0, budget_bytes)
        options.folder = None if folder is None else os.fsencode(folder)
        options.share = share
        handle = c_void_p()
        native.call("nst_pool_create", model.handle, byref(options), byref(handle))
        self._handle = handle.value

    def decoder(self, vocabulary: Sequence[bytes] | None = None) -> PooledDecoder:
        """Create a conversation.

        Args:
            vocabulary: The text of every token, for stop texts; default: token n is byte n.

        Raises:
            EngineError: There is no memory, or the pool is closed.
        """
        decoder = PooledDecoder(self._model, self, vocabulary)
        with self._lock:
            self._decoders.add(decoder)
            self._alive += 1
        self._model.adopt(decoder)
        return decoder

    def state(self) -> PoolState:
        """Return what the pool holds."""
        raw = pool_abi.PoolState()
        native.call("nst_pool_get_state", self.handle, byref(raw))
        return PoolState(*(getattr(raw, name) for name, *_ in raw._fields_))

    def child_closed(self) -> None:
        """Hear from a decoder that it is gone."""
        with self._lock:
            self._alive -= 1
            if self._abandoned and self._alive == 0:
                self._destroy()

    def close(self) -> None:
        """Close all conversations and remove their files; may be called twice."""
        for decoder in list(self._decoders):
            decoder.close()
        with self._lock:
            # Garbage that refers to itself is finalised in any order: the last one ends the pool.
            self._abandoned = True
            if self._alive == 0:
                self._destroy()

    def _destroy(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            native.call("nst_pool_destroy", handle)
            self._model.child_closed()
