"""The HTP compiler and simulator on this machine: found, made to fit, loaded."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib.util
import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from nestling.errors import TargetError
from nestling.targets.cache import default_cache_dir

LIBRARY = "libQnnHtp.so"
SYSTEM_LIBRARY = "libQnnSystem.so"
PACKAGE = "onnxruntime_qnn"
HOST_FOLDER = Path("lib", "x86_64-linux-clang")
"""Where ExecuTorch looks for libraries inside an SDK."""

_SOURCE = Path(__file__).with_name("htp_host.c")


def environment() -> dict[str, str]:
    """Variables under which ExecuTorch's backend finds the simulator, for a process to be started.

    Raises:
        TargetError: the package is not installed, or the C compiler failed.
    """
    libraries, sdk = _libraries(), _make_sdk()
    return {
        "QNN_SDK_ROOT": str(sdk),  # also keeps ExecuTorch from downloading one
        "NESTLING_QNN_HTP": str(libraries / LIBRARY),
        "LD_LIBRARY_PATH": f"{sdk / HOST_FOLDER}:{libraries}",
    }


@cache
def load_libraries() -> None:
    """Load the libraries into this process, where compiler or backend then find them by name.

    A process may use one of the two.

    Raises:
        TargetError: see :func:`environment`.
    """
    os.environ.update(
        (name, value) for name, value in environment().items() if name != "LD_LIBRARY_PATH"
    )
    for library in (_make_sdk() / HOST_FOLDER / LIBRARY, _libraries() / SYSTEM_LIBRARY):
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


def _libraries() -> Path:
    """Folder of Qualcomm's libraries. The package itself is not imported: it loads them all."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise TargetError("the HTP compiler is not installed", hint="pip install 'nestling[qnn]'")
    return Path(spec.submodule_search_locations[0])


def _make_sdk() -> Path:
    """Make what ExecuTorch takes for an SDK; once for each version of our source.

    All that it holds is the library that stands before the real one.
    """
    key = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:16]
    sdk = default_cache_dir() / "qnn-sdk" / key
    if sdk.exists():
        return sdk
    sdk.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=sdk.parent) as scratch:
        made = Path(scratch) / key
        (made / HOST_FOLDER).mkdir(parents=True)
        _compile(made / HOST_FOLDER / LIBRARY)
        with contextlib.suppress(OSError):  # another process was first
            made.rename(sdk)
    return sdk


def _compile(library: Path) -> None:
    command = ["cc", "-std=c11", "-O2", "-fPIC", "-shared", f"-Wl,-soname,{LIBRARY}"]
    result = subprocess.run(
        [*command, "-o", str(library), str(_SOURCE), "-ldl"], capture_output=True, text=True
    )
    if result.returncode != 0:
        raise TargetError("cc cannot compile the HTP host library", actual=result.stderr.strip())
