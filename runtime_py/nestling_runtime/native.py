"""Finds libnestling, loads it once, and turns its error codes into exceptions.

The library is looked for in this order: the file that the environment variable NESTLING_LIBRARY
names, `libnestling.so` beside this package (an installed wheel), `build/native/libnestling.so` in
the checkout that this package lies in. It is linked against the shared libraries of the executorch
wheel, which is located but never imported: torch stays out of the process.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import threading
from collections.abc import Iterable
from ctypes import (
    POINTER,
    byref,
    c_char_p,
    c_double,
    c_int,
    c_size_t,
    c_uint8,
    c_uint32,
    c_uint64,
    c_void_p,
)
from pathlib import Path

from nestling_runtime import abi, decoder_abi, expert_abi
from nestling_runtime.errors import (
    BudgetError,
    BundleError,
    CancelledError,
    EngineError,
    NestlingError,
    PathError,
    SignatureError,
    TargetError,
)

LIBRARY_VARIABLE = "NESTLING_LIBRARY"
LIBRARY_NAME = "libnestling.so"
OPENVINO_VARIABLE = "OPENVINO_LIB_PATH"

# In the order in which they need each other.
_EXECUTORCH_LIBRARIES = (
    "libexecutorch.so",
    "libexecutorch_threadpool.so",
    "libexecutorch_kernels_optimized.so",
    "libexecutorch_kernels_quantized.so",
    "libexecutorch_backend_xnnpack.so",
)

_ERRORS: dict[int, type[NestlingError]] = {
    abi.E_IO: BundleError,
    abi.E_FOREIGN: BundleError,
    abi.E_VERSION: BundleError,
    abi.E_TRUNCATED: BundleError,
    abi.E_CORRUPT: BundleError,
    abi.E_HASH: BundleError,
    abi.E_LIMIT: BundleError,
    abi.E_SIGNATURE: SignatureError,
    abi.E_PATH: PathError,
    abi.E_NOT_FOUND: PathError,
    abi.E_TARGET: TargetError,
    abi.E_CANCELLED: CancelledError,
}

_u32 = c_uint32
_err = POINTER(abi.Error)
_bundle = POINTER(abi.Bundle)
_list = POINTER(abi.List)

# Result and argument types of every function that Python calls.
_PROTOTYPES: dict[str, tuple[object, tuple[object, ...]]] = {
    "nst_abi_version": (c_uint32, ()),
    "nst_version": (c_char_p, ()),
    "nst_struct_bytes": (c_size_t, (c_char_p,)),
    "nst_platform_hash": (c_void_p, ()),
    "nst_code_name": (c_char_p, (c_int,)),
    # the reader
    "nst_bundle_prefix": (c_int, (c_void_p, c_size_t, POINTER(abi.Prefix), _err)),
    "nst_bundle_index_bytes": (c_size_t, (POINTER(abi.Prefix),)),
    "nst_bundle_open": (
        c_int,
        (_bundle, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p, _err),
    ),
    "nst_bundle_check_section": (c_int, (_bundle, _u32, c_void_p, _err)),
    "nst_bundle_check_signature": (c_int, (_bundle, c_char_p, _err)),
    "nst_bundle_section": (c_int, (_bundle, _u32, POINTER(abi.SectionInfo))),
    "nst_bundle_slot": (c_int, (_bundle, _u32, POINTER(abi.SlotInfo))),
    "nst_bundle_constant": (c_int, (_bundle, _u32, POINTER(abi.ConstantInfo))),
    "nst_bundle_program": (c_int, (_bundle, _u32, POINTER(abi.ProgramInfo))),
    "nst_bundle_position": (c_int, (_bundle, _u32, POINTER(abi.PositionInfo))),
    "nst_bundle_stage": (c_int, (_bundle, _u32, POINTER(abi.StageInfo))),
    "nst_bundle_path": (c_int, (_bundle, _u32, POINTER(abi.PathInfo))),
    "nst_list_next_index": (c_int, (_list, POINTER(_u32))),
    "nst_list_next_figure": (c_int, (_list, POINTER(abi.Text), POINTER(c_double))),
    "nst_list_next_note": (c_int, (_list, POINTER(abi.Note))),
    "nst_list_next_binding": (c_int, (_bundle, _list, POINTER(abi.Text), POINTER(_u32))),
    "nst_path_check": (
        c_int,
        (_bundle, POINTER(_u32), c_size_t, POINTER(abi.PathReport), _err),
    ),
    "nst_bundle_target_count": (_u32, (_bundle,)),
    "nst_bundle_target": (c_int, (_bundle, _u32, POINTER(abi.Text))),
    "nst_bundle_stand_in": (_u32, (_bundle, _u32, c_char_p, c_size_t)),
    "nst_placement_search": (
        c_int,
        (POINTER(abi.Placement), POINTER(_u32), POINTER(c_uint8), POINTER(c_double)),
    ),
    # models
    "nst_model_options_default": (None, (POINTER(abi.ModelOptions),)),
    "nst_model_open_path": (
        c_int,
        (c_char_p, POINTER(abi.ModelOptions), POINTER(c_void_p), _err),
    ),
    "nst_model_open_fd": (
        c_int,
        (c_int, c_uint64, c_uint64, POINTER(abi.ModelOptions), POINTER(c_void_p), _err),
    ),
    "nst_model_open_memory": (
        c_int,
        (c_void_p, c_size_t, POINTER(abi.ModelOptions), POINTER(c_void_p), _err),
    ),
    "nst_model_close": (c_int, (c_void_p, _err)),
    "nst_model_bundle": (_bundle, (c_void_p,)),
    "nst_model_path": (c_int, (c_void_p, _u32, POINTER(abi.PathView), _err)),
    "nst_model_memory": (c_int, (c_void_p, POINTER(abi.Memory), _err)),
    "nst_model_set_budget": (c_int, (c_void_p, c_uint64, _err)),
    "nst_model_load": (c_int, (c_void_p, _u32, _u32, _err)),
    "nst_model_evict_stage": (c_int, (c_void_p, _u32, _err)),
    "nst_model_evict_unused": (c_int, (c_void_p, POINTER(c_uint64), _err)),
    "nst_model_stage_stats": (c_int, (c_void_p, _u32, POINTER(abi.StageStats), _err)),
    "nst_model_reset_stats": (c_int, (c_void_p, _err)),
    # targets
    "nst_model_target_count": (_u32, (c_void_p,)),
    "nst_model_target": (c_int, (c_void_p, _u32, POINTER(abi.TargetView), _err)),
    "nst_model_stand_in": (_u32, (c_void_p, _u32, _u32)),
    "nst_model_fallback_count": (_u32, (c_void_p,)),
    "nst_model_fallback": (c_int, (c_void_p, _u32, POINTER(abi.Fallback), _err)),
    "nst_model_place": (
        c_int,
        (
            c_void_p,
            _u32,
            POINTER(abi.Transfer),
            POINTER(_u32),
            _u32,
            POINTER(c_double),
            _err,
        ),
    ),
    # prefetches
    "nst_prefetch_start": (
        c_int,
        (c_void_p, _u32, _u32, abi.Progress, c_void_p, POINTER(c_void_p), _err),
    ),
    "nst_prefetch_cancel": (None, (c_void_p,)),
    "nst_prefetch_done": (c_int, (c_void_p,)),
    "nst_prefetch_wait": (c_int, (c_void_p, _err)),
    # sessions
    "nst_session_create": (c_int, (c_void_p, POINTER(c_void_p), _err)),
    "nst_session_destroy": (None, (c_void_p,)),
    "nst_session_select": (c_int, (c_void_p, _u32, _u32, _err)),
    "nst_session_select_stages": (c_int, (c_void_p, POINTER(_u32), _u32, _err)),
    "nst_session_stages": (c_int, (c_void_p, POINTER(_u32), _u32, POINTER(_u32), _err)),
    "nst_session_bind_input": (c_int, (c_void_p, _u32, c_void_p, c_size_t, _err)),
    "nst_session_bind_output": (c_int, (c_void_p, _u32, c_void_p, c_size_t, _err)),
    "nst_session_tensor": (c_int, (c_void_p, _u32, POINTER(abi.Tensor), _err)),
    "nst_session_run": (c_int, (c_void_p, _err)),
    "nst_session_cancel": (None, (c_void_p,)),
    "nst_session_reset_state": (c_int, (c_void_p, _err)),
    "nst_session_selection": (c_int, (c_void_p, POINTER(abi.Selection), _err)),
    # policies
    "nst_policy_init": (
        ctypes.c_bool,
        (POINTER(abi.Policy), POINTER(abi.PolicyParams), POINTER(abi.PolicyCost), _u32),
    ),
    "nst_policy_seed": (None, (POINTER(abi.Policy), _u32, c_double)),
    "nst_policy_record": (ctypes.c_bool, (POINTER(abi.Policy), _u32, c_double)),
    "nst_policy_cost_us": (c_double, (POINTER(abi.Policy), _u32)),
    "nst_policy_choose": (c_uint32, (POINTER(abi.Policy), c_double)),
    "nst_ration_init": (ctypes.c_bool, (POINTER(abi.Ration), *(c_double,) * 5)),
    "nst_ration_planned": (c_double, (POINTER(abi.Ration), c_double)),
    "nst_ration_share": (c_double, (POINTER(abi.Ration), c_double, c_double)),
    "nst_ration_limit_us": (
        c_double,
        (POINTER(abi.Ration), POINTER(abi.Policy), c_double, c_double, c_double),
    ),
}

_load_lock = threading.Lock()


def library_candidates() -> list[Path]:
    """Return where the library is looked for, in order."""
    named = os.environ.get(LIBRARY_VARIABLE)
    if named:
        return [Path(named)]
    package = Path(__file__).resolve().parent
    return [
        package / LIBRARY_NAME,
        package.parents[1] / "build" / "native" / LIBRARY_NAME,
    ]


def executorch_library_folder() -> Path | None:
    """Return the folder of the executorch wheel's libraries, without importing the package."""
    spec = importlib.util.find_spec("executorch")
    places: Iterable[str] = (spec.submodule_search_locations or ()) if spec is not None else ()
    for place in places:
        folder = Path(place) / "lib"
        if (folder / _EXECUTORCH_LIBRARIES[0]).is_file():
            return folder
    return None


