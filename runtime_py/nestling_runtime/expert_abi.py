"""The structs of `nestling_experts.h` for ctypes; see `abi`."""

from __future__ import annotations

from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_float,
    c_int,
    c_uint32,
    c_uint64,
    c_void_p,
)

from nestling_runtime.abi import Error

PREDICTORS = ("none", "sequence", "router")
ON_MISS = ("wait", "low_bits", "second_choice", "elsewhere")
ORDERS = ("auto", "cache", "queue")
EVICTIONS = ("lru", "lfu", "least-stale", "activation", "foresight")
FORMATS = ("f32", "nibbles")
ACTIVATIONS = ("silu", "gelu", "relu", "gelu_tanh")
GATED, RENORMALISE, BIASES = 1, 2, 4

Elsewhere = CFUNCTYPE(
    c_int, c_void_p, c_uint32, c_uint32, POINTER(c_float), c_uint32, POINTER(c_float)
)


class ExpertOptions(Structure):
    """`nst_expert_options`."""

    _fields_ = [
        ("struct_bytes", c_uint64),
        ("budget_bytes", c_uint64),
        ("timeout_us", c_uint64),
        ("storage_bytes_per_s", c_uint64),
        ("storage_latency_us", c_uint64),
        ("eviction", c_uint32),
        ("predictor", c_uint32),
        ("on_miss", c_uint32),
        ("order", c_uint32),
        ("bits", c_uint32),
        ("second_choice_ratio", c_float),
        ("elsewhere", Elsewhere),
        ("elsewhere_user", c_void_p),
    ]


class ExpertView(Structure):
    """`nst_expert_view`."""

    _fields_ = [
        ("layers", c_uint32),
        ("experts", c_uint32),
        ("slices", c_uint32),
        ("slot_bytes", c_uint32),
        ("most_experts", c_uint32),
        ("reserved", c_uint32),
        ("bytes", c_uint64),
    ]


class ExpertLayerView(Structure):
    """`nst_expert_layer_view`."""

    _fields_ = [
        ("dim", c_uint32),
        ("hidden", c_uint32),
        ("experts", c_uint32),
        ("top_k", c_uint32),
        ("format", c_uint32),
        ("group", c_uint32),
        ("activation", c_uint32),
        ("flags", c_uint32),
        ("predicted_layer", c_uint32),
        ("reserved", c_uint32),
        ("slice_bytes", c_uint64 * 2),
    ]


class ExpertStats(Structure):
    """`nst_expert_stats`."""

    _fields_ = [
        (name, c_uint64)
        for name in (
            "calls",
            "tokens",
            "hits",
            "late",
            "misses",
            "evictions",
            "prefetched",
            "prefetch_used",
            "loads",
            "loaded_bytes",
            "failed_loads",
            "timeouts",
            "low_bits",
            "second_choices",
            "elsewhere",
            "queue_calls",
            "wait_ns",
            "compute_ns",
            "load_ns",
            "budget_bytes",
            "slots",
            "resident",
            "resident_bytes",
            "peak_bytes",
            "storage_bytes_per_s",
            "storage_latency_us",
        )
    ]


class ExpertCall(Structure):
    """`nst_expert_call`."""

    _fields_ = [
        ("request", c_uint32),
        ("layer", c_uint32),
        ("tokens", c_uint32),
        ("chosen", c_uint32),
    ]


CHECKED_STRUCTS: dict[str, type[Structure]] = {
    "nst_expert_call": ExpertCall,
    "nst_expert_layer_view": ExpertLayerView,
    "nst_expert_options": ExpertOptions,
    "nst_expert_stats": ExpertStats,
    "nst_expert_view": ExpertView,
}

_err = POINTER(Error)

PROTOTYPES: dict[str, tuple[object, tuple[object, ...]]] = {
    "nst_expert_options_default": (None, (POINTER(ExpertOptions),)),
    "nst_model_configure_experts": (c_int, (c_void_p, POINTER(ExpertOptions), _err)),
    "nst_model_load_experts": (c_int, (c_void_p, _err)),
    "nst_model_expert_view": (c_int, (c_void_p, POINTER(ExpertView), _err)),
    "nst_model_expert_layer": (c_int, (c_void_p, c_uint32, POINTER(ExpertLayerView), _err)),
    "nst_model_expert_stats": (c_int, (c_void_p, POINTER(ExpertStats), _err)),
    "nst_model_reset_expert_stats": (c_int, (c_void_p, _err)),
    "nst_model_record_experts": (c_int, (c_void_p, c_uint32, _err)),
    "nst_model_recorded_experts": (c_uint32, (c_void_p, POINTER(c_uint64))),
    "nst_model_recorded_expert": (
        c_int,
        (
            c_void_p,
            c_uint32,
            POINTER(ExpertCall),
            POINTER(c_float),
            POINTER(c_uint32),
            c_uint32,
            _err,
        ),
    ),
}
