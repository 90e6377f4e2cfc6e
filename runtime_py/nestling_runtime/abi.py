"""The structs and constants of `nestling.h` and `firmware/core`, for ctypes.

Sizes are compared with the library's own when it is loaded (`nestling_runtime.native`), so that a
mismatch is an error at import and not a wrong number later.
"""

from __future__ import annotations

import ctypes
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_bool,
    c_char,
    c_char_p,
    c_double,
    c_int,
    c_int64,
    c_size_t,
    c_uint8,
    c_uint32,
    c_uint64,
    c_void_p,
)

NONE = 0xFFFF_FFFF
MAX_DIMS = 16
PREFIX_BYTES = 64
TABLES = 7

OK = 0
E_ARGUMENT = -1
E_IO = -2
E_FOREIGN = -3
E_VERSION = -4
E_TRUNCATED = -5
E_CORRUPT = -6
E_HASH = -7
E_SIGNATURE = -8
E_LIMIT = -9
E_PATH = -10
E_BUDGET = -11
E_TARGET = -12
E_CANCELLED = -13
E_ENGINE = -14
E_NO_MEMORY = -15
E_STATE = -16
E_NOT_FOUND = -17
E_END = -18

ABI_VERSION = 2
MAX_TARGETS = 16

SECTION_KINDS = ("program", "blob", "data")
DTYPES = ("f32", "f16", "i64", "i32", "u8", "i8", "bool")
ROLES = ("input", "output", "state", "internal")

Progress = CFUNCTYPE(c_int, c_void_p, c_uint64, c_uint64, c_uint32)
Log = CFUNCTYPE(None, c_void_p, c_char_p)


class Error(Structure):
    """`nst_error`."""

    _fields_ = [
        ("code", c_int),
        ("section", c_char * 128),
        ("stage", c_char * 128),
        ("expected", c_uint64),
        ("actual", c_uint64),
        ("message", c_char * 192),
    ]


class Text(Structure):
    """`nst_text`: UTF-8 without a terminating zero."""

    _fields_ = [("data", c_void_p), ("bytes", c_size_t)]

    def __str__(self) -> str:
        return ctypes.string_at(self.data, self.bytes).decode() if self.bytes else ""


class List(Structure):
    """`nst_list`."""

    _fields_ = [("at", c_void_p), ("end", c_void_p), ("count", c_uint32), ("below", c_uint32)]


class Prefix(Structure):
    """`nst_prefix`."""

    _fields_ = [
        ("format_version", c_uint32),
        ("signature_bytes", c_uint32),
        ("manifest_bytes", c_uint64),
        ("total_bytes", c_uint64),
        ("manifest_sha256", c_uint8 * 32),
    ]


class SectionInfo(Structure):
    """`nst_section_info`."""

    _fields_ = [
        ("name", Text),
        ("kind", c_int),
        ("offset", c_uint64),
        ("size", c_uint64),
        ("sha256", POINTER(c_uint8)),
        ("has_level", c_bool),
        ("level", c_uint32),
    ]


class SlotInfo(Structure):
    """`nst_slot_info`."""

    _fields_ = [
        ("name", Text),
        ("dtype", c_int),
        ("role", c_int),
        ("rank", c_uint32),
        ("shape", c_uint32 * MAX_DIMS),
        ("append", c_uint32),
        ("bytes", c_uint64),
    ]


class ConstantInfo(Structure):
    """`nst_constant_info`."""

    _fields_ = [
        ("key", Text),
        ("section", c_uint32),
        ("offset", c_uint64),
        ("size", c_uint64),
        ("data", c_void_p),
        ("has_layout", c_bool),
        ("dtype", c_int),
        ("rank", c_uint32),
        ("shape", c_uint32 * MAX_DIMS),
        ("dim_order", c_uint8 * MAX_DIMS),
    ]


class ProgramInfo(Structure):
    """`nst_program_info`."""

    _fields_ = [
        ("section", c_uint32),
        ("offset", c_uint64),
        ("size", c_uint64),
        ("unpacked_bytes", c_uint64),
        ("data", c_void_p),
        ("method", Text),
        ("target", Text),
    ]


