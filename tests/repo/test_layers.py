"""Who may know whom: the runtime knows no torch, the core knows nothing but itself."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# tokenizers only when a bundle carries a tokenizer: generation.py imports it then.
ALLOWED_IN_RUNTIME = {"numpy", "nestling_runtime", "tokenizers"}
ALLOWED_IN_DEVICES = {
    "numpy",
    "nestling_runtime",
    "nestling_devices",
    "serial",
    "smpclient",
    "smp",  # the messages of smpclient, ...
    "pydantic",  # ... which are its models
    "cbor2",
}
# What the core may ask of the C library: types, limits and the memory functions.
ALLOWED_IN_CORE = {
    "stdint.h",
    "stddef.h",
    "stdbool.h",
    "float.h",
    "limits.h",
    "string.h",
    "inttypes.h",
}


def imported_packages(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").split(".")[0]


@pytest.mark.parametrize(
    ("folder", "allowed"),
    [
        ("runtime_py/nestling_runtime", ALLOWED_IN_RUNTIME),
        ("devices/nestling_devices", ALLOWED_IN_DEVICES),
    ],
)
def test_a_device_side_package_imports_only_what_it_may(folder: str, allowed: set[str]) -> None:
    sources = sorted((ROOT / folder).rglob("*.py"))
    assert sources
    foreign = {
        f"{path.relative_to(ROOT)}: {package}"
        for path in sources
        for package in imported_packages(path)
        if package not in allowed and package not in sys.stdlib_module_names
    }
    assert not foreign


def test_importing_the_runtime_does_not_import_torch() -> None:
    code = (
        "import sys, nestling_runtime; "
        "known = {name.split('.')[0] for name in sys.modules}; "
        "print(sorted({'torch', 'executorch', 'nestling'} & known))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_the_core_includes_only_itself() -> None:
    core = ROOT / "firmware" / "core"
    own = {path.name for path in core.rglob("*.h")}
    foreign = set()
    for path in sorted([*core.rglob("*.c"), *core.rglob("*.h")]):
        for name in re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', path.read_text(), re.M):
            generated = name.startswith(("zcbor", "manifest_", "smp_messages"))
            if name not in ALLOWED_IN_CORE and Path(name).name not in own and not generated:
                foreign.add(f"{path.relative_to(ROOT)}: {name}")
    assert not foreign
