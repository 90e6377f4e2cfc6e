"""The HTP compiler and simulator on this machine: found, made to fit, loaded."""

from __future__ import annotations

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
PACKAGE = "onnxruntime_qnn"
_SOURCE = Path(__file__).with_name("htp_host.c")


def environment() -> dict[str, str]:
    """Variables under which ExecuTorch's backend finds the simulator, for a process to be started.

    Raises:
        TargetError: the package is not installed, or the C compiler failed.
    """
    folder = _libraries()
    return {
        "QNN_SDK_ROOT": str(folder),  # set to anything, it keeps ExecuTorch from downloading one
        "NESTLING_QNN_HTP": str(folder / LIBRARY),
        "LD_LIBRARY_PATH": f"{_build().parent}:{folder}",
    }


@cache
def load_compiler() -> None:
    """Load the libraries into this process, where ExecuTorch's compiler then finds them by name.

    Raises:
        TargetError: see :func:`environment`.
    """
    os.environ.update(
        (name, value) for name, value in environment().items() if name != "LD_LIBRARY_PATH"
    )
    ctypes.CDLL(str(_build()), mode=ctypes.RTLD_GLOBAL)
    ctypes.CDLL(str(_libraries() / "libQnnSystem.so"), mode=ctypes.RTLD_GLOBAL)


def _libraries() -> Path:
    """Folder of Qualcomm's libraries. The package itself is not imported: it loads them all."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise TargetError("the HTP compiler is not installed", hint="pip install 'nestling[qnn]'")
    return Path(spec.submodule_search_locations[0])


def _build() -> Path:
    """Compile the library that stands before the real one; once for each version of its source."""
    source = _SOURCE.read_bytes()
    library = default_cache_dir() / "qnn" / hashlib.sha256(source).hexdigest()[:16] / LIBRARY
    if library.exists():
        return library
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        made = Path(folder) / LIBRARY
        command = ["cc", "-std=c11", "-O2", "-fPIC", "-shared", f"-Wl,-soname,{LIBRARY}"]
        result = subprocess.run(
            [*command, "-o", str(made), str(_SOURCE), "-ldl"], capture_output=True, text=True
        )
        if result.returncode != 0:
            raise TargetError(
                "cc cannot compile the HTP host library", actual=result.stderr.strip()
            )
        os.replace(made, library)
    return library
