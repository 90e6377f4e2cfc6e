"""The structs of `nestling.h` that generating needs, for ctypes; see `abi`."""

from __future__ import annotations

from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_bool,
    c_char_p,
    c_double,
    c_float,
    c_int,
    c_uint8,
    c_uint32,
    c_uint64,
    c_void_p,
)

from nestling_runtime import pool_abi
from nestling_runtime.abi import Error, Policy, PolicyCost

NO_PATH = 0xFFFF_FFFF
ENTROPY_WINDOW_MAX = 64
LADDER_MAX = 16
SOFT_MAX = 16
STEERING_MAX = 32
ROUTE_LAYERS_MAX = 64

STOP_REASONS = ("length", "token", "text", "caller", "context", "error")
RULES = ("keep", "recompute", "propagate")
EXIT_SIGNALS = ("confidence", "margin", "entropy")
SOFT_SWITCHES = ("confidence", "trend")


class LogitSignals(Structure):
    """`nst_logit_signals`."""

    _fields_ = [
        ("entropy_bits", c_float),
        ("confidence", c_float),
        ("margin", c_float),
        ("best", c_uint32),
    ]


class Sampling(Structure):
    """`nst_sampling`."""

    _fields_ = [
        ("temperature", c_float),
        ("top_k", c_uint32),
        ("top_p", c_float),
        ("reserved", c_uint32),
        ("seed", c_uint64),
    ]


class StopText(Structure):
    """`nst_stop_text`."""

    _fields_ = [
        ("vocabulary_bytes", POINTER(c_uint8)),
        ("vocabulary_ends", POINTER(c_uint32)),
        ("vocabulary", c_uint32),
        ("strings", c_uint32),
        ("string_bytes", POINTER(c_uint8)),
        ("string_ends", POINTER(c_uint32)),
    ]


class TokenSignals(Structure):
    """`nst_token_signals`."""

    _fields_ = [
        ("generated", c_uint32),
        ("token", c_uint32),
        ("path", c_uint32),
        ("reserved", c_uint32),
        ("logits", LogitSignals),
        ("token_ns", c_uint64),
        ("elapsed_ns", c_uint64),
    ]


class TokenChoice(Structure):
    """`nst_token_choice`."""

    _fields_ = [
        ("path", c_uint32),
        ("draft_tokens", c_uint32),
        ("verify", c_uint32),
        ("draft_confidence", c_float),
        ("soft_tokens", c_uint32),
        ("steering", c_uint32),
        ("forced", c_uint32),
        ("token", c_uint32),
    ]


class LayerInput(Structure):
    """`nst_layer_input`."""

    _fields_ = [
        ("layer", c_uint32),
        ("layers", c_uint32),
        ("levels", c_uint32),
        ("path_level", c_uint32),
        ("skippable", c_uint32),
        ("dim", c_uint32),
        ("stream", POINTER(c_float)),
    ]


Choose = CFUNCTYPE(None, c_void_p, POINTER(TokenSignals), POINTER(TokenChoice))
Accept = CFUNCTYPE(c_uint32, c_void_p, POINTER(TokenSignals))
Route = CFUNCTYPE(c_uint32, c_void_p, POINTER(LayerInput))


class TokenPolicy(Structure):
    """`nst_token_policy`."""

    _fields_ = [("self", c_void_p), ("choose", Choose), ("accept", Accept), ("route", Route)]


class FixedPolicy(Structure):
    """`nst_fixed_policy`."""

    _fields_ = [("path", c_uint32)]


class EntropyPolicy(Structure):
    """`nst_entropy_policy`."""

    _fields_ = [
        ("small", c_uint32),
        ("large", c_uint32),
        ("threshold_bits", c_float),
        ("window", c_uint32),
        ("minimum_stay", c_uint32),
        ("ahead", c_uint32),
        ("filled", c_uint32),
        ("next", c_uint32),
        ("stay", c_uint32),
        ("current", c_uint32),
        ("entropies", c_float * ENTROPY_WINDOW_MAX),
    ]


class ExitPolicy(Structure):
    """`nst_exit_policy`."""

    _fields_ = [
        ("paths", c_uint32 * LADDER_MAX),
        ("count", c_uint32),
        ("signal", c_uint32),
        ("thresholds", c_float * LADDER_MAX),
    ]


class SpeculativePolicy(Structure):
    """`nst_speculative_policy`."""

    _fields_ = [
        ("draft", c_uint32),
        ("verify", c_uint32),
        ("tokens", c_uint32),
        ("confidence", c_float),
    ]


class RatePolicy(Structure):
    """`nst_rate_policy`."""

    _fields_ = [("costs", Policy), ("token_us", c_double), ("horizon", c_uint32)]


class SteeringPolicy(Structure):
    """`nst_steering_policy`."""

    _fields_ = [("inner", TokenPolicy), ("vectors", c_uint32), ("entropy_bits", c_float)]