def _load(path: Path) -> ctypes.CDLL:
    """Load the library; if its own search path does not lead to executorch, help it."""
    try:
        return ctypes.CDLL(str(path))
    except OSError as first:
        folder = executorch_library_folder()
        if folder is None:
            raise EngineError(
                "libnestling needs the executorch package",
                actual=str(first),
                hint="install executorch==1.5.1",
            ) from first
    try:
        # Libraries that are in the process already are found by their names.
        for name in _EXECUTORCH_LIBRARIES:
            ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL)
        return ctypes.CDLL(str(path))
    except OSError as second:
        raise EngineError(
            "cannot load libnestling",
            actual=str(second),
            hint=f"name another one with {LIBRARY_VARIABLE}, or build it with `make build`",
        ) from second


def _check_structs(loaded: ctypes.CDLL, path: Path) -> None:
    version = loaded.nst_abi_version()
    if version != abi.ABI_VERSION:
        raise EngineError(f"{path} is of another version", expected=abi.ABI_VERSION, actual=version)
    structs = {
        **abi.CHECKED_STRUCTS,
        **decoder_abi.CHECKED_STRUCTS,
        **expert_abi.CHECKED_STRUCTS,
    }
    for name, struct in structs.items():
        native_bytes = loaded.nst_struct_bytes(name.encode())
        if native_bytes != ctypes.sizeof(struct):
            raise EngineError(
                f"{path} has another {name}", expected=ctypes.sizeof(struct), actual=native_bytes
            )