class PositionInfo(Structure):
    """`nst_position_info`."""

    _fields_ = [("name", Text), ("layer", c_uint32), ("required", c_bool), ("part", c_bool)]


class StageInfo(Structure):
    """`nst_stage_info`."""

    _fields_ = [
        ("name", Text),
        ("program", c_uint32),
        ("first", c_uint32),
        ("last", c_uint32),
        ("level", c_uint32),
        ("bits", c_uint32),
        ("macs", c_uint64),
        ("arena_bytes", c_uint64),
        ("inputs", List),
        ("outputs", List),
        ("bindings", List),
    ]


class PathInfo(Structure):
    """`nst_path_info`."""

    _fields_ = [
        ("name", Text),
        ("chain", List),
        ("fused", c_uint32),
        ("parameters", c_uint64),
        ("macs", c_uint64),
        ("weight_bytes", c_uint64),
        ("quality", List),
        ("cost_us", List),
    ]


class Note(Structure):
    """`nst_note`; `type` counts null, bool, uint, negative int, float, text."""

    _fields_ = [
        ("name", Text),
        ("type", c_int),
        ("boolean", c_bool),
        ("uint_value", c_uint64),
        ("int_value", c_int64),
        ("float_value", c_double),
        ("text", Text),
    ]


class BundleInfo(Structure):
    """`nst_bundle_info`."""

    _fields_ = [
        ("name", Text),
        ("producer", Text),
        ("target", Text),
        ("scheme", Text),
        ("family", Text),
        ("meta", List),
        ("signature", c_void_p),
        ("signature_bytes", c_size_t),
        ("manifest_sha256", POINTER(c_uint8)),
    ]


class Bundle(Structure):
    """`nst_bundle`."""

    _fields_ = [
        ("data", c_void_p),
        ("size", c_size_t),
        ("manifest", c_void_p),
        ("manifest_end", c_void_p),
        ("count", c_uint32 * TABLES),
        ("first", c_uint32 * TABLES),
        ("entry", c_void_p),
        ("order", c_void_p),
        ("prefix", Prefix),
        ("info", BundleInfo),
    ]


class ModelOptions(Structure):
    """`nst_model_options`."""

    _fields_ = [
        ("struct_bytes", c_uint64),
        ("budget_bytes", c_uint64),
        ("threads", c_uint32),
        ("workspace", c_uint32),
        ("verify_all", c_uint8),
        ("weight_cache", c_uint8),
        ("keep_pages", c_uint8),
        ("reserved", c_uint8 * 5),
        ("targets", c_char_p),
        ("log", Log),
        ("log_user", c_void_p),
    ]


class PathView(Structure):
    """`nst_path_view`."""

    _fields_ = [
        ("name", c_char_p),
        ("stages", c_uint32),
        ("fused", c_uint32),
        ("parameters", c_uint64),
        ("macs", c_uint64),
        ("weight_bytes", c_uint64),
        ("missing_bytes", c_uint64),
    ]


class Tensor(Structure):
    """`nst_tensor`."""

    _fields_ = [
        ("name", c_char_p),
        ("data", c_void_p),
        ("bytes", c_size_t),
        ("dtype", c_uint32),
        ("role", c_uint32),
        ("rank", c_uint32),
        ("shape", c_uint32 * MAX_DIMS),
    ]


class Memory(Structure):
    """`nst_memory`."""

    _fields_ = [
        ("resident_bytes", c_uint64),
        ("constant_bytes", c_uint64),
        ("stage_bytes", c_uint64),
        ("peak_bytes", c_uint64),
        ("budget_bytes", c_uint64),
        ("arena_bytes", c_uint64),
        ("stages_resident", c_uint32),
        ("stages_pinned", c_uint32),
        ("loads", c_uint64),
        ("evictions", c_uint64),
    ]