class SoftPolicy(Structure):
    """`nst_soft_policy`."""

    _fields_ = [
        ("inner", TokenPolicy),
        ("decides", c_uint32),
        ("confidence", c_float),
        ("dwell", c_uint32),
        ("most_switches", c_uint32),
        ("tokens", c_uint32),
        ("soft", c_uint32),
        ("begun", c_uint32),
        ("stay", c_uint32),
        ("switches", c_uint32),
        ("reference_bits", c_float),
    ]


class RoutePolicy(Structure):
    """`nst_route_policy`."""

    _fields_ = [
        ("path", c_uint32),
        ("dim", c_uint32),
        ("hidden", c_uint32),
        ("routes", c_uint32),
        ("layers", c_uint32),
        ("price", c_float),
        ("hidden_weight", POINTER(c_float)),
        ("hidden_bias", POINTER(c_float)),
        ("output_weight", POINTER(c_float)),
        ("output_bias", POINTER(c_float)),
        ("costs", POINTER(c_float)),
        ("levels", POINTER(c_uint8)),
        ("scratch", POINTER(c_float)),
        ("route", c_uint32),
    ]


class LayerRouter(Structure):
    """`nst_layer_router`."""

    _fields_ = [
        ("weight", POINTER(c_float)),
        ("bias", POINTER(c_float)),
        ("levels", c_uint32),
        ("reserved", c_uint32),
    ]


class LayerRoutePolicy(Structure):
    """`nst_layer_route_policy`."""

    _fields_ = [
        ("path", c_uint32),
        ("dim", c_uint32),
        ("layers", c_uint32),
        ("reserved", c_uint32),
        ("routers", LayerRouter * ROUTE_LAYERS_MAX),
    ]


class ModePolicy(Structure):
    """`nst_mode_policy`."""

    _fields_ = [
        ("thinking", TokenPolicy),
        ("answering", TokenPolicy),
        ("thinking_tokens", c_uint32),
        ("closing_count", c_uint32),
        ("closing", POINTER(c_uint32)),
        ("thought", c_uint32),
        ("matched", c_uint32),
        ("forcing", c_uint32),
        ("answers", c_uint32),
    ]


class Token(Structure):
    """`nst_token`."""

    _fields_ = [
        ("token", c_uint32),
        ("path", c_uint32),
        ("drafted", c_uint32),
        ("soft_tokens", c_uint32),
        ("logits", LogitSignals),
        ("token_ns", c_uint64),
    ]


OnToken = CFUNCTYPE(c_int, c_void_p, POINTER(Token))


class GenerateOptions(Structure):
    """`nst_generate_options`."""

    _fields_ = [
        ("max_tokens", c_uint32),
        ("prompt_path", c_uint32),
        ("sampling", Sampling),
        ("stop_tokens", POINTER(c_uint32)),
        ("stop_token_count", c_uint32),
        ("prompt_steering", c_uint32),
        ("stop", POINTER(StopText)),
    ]


class GenerateStats(Structure):
    """`nst_generate_stats`."""

    _fields_ = [
        ("generated", c_uint32),
        ("reason", c_uint32),
        ("prompt_tokens", c_uint32),
        ("switches", c_uint32),
        ("drafted", c_uint32),
        ("accepted", c_uint32),
        ("second_runs", c_uint32),
        ("reserved", c_uint32),
        ("prompt_ns", c_uint64),
        ("generate_ns", c_uint64),
    ]


class DecoderInfo(Structure):
    """`nst_decoder_info`."""

    _fields_ = [
        ("paths", c_uint32),
        ("vocabulary", c_uint32),
        ("context_tokens", c_uint32),
        ("verify_tokens", c_uint32),
        ("layers", c_uint32),
        ("stream_dim", c_uint32),
    ]


class DecoderState(Structure):
    """`nst_decoder_state`."""

    _fields_ = [
        ("tokens", c_uint32),
        ("computed_tokens", c_uint32),
        ("cache_bytes", c_uint64),
        ("token_bytes", c_uint64),
        ("computed", c_uint64),
        ("recomputed", c_uint64),
        ("resumed", c_uint64),
        ("macs", c_uint64),
    ]


class Growth(Structure):
    """`nst_growth`."""

    _fields_ = [
        ("position", c_uint32),
        ("limit", c_uint32),
        ("tokens", c_uint32),
        ("reserved", c_uint32),
    ]


