"""Plans: Python's records against the C headers, the fuzzer, and what cannot be compiled."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from micro.engine.host import ROOT, build
from micro.engine.samples import lower_whole, small_bundle
from torch import nn

from nestling.errors import ExportError
from nestling.targets.cortex_m.compiler import compile_program
from nestling.targets.cortex_m.cores import Isa
from nestling.targets.cortex_m.operators import OPERATOR_NAMES, OPERATORS
from nestling.targets.cortex_m.plan import Plan
from nestling.targets.cortex_m.planner import Lifetime, place
from nestling.targets.cortex_m.program import read_program
from nestling_runtime.bundle import Bundle

MICRO = ROOT / "firmware" / "micro"


def plans(bundle: Path) -> list[bytes]:
    """The bytes of all plans of a bundle."""
    data = bundle.read_bytes()
    with Bundle.open(bundle) as opened:
        starts = [
            (opened.sections[p.section].offset_bytes + p.offset_bytes, p.size_bytes)
            for p in opened.programs
        ]
    return [data[start : start + size] for start, size in starts]


def fields_in_c(struct: str) -> list[str]:
    """Fields of a parameter record, spelt as operators.py spells them."""
    text = "\n".join(path.read_text() for path in sorted((MICRO / "kernels").glob("*.h")))
    body = re.search(rf"typedef struct {struct} \{{(.*?)\}} {struct};", text, re.DOTALL)
    assert body, struct
    plain = re.sub(r"/\*.*?\*/", "", body[1], flags=re.DOTALL)
    found: list[str] = []
    for kind, name, count in re.findall(r"(\w+)\s+(\w+)(?:\[(\w+)\])?;", plain):
        if kind == "nst_window_params":
            found += fields_in_c(kind)
            continue
        letter = {"uint32_t": "u", "int32_t": "i", "float": "f"}[kind]
        size = {"NST_TRANSPOSE_RANK": "6"}.get(count, count)
        found.append(f"{name}[{size}]:{letter}" if count else f"{name}:{letter}")
    return found


@pytest.mark.parametrize("kernel", sorted(OPERATORS))
def test_records_are_those_of_the_kernels(kernel: str) -> None:
    struct = "minimum_maximum" if kernel in ("minimum", "maximum") else kernel
    assert list(OPERATORS[kernel].fields) == fields_in_c(f"nst_{struct}_params")


def test_numbers_are_those_of_the_engine() -> None:
    table = re.findall(r"X\((\d+), (\w+)\)", (MICRO / "operators.h").read_text())
    assert {int(number): name for number, name in table} == OPERATOR_NAMES


def test_a_plan_is_read_as_it_was_written() -> None:
    for data in plans(small_bundle()):
        assert Plan.from_bytes(data).to_bytes() == data


def test_the_reader_stands_any_bytes(tmp_path: Path) -> None:
    seeds = []
    for number, data in enumerate(sorted(plans(small_bundle()), key=len)[:4]):
        seed = tmp_path / f"{number}.plan"
        seed.write_bytes(data)
        seeds.append(seed)
    done = subprocess.run(
        [build("fuzz_plan", sanitize=True), "20000", "1", *seeds],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, f"{tmp_path}/fuzz-last.bin:\n{done.stderr}"
    assert json.loads(done.stdout)["edges"] > 100


def test_things_alive_together_lie_apart() -> None:
    pieces = [Lifetime(100 * (1 + n % 5), n // 2, n // 2 + n % 4) for n in range(40)]
    offsets, size = place(pieces)
    for i, (a, start) in enumerate(zip(pieces, offsets, strict=True)):
        assert start % 16 == 0
        assert start + a.bytes <= size
        for b, other in zip(pieces[:i], offsets[:i], strict=True):
            apart = start + a.bytes <= other or other + b.bytes <= start
            assert apart or a.last < b.first or b.last < a.first


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (nn.Sequential(nn.Linear(8, 8), nn.PReLU()), (4, 8), "prelu|where|gt|mul"),
        (nn.ConvTranspose2d(4, 4, 2, stride=2), (4, 6, 6), "transpose_conv2d"),
    ],
    ids=["prelu", "transposed convolution"],
)
def test_a_missing_operator_is_named_with_its_place(
    model: nn.Module, shape: tuple[int, ...], message: str
) -> None:
    torch.manual_seed(0)
    program = lower_whole(model, torch.randn(4, *shape))
    with pytest.raises(ExportError, match=message) as caught:
        compile_program(read_program(program), Isa.MVE)
    assert re.search(r"operator \d+", str(caught.value))


@pytest.mark.parametrize("data", [b"", b"\x00" * 64, b"\x1c\x00\x00\x00ET12" + b"\xff" * 200])
def test_what_is_no_program_is_refused(data: bytes) -> None:
    with pytest.raises(ExportError, match="ExecuTorch program"):
        read_program(data)


def test_the_example_of_a_plan_is_what_the_script_prints() -> None:
    printed = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "plan_dump.py")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert printed in (ROOT / "SPEC.md").read_text(encoding="utf-8")


def test_compiling_twice_gives_the_same_bytes() -> None:
    torch.manual_seed(0)
    program = lower_whole(
        nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)), torch.randn(4, 8)
    )
    first, second = (compile_program(read_program(program), Isa.MVE) for _ in range(2))
    assert first.plan.to_bytes() == second.plan.to_bytes()
    pieces = [Lifetime(64, n, n + 3) for n in range(20)]
    assert place(pieces) == place(list(pieces))
