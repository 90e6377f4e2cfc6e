"""The structs of `nestling_pool.h`, for ctypes; see `abi`."""

from __future__ import annotations

from ctypes import POINTER, Structure, c_char_p, c_int, c_uint8, c_uint32, c_uint64, c_void_p

from nestling_runtime.abi import Error


class PoolOptions(Structure):
    """`nst_pool_options`."""

    _fields_ = [
        ("struct_bytes", c_uint64),
        ("budget_bytes", c_uint64),
        ("folder", c_char_p),
        ("share", c_uint8),
        ("reserved", c_uint8 * 7),
    ]


class PoolState(Structure):
    """`nst_pool_state`."""

    _fields_ = [
        ("budget_bytes", c_uint64),
        ("used_bytes", c_uint64),
        ("peak_bytes", c_uint64),
        ("shared_bytes", c_uint64),
        ("away_bytes", c_uint64),
        ("block_bytes", c_uint64),
        ("block_tokens", c_uint32),
        ("conversations", c_uint32),
        ("swap_outs", c_uint64),
        ("swap_ins", c_uint64),
        ("written_bytes", c_uint64),
        ("read_bytes", c_uint64),
        ("writes", c_uint64),
        ("reads", c_uint64),
        ("adopted_tokens", c_uint64),
    ]


class PoolCache(Structure):
    """`nst_pool_cache`."""

    _fields_ = [
        ("own_blocks", c_uint32),
        ("shared_blocks", c_uint32),
        ("away_blocks", c_uint32),
        ("saved_blocks", c_uint32),
    ]


# See `decoder_abi`, which adds both to its own.
CHECKED_STRUCTS: dict[str, type[Structure]] = {
    "nst_pool_cache": PoolCache,
    "nst_pool_options": PoolOptions,
    "nst_pool_state": PoolState,
}

_err = POINTER(Error)

PROTOTYPES: dict[str, tuple[object, tuple[object, ...]]] = {
    "nst_pool_options_default": (None, (POINTER(PoolOptions),)),
    "nst_pool_create": (c_int, (c_void_p, POINTER(PoolOptions), POINTER(c_void_p), _err)),
    "nst_pool_destroy": (c_int, (c_void_p, _err)),
    "nst_pool_decoder": (c_int, (c_void_p, POINTER(c_void_p), _err)),
    "nst_pool_get_state": (c_int, (c_void_p, POINTER(PoolState), _err)),
    "nst_decoder_swap_out": (c_int, (c_void_p, _err)),
    "nst_decoder_swap_in": (c_int, (c_void_p, _err)),
    "nst_decoder_cache": (c_int, (c_void_p, POINTER(PoolCache), _err)),
}
