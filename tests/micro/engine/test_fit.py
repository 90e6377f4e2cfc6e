"""What a bundle takes of a device, before anything is sent; the commands that say so."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from bundle.samples import tiny
from click.testing import CliRunner
from micro.engine.host import MicroEngine
from micro.engine.samples import lower_whole, small_bundle
from torch import nn

from nestling.cli import main
from nestling.errors import BundleError
from nestling.targets.cortex_m.fit import fit, measure
from nestling_devices import DeviceProfile, find_profile
from nestling_runtime.bundle import Bundle


def shrunk(profile: DeviceProfile, *, ram: int, slot: int) -> DeviceProfile:
    """The same device with one RAM region and slots of other sizes."""
    region = next(r for r in profile.memory if r.kind == "ram")
    memory = (
        dataclasses.replace(region, size_bytes=ram),
        *(r for r in profile.memory if r.kind != "ram"),
    )
    assert profile.flash is not None
    flash = dataclasses.replace(profile.flash, slot_bytes=slot)
    return dataclasses.replace(profile, memory=memory, flash=flash)


@pytest.mark.parametrize("target", ["cortex-m55", "cortex-m7"])
def test_the_arena_is_what_the_engine_takes(target: str) -> None:
    bundle = small_bundle(target)
    with Bundle.open(bundle) as opened:
        need = measure(opened, bundle)
    engine = MicroEngine(bundle)
    assert engine.memory().arena_bytes == need.arena_bytes
    assert need.largest_path_arena_bytes == need.arena_bytes
    engine.close()


def test_missing_bytes_are_counted() -> None:
    bundle = small_bundle()
    with Bundle.open(bundle) as opened:
        need = measure(opened, bundle)
        for less in (0, 1, 4096):
            device = shrunk(
                find_profile("m55"), ram=need.arena_bytes - less, slot=need.flash_bytes - less
            )
            problems = fit(opened, bundle, device).problems()
            assert len(problems) == (2 if less else 0)
            assert all(problem.startswith(f"{less:,} bytes") for problem in problems)
            assert {"flash" in problem for problem in problems} == (
                {True, False} if less else set()
            )


def test_a_device_of_another_kind_is_named() -> None:
    bundle = small_bundle()
    with Bundle.open(bundle) as opened:
        (problem,) = fit(opened, bundle, find_profile("stm32h7")).problems()
    assert "cortex-m7" in problem


def test_inspect_tells_and_refuses() -> None:
    bundle = str(small_bundle())
    told = CliRunner().invoke(main, ["inspect", bundle, "--device", "m55", "--json"])
    assert told.exit_code == 0, told.output
    facts = json.loads(told.stdout)["fit"]
    assert facts["fits"]
    assert facts["peak"]["bytes"] <= facts["arena_bytes"] <= facts["arena_capacity"]
    refused = CliRunner().invoke(main, ["inspect", bundle, "--device", "stm32h7"])
    assert refused.exit_code == 1
    assert refused.stderr.startswith("error: ")
    assert "cortex-m7" in refused.stderr


def test_a_brought_program_is_compiled_by_a_command(tmp_path: Path) -> None:
    torch.manual_seed(0)
    program = tmp_path / "net.pte"
    program.write_bytes(lower_whole(nn.Sequential(nn.Linear(8, 4)), torch.randn(4, 8)))
    bundle = tmp_path / "net.nest"
    done = CliRunner().invoke(main, ["compile-plan", str(program), "-o", str(bundle)])
    assert done.exit_code == 0, done.output
    engine = MicroEngine(bundle)
    assert [slot[:3] for slot in engine.slots] == [
        ("input", "input", "f32"),
        ("output", "output", "f32"),
    ]
    engine.close()
    foreign = tmp_path / "foreign.pte"
    foreign.write_bytes(b"no program at all")
    refused = CliRunner().invoke(main, ["compile-plan", str(foreign), "-o", str(bundle)])
    assert refused.exit_code == 1
    assert "not an ExecuTorch program" in refused.stderr


def test_a_bundle_without_plans_has_no_such_need(tmp_path: Path) -> None:
    bundle = tmp_path / "tiny.nest"
    tiny().write(bundle)
    with Bundle.open(bundle) as opened, pytest.raises(BundleError, match="no plans"):
        measure(opened, bundle)
