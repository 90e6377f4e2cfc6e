"""Instructions of the small-device kernels, counted on emulated processors.

`kernel_bench` (firmware/micro/bench) runs every named shape with the kernel of its processor and
with the portable one, compares their bytes, and then compares many random shapes. The emulator
counts instructions, so the figures are the same on every machine::

    python -m nestling.bench.kernels                 # table of all cores
    python -m nestling.bench.kernels m7 --json kernels.json
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from nestling.bench.records import Record, write_records
from nestling.errors import NestlingError

_REPO_FIRMWARE = Path(__file__).parents[3] / "build" / "firmware"

RUN_SECONDS = 300
"""A run takes ten seconds; past this the emulator is ended."""


@dataclass(frozen=True)
class EmulatedCore:
    """A processor and the board on which it is emulated.

    Attributes:
        name: As records have it.
        board: Folder in firmware/boards.
        machine: As QEMU spells it.
        icount_shift: An instruction takes 2^shift ns of virtual time: what board.c reckons with.
    """

    name: str
    board: str
    machine: str
    icount_shift: int


CORES = {
    core.name: core
    for core in (
        EmulatedCore("m55", "mps3_an547", "mps3-an547", 5),
        EmulatedCore("m7", "mps2_an500", "mps2-an500", 6),
        EmulatedCore("m4", "mps2_an386", "mps2-an386", 6),
        EmulatedCore("m33", "mps2_an505", "mps2-an505", 6),
    )
}

CMSIS_NN = {
    "m55": {
        "conv3x3_16_16_32": 0.380,
        "conv3x3_32_64_16s2": 0.235,
        "conv1x1_64_64_25x5": 0.392,
        "conv1x1_32_64_48": 0.605,
        "conv1x1_128_128_6": 0.280,
        "depthwise3x3_64_25x5": 2.258,
        "depthwise3x3_32_48": 2.609,
        "linear_640_128": 0.177,
        "linear_128_128": 0.261,
        "linear_64_256_b16": 0.354,
        "add_16384": 8.26,
        "softmax_16x16": 85.0,
        "avgpool_8x8x64": 1.14,
    },
    "m7": {
        "conv3x3_16_16_32": 2.333,
        "conv3x3_32_64_16s2": 1.851,
        "conv1x1_64_64_25x5": 2.053,
        "conv1x1_32_64_48": 2.650,
        "conv1x1_128_128_6": 1.797,
        "depthwise3x3_64_25x5": 8.253,
        "depthwise3x3_32_48": 8.811,
        "linear_640_128": 1.967,
        "linear_128_128": 2.335,
        "linear_64_256_b16": 2.780,
        "add_16384": 81.0,
        "softmax_16x16": 427.0,
        "avgpool_8x8x64": 5.85,
    },
}
"""Instructions per MAC, or per element of the input, of CMSIS-NN 99f736a on the same emulated
boards; the better of gcc 12.2 -O3 and clang 19 -O3. Padded taps count as MACs, here and in ours."""


@dataclass(frozen=True)
class KernelFigures:
    """One shape on one core.

    Attributes:
        shape: Its name.
        macs: Multiplications, taps in the padding counted; elements where nothing is multiplied.
        fast: Instructions of the core's own kernel.
        portable: Instructions of the portable kernel.
        mismatches: Bytes in which both differ, written guards included.
    """

    shape: str
    macs: int
    fast: int
    portable: int
    mismatches: int


@dataclass(frozen=True)
class KernelRun:
    """What `kernel_bench` printed.

    Attributes:
        named: The named shapes; "NAME/any-scale" is the same with scales that need shifts.
        random_shapes: How many random shapes were compared.
        random_failures: Those that differed, as printed.
    """

    named: tuple[KernelFigures, ...]
    random_shapes: int
    random_failures: tuple[str, ...]


def run_kernel_bench(core: EmulatedCore) -> KernelRun:
    """Run the bench on an emulated core.

    Raises:
        NestlingError: It was not built, the emulator is not installed, or the program crashed.
    """
    folder = Path(os.environ.get("NESTLING_FIRMWARE_BUILD", _REPO_FIRMWARE))
    program = folder / core.board / "bin" / "kernel_bench.elf"
    if not program.is_file():
        raise NestlingError(
            "the kernel bench was not found", hint=f"run `scripts/build_firmware.sh {core.board}`"
        )
    emulator = shutil.which("qemu-system-arm")
    if emulator is None:
        raise NestlingError(
            "qemu-system-arm was not found", hint="sudo apt-get install qemu-system-arm"
        )
    words = [emulator, "-M", core.machine, "-display", "none", "-monitor", "none"]
    words += ["-serial", "stdio", "-semihosting-config", "enable=on,target=native"]
    words += ["-icount", f"shift={core.icount_shift}", "-kernel", str(program)]
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=RUN_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise NestlingError(f"the kernel bench hung on {core.machine}") from None
    return _parse(done.stdout, core)


def _parse(output: str, core: EmulatedCore) -> KernelRun:
    named: list[KernelFigures] = []
    failures: list[str] = []
    for line in output.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            raise NestlingError(
                f"the kernel bench crashed on {core.machine}", actual=line
            ) from None
        if "random_shapes" in row:
            return KernelRun(tuple(named), row["random_shapes"], tuple(failures))
        if "random" in row:
            failures.append(line)
        else:
            named.append(
                KernelFigures(
                    row["shape"], row["macs"], row["fast"], row["portable"], row["mismatches"]
                )
            )
    raise NestlingError(f"the kernel bench ended early on {core.machine}")


def kernel_records(core: EmulatedCore, run: KernelRun) -> list[Record]:
    """Return `instructions_per_mac` of every shape, and `instructions_per_mac_portable`.

    `ratio` compares with CMSIS-NN on the same core where its figure is known. The geometric mean of
    the ratios is `instructions_per_mac_geomean`.

    Raises:
        NestlingError: A kernel gave other bytes than the portable one: its speed means nothing.
    """
    wrong = [f.shape for f in run.named if f.mismatches] + list(run.random_failures)
    if wrong:
        raise NestlingError(f"kernels differ from the portable ones on {core.name}", actual=wrong)
    where = f"{core.name} ({core.machine} emulated by QEMU, instructions counted)"
    theirs = CMSIS_NN.get(core.name, {})
    records = []
    ratios = []
    for figures in run.named:
        baseline = theirs.get(figures.shape)
        for metric, instructions in (
            ("instructions_per_mac", figures.fast),
            ("instructions_per_mac_portable", figures.portable),
        ):
            value = instructions / figures.macs
            ratio = value / baseline if baseline is not None else None
            records.append(Record(metric, value, "1", baseline, ratio, None, figures.shape, where))
            if ratio is not None and instructions == figures.fast:
                ratios.append(ratio)
    if ratios:
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        records.append(
            Record("instructions_per_mac_geomean", mean, "1", 1.0, mean, None, "all shapes", where)
        )
    return records


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(sorted(CORES)))
@click.option("--json", "out", type=click.Path(path_type=Path), help="Write records there.")
def main(names: Sequence[str], out: Path | None) -> None:
    """Count instructions per MAC on emulated cores, all of them by default."""
    records: list[Record] = []
    for name in names or CORES:
        core = CORES[name]
        try:
            records += kernel_records(core, run_kernel_bench(core))
        except NestlingError as error:
            raise click.ClickException(str(error)) from None
    for record in records:
        against = f"{record.ratio:6.3f} x CMSIS-NN" if record.ratio is not None else ""
        name = record.where.split()[0]
        click.echo(f"{name:4} {record.metric:30} {record.model:34} {record.value:9.3f} {against}")
    if out is not None:
        write_records(records, out)


if __name__ == "__main__":
    main()
