#!/usr/bin/env python
"""Writes the worked example of a plan in SPEC.md: two operators, byte by byte.

    scripts/plan_dump.py            print the example
    scripts/plan_dump.py --write    put it into SPEC.md, between its two marks

A test compares SPEC.md with what this prints, so the example stays true.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "toolchain"), str(ROOT / "runtime_py")]

from nestling.targets.cortex_m.cores import Isa  # noqa: E402
from nestling.targets.cortex_m.operators import OPERATORS  # noqa: E402
from nestling.targets.cortex_m.plan import Place, Plan, PlanOperator, PlanTensor  # noqa: E402

SPEC = ROOT / "SPEC.md"
BEGIN = "<!-- begin of the plan, written by scripts/plan_dump.py -->\n"
END = "<!-- end of the plan -->\n"
ROW_BYTES = 16
WORD = 4
HEADER = (
    "magic",
    "version",
    "total_bytes",
    "isa: MVE",
    "arena_bytes",
    "inputs",
    "outputs",
    "constants",
    "operators",
    "tensors",
    "zero",
    "zero",
)
OPERATOR = (
    "number: {kernel}",
    "  params_offset",
    "  first_tensor",
    "  tensor_count",
    "  scratch_offset",
    "  scratch_bytes",
)
TENSOR = ("place: {place}", "  number", "  offset", "  bytes")


def example() -> Plan:
    """Four float32 values are quantised, then looked up in a table."""
    quantized = PlanTensor(Place.ARENA, 0, 0, 4)
    quantize = OPERATORS["quantize"].pack(
        elements=4, inverse_scale=16.0, zero_point=0, quant_min=-128, quant_max=127
    )
    look_up = OPERATORS["activation"].pack(elements=4)
    number = {name: operator.number for name, operator in OPERATORS.items()}
    return Plan(
        isa=Isa.MVE,
        arena_bytes=16,
        inputs=(16,),
        outputs=(4,),
        constants=(256,),
        operators=(
            PlanOperator(
                number["quantize"], quantize, (PlanTensor(Place.INPUT, 0, 0, 16), quantized), 0, 0
            ),
            PlanOperator(
                number["activation"],
                look_up,
                (
                    quantized,
                    PlanTensor(Place.CONSTANT, 0, 0, 256),
                    PlanTensor(Place.OUTPUT, 0, 0, 4),
                ),
                0,
                0,
            ),
        ),
    )


def words(plan: Plan) -> Iterator[tuple[int, str]]:
    """Yield the size and the meaning of each piece of the plan."""
    names = {operator.number: name for name, operator in OPERATORS.items()}
    for meaning in HEADER:
        yield WORD, meaning
    for kind, sizes in (
        ("input", plan.inputs),
        ("output", plan.outputs),
        ("constant", plan.constants),
    ):
        for index in range(len(sizes)):
            yield WORD, f"bytes of {kind} {index}"
    for operator in plan.operators:
        for meaning in OPERATOR:
            yield WORD, meaning.format(kernel=names[operator.number])
    for operator in plan.operators:
        for tensor in operator.tensors:
            for meaning in TENSOR:
                yield WORD, meaning.format(place=tensor.place.name.lower())


def rows(data: bytes, start: int, end: int, meaning: str) -> Iterator[str]:
    """Yield lines of a hex dump of data[start:end], the meaning beside the first."""
    for at in range(start, end, ROW_BYTES):
        row = data[at : min(at + ROW_BYTES, end)].hex(" ")
        yield f"{at:06x}  {row:<{3 * ROW_BYTES}} {meaning if at == start else ''}".rstrip()


def dump() -> str:
    """Return the example as it stands in SPEC.md."""
    plan = example()
    data = plan.to_bytes()
    lines: list[str] = []
    at = 0
    for size, meaning in words(plan):
        lines += rows(data, at, at + size, meaning)
        at += size
    for operator in plan.operators:
        start = -(-at // ROW_BYTES) * ROW_BYTES
        if start > at:
            lines += rows(data, at, start, "padding")
        end = start + len(operator.params)
        lines += rows(data, start, end, "parameter record")
        at = end
    if at != len(data):
        raise AssertionError("the example has another layout than this script knows")
    return f"```text\n{chr(10).join(lines)}\n```\n"


def main() -> None:
    """Print the example, or write it into SPEC.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--write", action="store_true", help="write into SPEC.md")
    if not parser.parse_args().write:
        sys.stdout.write(dump())
        return
    before, rest = SPEC.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    SPEC.write_text(before + BEGIN + dump() + END + after, encoding="utf-8")


if __name__ == "__main__":
    main()