class StageStats(Structure):
    """`nst_stage_stats`."""

    _fields_ = [
        ("calls", c_uint64),
        ("total_ns", c_uint64),
        ("min_ns", c_uint64),
        ("last_ns", c_uint64),
        ("loads", c_uint64),
        ("load_ns", c_uint64),
        ("resident_bytes", c_uint64),
        ("resident", c_uint32),
        ("pins", c_uint32),
    ]


class Selection(Structure):
    """`nst_selection`."""

    _fields_ = [
        ("path", c_uint32),
        ("mode", c_uint32),
        ("stages", c_uint32),
        ("reserved", c_uint32),
        ("runs", c_uint64),
        ("last_run_ns", c_uint64),
    ]


class TargetView(Structure):
    """`nst_target_view`."""

    _fields_ = [
        ("name", c_char_p),
        ("reason", c_char_p),
        ("runs", c_uint32),
        ("stages", c_uint32),
    ]


class Fallback(Structure):
    """`nst_fallback`."""

    _fields_ = [("stage", c_uint32), ("replacement", c_uint32), ("reason", c_char_p)]


class Transfer(Structure):
    """`nst_transfer`."""

    _fields_ = [("switch_us", c_double), ("us_per_byte", c_double)]


class Placement(Structure):
    """`nst_placement`."""

    _fields_ = [
        ("steps", c_uint32),
        ("targets", c_uint32),
        ("stage_us", POINTER(c_double)),
        ("move_us", POINTER(c_double)),
    ]


class PathReport(Structure):
    """`nst_path_report`."""

    _fields_ = [
        ("fault", c_int),
        ("at", c_uint32),
        ("stage", c_uint32),
        ("position", c_uint32),
        ("slot", c_uint32),
    ]


class PolicyParams(Structure):
    """`nst_policy_params`."""

    _fields_ = [
        ("smoothing", c_double),
        ("spread_weight", c_double),
        ("down_margin", c_double),
        ("up_margin", c_double),
        ("minimum_stay_runs", c_uint32),
        ("warmup_runs", c_uint32),
        ("stale_after_runs", c_uint32),
    ]


class PolicyCost(Structure):
    """`nst_policy_cost`."""

    _fields_ = [
        ("mean_us", c_double),
        ("deviation_us", c_double),
        ("runs", c_uint64),
        ("last_run", c_uint64),
        ("known", c_bool),
    ]


class Policy(Structure):
    """`nst_policy`."""

    _fields_ = [
        ("params", PolicyParams),
        ("costs", POINTER(PolicyCost)),
        ("paths", c_uint32),
        ("current", c_uint32),
        ("stay", c_uint32),
        ("runs", c_uint64),
    ]


class Ration(Structure):
    """`nst_ration`."""

    _fields_ = [
        ("start_s", c_double),
        ("start_charge", c_double),
        ("end_s", c_double),
        ("reserve", c_double),
        ("band", c_double),
    ]


# What the library is asked about when it is loaded.
CHECKED_STRUCTS: dict[str, type[Structure]] = {
    "nst_bundle": Bundle,
    "nst_constant_info": ConstantInfo,
    "nst_error": Error,
    "nst_fallback": Fallback,
    "nst_list": List,
    "nst_memory": Memory,
    "nst_model_options": ModelOptions,
    "nst_note": Note,
    "nst_path_info": PathInfo,
    "nst_path_report": PathReport,
    "nst_path_view": PathView,
    "nst_placement": Placement,
    "nst_policy": Policy,
    "nst_policy_cost": PolicyCost,
    "nst_policy_params": PolicyParams,
    "nst_position_info": PositionInfo,
    "nst_prefix": Prefix,
    "nst_program_info": ProgramInfo,
    "nst_ration": Ration,
    "nst_section_info": SectionInfo,
    "nst_selection": Selection,
    "nst_slot_info": SlotInfo,
    "nst_stage_info": StageInfo,
    "nst_stage_stats": StageStats,
    "nst_target_view": TargetView,
    "nst_tensor": Tensor,
    "nst_transfer": Transfer,
}