# What the library is asked about when it is loaded, beside `abi.CHECKED_STRUCTS`.
CHECKED_STRUCTS: dict[str, type[Structure]] = {
    "nst_decoder_info": DecoderInfo,
    "nst_decoder_state": DecoderState,
    "nst_entropy_policy": EntropyPolicy,
    "nst_exit_policy": ExitPolicy,
    "nst_generate_options": GenerateOptions,
    "nst_generate_stats": GenerateStats,
    "nst_growth": Growth,
    "nst_layer_input": LayerInput,
    "nst_layer_route_policy": LayerRoutePolicy,
    "nst_layer_router": LayerRouter,
    "nst_logit_signals": LogitSignals,
    "nst_mode_policy": ModePolicy,
    "nst_rate_policy": RatePolicy,
    "nst_route_policy": RoutePolicy,
    "nst_sampling": Sampling,
    "nst_soft_policy": SoftPolicy,
    "nst_speculative_policy": SpeculativePolicy,
    "nst_steering_policy": SteeringPolicy,
    "nst_stop_text": StopText,
    "nst_token": Token,
    "nst_token_choice": TokenChoice,
    "nst_token_policy": TokenPolicy,
    "nst_token_signals": TokenSignals,
    **pool_abi.CHECKED_STRUCTS,
}

_u32 = c_uint32
_err = POINTER(Error)

# Added to those of `native`.
PROTOTYPES: dict[str, tuple[object, tuple[object, ...]]] = {
    "nst_session_growth": (c_int, (c_void_p, POINTER(Growth), _err)),
    "nst_session_run_tokens": (c_int, (c_void_p, _u32, _err)),
    "nst_session_rewind": (c_int, (c_void_p, _u32, _err)),
    "nst_decoder_create": (c_int, (c_void_p, POINTER(c_void_p), _err)),
    "nst_decoder_destroy": (None, (c_void_p,)),
    "nst_decoder_describe": (c_int, (c_void_p, POINTER(DecoderInfo), _err)),
    "nst_decoder_path_name": (c_char_p, (c_void_p, _u32)),
    "nst_decoder_set_rule": (c_int, (c_void_p, _u32, _u32, _u32, _err)),
    "nst_decoder_rule": (c_int, (c_void_p, _u32, _u32, POINTER(_u32), _err)),
    "nst_decoder_load": (c_int, (c_void_p, _u32, _err)),
    "nst_decoder_set_steering": (c_int, (c_void_p, _u32, _u32, POINTER(c_float), _u32, _err)),
    "nst_decoder_append": (c_int, (c_void_p, POINTER(_u32), _u32, _err)),
    "nst_decoder_rewind": (c_int, (c_void_p, _u32, _err)),
    "nst_decoder_tokens": (c_int, (c_void_p, POINTER(_u32), _u32, POINTER(_u32), _err)),
    "nst_decoder_logits": (c_int, (c_void_p, _u32, POINTER(POINTER(c_float)), _err)),
    "nst_decoder_generate": (
        c_int,
        (
            c_void_p,
            POINTER(GenerateOptions),
            POINTER(TokenPolicy),
            OnToken,
            c_void_p,
            POINTER(GenerateStats),
            _err,
        ),
    ),
    "nst_decoder_cancel": (None, (c_void_p,)),
    "nst_decoder_get_state": (c_int, (c_void_p, POINTER(DecoderState), _err)),
    "nst_fixed_policy_use": (TokenPolicy, (POINTER(FixedPolicy),)),
    "nst_entropy_policy_init": (
        c_bool,
        (POINTER(EntropyPolicy), _u32, _u32, c_float, _u32, _u32, c_bool),
    ),
    "nst_entropy_policy_use": (TokenPolicy, (POINTER(EntropyPolicy),)),
    "nst_exit_policy_init": (
        c_bool,
        (POINTER(ExitPolicy), POINTER(_u32), POINTER(c_float), _u32, c_int),
    ),
    "nst_exit_policy_use": (TokenPolicy, (POINTER(ExitPolicy),)),
    "nst_speculative_policy_use": (TokenPolicy, (POINTER(SpeculativePolicy),)),
    "nst_rate_policy_init": (
        c_bool,
        (POINTER(RatePolicy), POINTER(PolicyCost), _u32, c_double, _u32),
    ),
    "nst_rate_policy_use": (TokenPolicy, (POINTER(RatePolicy),)),
    "nst_steering_policy_init": (
        c_bool,
        (POINTER(SteeringPolicy), POINTER(TokenPolicy), _u32, c_float),
    ),
    "nst_steering_policy_use": (TokenPolicy, (POINTER(SteeringPolicy),)),
    "nst_soft_policy_init": (c_bool, (POINTER(SoftPolicy), POINTER(TokenPolicy))),
    "nst_soft_policy_use": (TokenPolicy, (POINTER(SoftPolicy),)),
    "nst_mode_policy_init": (c_bool, (POINTER(ModePolicy),)),
    "nst_mode_policy_use": (TokenPolicy, (POINTER(ModePolicy),)),
    "nst_route_policy_init": (c_bool, (POINTER(RoutePolicy),)),
    "nst_route_policy_use": (TokenPolicy, (POINTER(RoutePolicy),)),
    "nst_layer_route_policy_init": (c_bool, (POINTER(LayerRoutePolicy),)),
    "nst_layer_route_policy_use": (TokenPolicy, (POINTER(LayerRoutePolicy),)),
    **pool_abi.PROTOTYPES,
}
