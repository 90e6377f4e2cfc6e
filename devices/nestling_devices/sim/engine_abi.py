"""`firmware/core/engine.h` for ctypes: what the protocol server asks of an engine."""

from __future__ import annotations

from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_bool,
    c_char_p,
    c_int,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)

from nestling_runtime import abi

CLOCK_NS = 0


class RunReport(Structure):
    """`nst_run_report`."""

    _fields_ = [("duration", c_uint64), ("stages", c_uint32)]


class StageReport(Structure):
    """`nst_stage_report`."""

    _fields_ = [("calls", c_uint64), ("total", c_uint64), ("resident_bytes", c_uint64)]


class EngineMemory(Structure):
    """`nst_engine_memory`."""

    _fields_ = [
        ("arena_bytes", c_uint64),
        ("arena_capacity", c_uint64),
        ("resident_bytes", c_uint64),
        ("budget_bytes", c_uint64),
        ("stages_resident", c_uint32),
        ("loads", c_uint32),
        ("evictions", c_uint32),
    ]


_error = POINTER(abi.Error)

Open = CFUNCTYPE(c_int, c_void_p, c_uint64, c_uint64, _error)
Close = CFUNCTYPE(None, c_void_p)
GetBundle = CFUNCTYPE(c_void_p, c_void_p)
Select = CFUNCTYPE(c_int, c_void_p, c_uint32, _error)
SelectStages = CFUNCTYPE(c_int, c_void_p, POINTER(c_uint32), c_uint32, _error)
GetTensor = CFUNCTYPE(c_int, c_void_p, c_uint32, POINTER(c_void_p), POINTER(c_size_t), _error)
Run = CFUNCTYPE(c_int, c_void_p, POINTER(RunReport), _error)
GetStageReport = CFUNCTYPE(c_int, c_void_p, c_uint32, POINTER(StageReport), _error)
GetMemory = CFUNCTYPE(c_int, c_void_p, POINTER(EngineMemory), _error)
SetBudget = CFUNCTYPE(c_int, c_void_p, c_uint64, _error)
SetTrace = CFUNCTYPE(None, c_void_p, c_bool)
Cancel = CFUNCTYPE(None, c_void_p)


class EngineOps(Structure):
    """`nst_engine_ops`."""

    _fields_ = [
        ("name", c_char_p),
        ("clock", c_int),
        ("open", Open),
        ("close", Close),
        ("bundle", GetBundle),
        ("select", Select),
        ("select_stages", SelectStages),
        ("tensor", GetTensor),
        ("run", Run),
        ("stage_report", GetStageReport),
        ("memory", GetMemory),
        ("set_budget", SetBudget),
        ("set_trace", SetTrace),
        ("cancel", Cancel),
    ]


class Engine(Structure):
    """`nst_engine`."""

    _fields_ = [("ops", POINTER(EngineOps)), ("self", c_void_p)]