@functools.cache
def _load_once() -> ctypes.CDLL:
    candidates = library_candidates()
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        raise EngineError(
            "libnestling is not there",
            expected=" or ".join(str(candidate) for candidate in candidates),
            hint=f"build it with `make build`, or name it with {LIBRARY_VARIABLE}",
        )
    loaded = _load(path)
    prototypes = {**_PROTOTYPES, **decoder_abi.PROTOTYPES, **expert_abi.PROTOTYPES}
    for name, (result, arguments) in prototypes.items():
        function = getattr(loaded, name, None)
        if function is None:
            raise EngineError(f"{path} is of another version", expected=name, actual="no such")
        function.restype = result
        function.argtypes = arguments
    _check_structs(loaded, path)
    return loaded


def library() -> ctypes.CDLL:
    """Return libnestling with all prototypes set. Calls release the interpreter lock.

    Raises:
        EngineError: The library, or executorch, cannot be found or is of another version.
    """
    with _load_lock:
        return _load_once()


def version() -> str:
    """Return the library's version.

    Raises:
        EngineError: See `library`.
    """
    text: bytes = library().nst_version()
    return text.decode()


def find_openvino() -> None:
    """Tell ExecuTorch's OpenVINO backend where the package has its library, if nobody did.

    The backend looks for `libopenvino_c.so`, or for what OPENVINO_LIB_PATH names; pip's package has
    it under a name with a version.
    """
    if OPENVINO_VARIABLE in os.environ:
        return
    spec = importlib.util.find_spec("openvino")
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        for library_file in sorted((Path(place) / "libs").glob("libopenvino_c.so*")):
            os.environ[OPENVINO_VARIABLE] = str(library_file)
            return


def error_of(error: abi.Error) -> NestlingError:
    """Return the exception that a filled `nst_error` stands for."""
    message = error.message.decode(errors="replace")
    section = error.section.decode(errors="replace") or None
    stage = error.stage.decode(errors="replace") or None
    if error.code == abi.E_BUDGET:
        return BudgetError(
            message,
            missing_bytes=max(0, error.expected - error.actual),
            section=section,
            stage=stage,
        )
    numbers = (error.expected, error.actual) if error.expected or error.actual else (None, None)
    kind = _ERRORS.get(error.code, EngineError)
    return kind(message, section=section, stage=stage, expected=numbers[0], actual=numbers[1])


def check(code: int, error: abi.Error) -> None:
    """Raise what `error` says unless `code` is OK."""
    if code != abi.OK:
        error.code = code
        raise error_of(error)


def call(name: str, *arguments: object) -> None:
    """Call a function whose last parameter is an `nst_error *`, and raise what it reports.

    Raises:
        NestlingError: Whatever the function refuses.
    """
    error = abi.Error()
    check(getattr(library(), name)(*arguments, byref(error)), error)
