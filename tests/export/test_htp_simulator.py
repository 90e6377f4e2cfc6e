"""Hexagon's simulator: stages alone, and a path that goes back and forth between it and the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from export.supernets import CACHE, make_small_cnn

from nestling.bench.stage_chain import StageChain
from nestling.export import export_bundle
from nestling.targets.registry import describe_target, get_target

TARGET = "qnn-sm8750"
EXAMPLES = 4
INT8_TOLERANCE = 0.25
"""Of the largest output, as for XNNPACK's int8."""

# The libraries must be on the path when a process starts.
MIXED = """
import sys, json
import numpy as np
import nestling_runtime
bundle, inputs, outputs, target = sys.argv[1:]
with nestling_runtime.open(bundle) as model, model.session() as session:
    full = next(path for path in model.bundle.paths if path.name == "full")
    names = [model.bundle.stages[at].name for at in full.chain]
    mixed = [f"{name}@{target}" if at % 2 else name for at, name in enumerate(names)]
    session.select_stages(mixed)
    assert not model.fallbacks(), model.fallbacks()
    np.save(outputs, [session.run(pixels=image)["logits"] for image in np.load(inputs)])
    print("stages", json.dumps(session.stages), flush=True)  # the backend prints too
"""


@pytest.mark.skipif(
    bool(describe_target(TARGET).missing("run")), reason="`make targets` installs the simulator"
)
def test_a_path_runs_on_the_simulator_and_on_both(tmp_path: Path) -> None:
    from nestling.targets.qnn import host

    supernet = make_small_cnn()
    torch.manual_seed(7)
    examples = [(torch.randn_like(*supernet.example_inputs()),) for _ in range(EXAMPLES)]
    bundle = tmp_path / "both.nest"
    report = export_bundle(
        supernet,
        bundle,
        target=("xnnpack", TARGET),
        scheme="int8-static",
        calibration=examples,
        jobs=1,
        cache_dir=CACHE,
        reference_dir=tmp_path / "stages",
    )
    assert report.delegated[TARGET] == 1.0
    images = [example.numpy() for (example,) in examples]
    with torch.no_grad():
        expected = np.stack([supernet(*example).numpy() for example in examples])
    limit = INT8_TOLERANCE * np.abs(expected).max()

    with get_target(TARGET).open(tmp_path / "stages" / TARGET) as runner:
        alone, run_us = StageChain(bundle, runner).run("full", [(image,) for image in images])
    assert run_us is None
    assert np.abs(np.stack(alone) - expected).max() <= limit

    np.save(tmp_path / "images.npy", images)
    files = [bundle, tmp_path / "images.npy", tmp_path / "outputs.npy"]
    done = subprocess.run(
        [sys.executable, "-c", MIXED, *map(str, files), TARGET],
        env=host.environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("stages "))
    stages = json.loads(line.removeprefix("stages "))
    assert {name.endswith(TARGET) for name in stages} == {True, False}
    assert np.abs(np.load(tmp_path / "outputs.npy") - expected).max() <= limit

    # The command line finds the libraries by itself.
    command = [Path(sys.executable).with_name("nestling"), "run", bundle, "--place", TARGET]
    done = subprocess.run([*map(str, command), "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    shown = json.loads(done.stdout[done.stdout.index("{\n") :])
    assert shown["fallbacks"] == []
    assert list(shown["targets"]) == [TARGET]
