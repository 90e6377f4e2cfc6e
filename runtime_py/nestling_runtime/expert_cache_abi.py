"""The structs and functions of the expert cache's core (firmware/core/expert_*.h), for ctypes.

They are apart from those of `native`, which an application needs: only the replay of traces and
tests drive the core by hand.
"""

from __future__ import annotations

import ctypes
import functools
from ctypes import (
    POINTER,
    Structure,
    c_bool,
    c_char_p,
    c_float,
    c_int,
    c_size_t,
    c_uint8,
    c_uint32,
    c_uint64,
    c_void_p,
)

from nestling_runtime import native
from nestling_runtime.errors import EngineError

NONE = 0xFFFF_FFFF
REQUESTS = 8
POLICIES = ("lru", "lfu", "least-stale", "activation", "foresight")
PREFETCHES = ("none", "predicted", "sequence")
DEMAND, PREFETCH = 0, 1
EMPTY, LOADING, READY = 0, 1, 2


class Shape(Structure):
    """`nst_expert_shape`."""

    _fields_ = [
        ("layers", c_uint32),
        ("experts", c_uint32),
        ("slices", c_uint32),
        ("slots", c_uint32),
    ]


class Visit(Structure):
    """`nst_expert_visit`."""

    _fields_ = [
        ("request", c_uint32),
        ("layer", c_uint32),
        ("probabilities", POINTER(c_float)),
        ("chosen", POINTER(c_uint32)),
        ("count", c_uint32),
    ]


class Eviction(Structure):
    """`nst_expert_eviction`; only its name is looked at from here."""

    _fields_ = [
        ("name", c_char_p),
        *((name, c_void_p) for name in ("state_bytes", "start", "begin", "route", "expect")),
        *((name, c_void_p) for name in ("use", "before")),
    ]


class Slot(Structure):
    """`nst_expert_slot`."""

    _fields_ = [
        ("key", c_uint32),
        ("pins", c_uint32),
        ("state", c_uint8),
        ("ahead", c_uint8),
        ("awaited", c_uint8),
        ("reserved", c_uint8),
    ]


class Counts(Structure):
    """`nst_expert_counts`."""

    _fields_ = [
        ("hits", c_uint64),
        ("late", c_uint64),
        ("misses", c_uint64),
        ("evictions", c_uint64),
        ("prefetched", c_uint64),
        ("prefetch_used", c_uint64),
    ]


class Cache(Structure):
    """`nst_expert_cache`."""

    _fields_ = [
        ("shape", Shape),
        ("eviction", POINTER(Eviction)),
        ("policy", c_void_p),
        ("slots", POINTER(Slot)),
        ("slot_of", POINTER(c_uint32)),
        ("keys", c_uint32),
        ("counts", Counts),
    ]


class Step(Structure):
    """`nst_expert_step`."""

    _fields_ = [("layer", c_uint32), ("count", c_uint32), ("chosen", c_uint32 * 16)]


class Sequence(Structure):
    """`nst_expert_sequence`."""

    _fields_ = [
        ("layers", c_uint32),
        ("experts", c_uint32),
        ("counts", c_void_p),
        ("steps", Step * REQUESTS),
    ]


class Trace(Structure):
    """`nst_expert_trace`."""

    _fields_ = [
        ("rows", c_uint32),
        ("top_k", c_uint32),
        ("layers", c_void_p),
        ("requests", c_void_p),
        ("probabilities", c_void_p),
        ("chosen", c_void_p),
        ("predicted_layers", c_void_p),
        ("predicted", c_void_p),
    ]


class ReplayRoom(Structure):
    """`nst_expert_replay_room`."""

    _fields_ = [("chosen", c_void_p), ("taken", c_void_p), ("chances", c_void_p)]


_u32 = c_uint32
_cache = POINTER(Cache)
_shape = POINTER(Shape)
_eviction = POINTER(Eviction)
_sequence = POINTER(Sequence)

PROTOTYPES: dict[str, tuple[object, tuple[object, ...]]] = {
    "nst_expert_eviction_at": (_eviction, (_u32,)),
    "nst_expert_cache_bytes": (c_uint64, (_shape, _eviction)),
    "nst_expert_cache_init": (c_int, (_cache, _shape, _eviction, c_void_p, c_size_t)),
    "nst_expert_cache_begin_request": (None, (_cache, _u32)),
    "nst_expert_cache_route": (c_bool, (_cache, POINTER(Visit))),
    "nst_expert_cache_expect": (c_bool, (_cache, POINTER(Visit))),
    "nst_expert_cache_find": (_u32, (_cache, _u32)),
    "nst_expert_cache_await": (_u32, (_cache, _u32)),
    "nst_expert_cache_peek": (_u32, (_cache, _u32)),
    "nst_expert_cache_claim": (c_int, (_cache, _u32, c_int, POINTER(_u32))),
    "nst_expert_cache_ready": (c_bool, (_cache, _u32)),
    "nst_expert_cache_drop": (c_bool, (_cache, _u32)),
    "nst_expert_cache_pin": (c_bool, (_cache, _u32)),
    "nst_expert_cache_unpin": (c_bool, (_cache, _u32)),
    "nst_expert_cache_reset_counts": (None, (_cache,)),
    "nst_expert_sequence_bytes": (c_uint64, (_shape,)),
    "nst_expert_sequence_init": (c_int, (_sequence, _shape, c_void_p, c_size_t)),
    "nst_expert_sequence_begin_request": (None, (_sequence, _u32)),
    "nst_expert_sequence_note": (c_bool, (_sequence, POINTER(Visit))),
    "nst_expert_sequence_predict": (_u32, (_sequence, _u32, POINTER(c_float))),
    "nst_expert_replay": (
        c_int,
        (_cache, POINTER(Trace), _u32, _sequence, POINTER(ReplayRoom)),
    ),
}


@functools.cache
def library() -> ctypes.CDLL:
    """Return libnestling with the prototypes of these functions set, too.

    Raises:
        EngineError: The library cannot be found, or is of another version.
    """
    loaded = native.library()
    for name, (result, arguments) in PROTOTYPES.items():
        function = getattr(loaded, name, None)
        if function is None:
            raise EngineError("libnestling is of another version", expected=name, actual="no such")
        function.restype = result
        function.argtypes = arguments
    return loaded
