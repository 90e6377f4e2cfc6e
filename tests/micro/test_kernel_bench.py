"""On emulated processors the fast kernels give the bytes of the portable ones, on named shapes and
on many random ones, in memory whose end faults, with fewer instructions than CMSIS-NN."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from nestling.bench.kernels import CMSIS_NN, CORES, KernelRun, kernel_records, run_kernel_bench

ROOT = Path(__file__).resolve().parents[2]
BOARDS = ("m55", "m7", "m4", "m33")


@pytest.fixture(scope="module", params=BOARDS)
def core_and_run(request: pytest.FixtureRequest) -> tuple[str, KernelRun]:
    for program, package in (
        ("arm-none-eabi-gcc", "gcc-arm-none-eabi libnewlib-arm-none-eabi"),
        ("qemu-system-arm", "qemu-system-arm"),
    ):
        assert shutil.which(program), f"please install: sudo apt-get install {package}"
    core = CORES[request.param]
    built = subprocess.run(
        [ROOT / "scripts" / "build_firmware.sh", core.board], capture_output=True, text=True
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return core.name, run_kernel_bench(core)


def test_all_bytes_are_those_of_the_portable_kernels(core_and_run: tuple[str, KernelRun]) -> None:
    _, run = core_and_run
    assert [f.shape for f in run.named if f.mismatches] == []
    assert run.random_shapes >= 1000
    assert run.random_failures == ()


def test_every_shape_takes_fewer_instructions_than_cmsis_nn(
    core_and_run: tuple[str, KernelRun],
) -> None:
    name, run = core_and_run
    # The figures were counted on M7; M4 and M33 run the same instructions.
    theirs = CMSIS_NN[name if name in CMSIS_NN else "m7"]
    ours = {f.shape: f.fast / f.macs for f in run.named}
    slower = {
        shape: ours[shape] for shape in theirs if shape in ours and ours[shape] >= theirs[shape]
    }
    assert slower == {}


def test_records_name_the_core_and_compare(core_and_run: tuple[str, KernelRun]) -> None:
    name, run = core_and_run
    records = kernel_records(CORES[name], run)
    assert all(record.where.startswith(name) for record in records)
    ours = {r.model: r for r in records if r.metric == "instructions_per_mac"}
    assert set(ours) == {f.shape for f in run.named}
    if name in CMSIS_NN:
        geomean = next(r for r in records if r.metric == "instructions_per_mac_geomean")
        assert geomean.value is not None
        assert geomean.value <= 0.9
