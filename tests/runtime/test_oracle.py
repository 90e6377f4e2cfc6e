"""What comes out is what eager torch and ExecuTorch's own runtime compute."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runtime.tiny_bundle import Artifacts, chain_of
from runtime.tiny_model import BLOCKS, INPUT_UNITS, LEVELS, PATHS, Image

from nestling_runtime import EngineError, Model, PathError, Session

Eager = Callable[[Image, tuple[int, ...]], Image]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("mode", ["fused", "chain"])
def test_named_path_equals_eager(
    session: Session, eager: Eager, image: Image, path: str, mode: str
) -> None:
    session.select(path, mode=mode)
    for scale in (1.0, -2.0, 0.0):
        scaled = (image * scale).astype(np.float32)
        logits = session.run(image=scaled)["logits"]
        np.testing.assert_allclose(logits, eager(scaled, PATHS[path]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("path", PATHS)
def test_chain_is_bit_identical_to_fused(session: Session, image: Image, path: str) -> None:
    session.select(path, mode="fused")
    assert session.selection() == (path, "fused", 1)
    fused = session.run(image=image)["logits"]
    session.select(path, mode="chain")
    assert session.selection() == (path, "chain", len(chain_of(PATHS[path])))
    assert session.run(image=image)["logits"].tobytes() == fused.tobytes()


def test_default_mode_is_fused_where_there_is_one(session: Session, image: Image) -> None:
    session.select("full")
    assert session.selection() == ("full", "fused", 1)


# Both runtimes in one process share one copy of the libraries.
_EXECUTORCH_RUNTIME = """
import json, sys, nestling_runtime
model = nestling_runtime.open(sys.argv[3], threads=1)
session = model.session()
session.select("full")
session.run_bound()
import torch
from executorch.runtime import Runtime
image = torch.tensor(json.loads(sys.argv[2]))
results = {}
for name in sys.argv[4:]:
    program = Runtime.get().load_program(f"{sys.argv[1]}/{name}.pte")
    method = program.load_method("forward")
    results[name] = method.execute([image])[0].tolist()
session.run_bound()
session.select("tiny", mode="chain")
session.run_bound()
model.close()
print("RESULT" + json.dumps(results))
"""


def test_named_paths_equal_executorch(
    session: Session, made: Artifacts, image: Image, tiny_path: Path, tmp_path: Path
) -> None:
    for name, program in made.dense.items():
        (tmp_path / f"{name}.pte").write_bytes(program)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            _EXECUTORCH_RUNTIME,
            tmp_path,
            json.dumps(image.tolist()),
            tiny_path,
            *PATHS,
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    expected = json.loads(done.stdout.rpartition("RESULT")[2])
    for name in PATHS:
        session.select(name)
        np.testing.assert_allclose(
            session.run(image=image)["logits"], np.float32(expected[name]), atol=1e-6
        )


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    levels=st.tuples(*[st.integers(0, LEVELS)] * BLOCKS),
    values=st.lists(st.floats(-3, 3, width=32), min_size=INPUT_UNITS, max_size=INPUT_UNITS),
)
def test_any_mix_of_stages_equals_eager(
    session: Session, eager: Eager, levels: tuple[int, ...], values: list[float]
) -> None:
    given_image = np.array([values], dtype=np.float32)
    session.select_stages(chain_of(levels))
    logits = session.run(image=given_image)["logits"]
    np.testing.assert_allclose(logits, eager(given_image, levels), atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize(
    ("stages", "reason"),
    [
        ([], "no stage"),
        (["head"], "skips position 'stem'"),
        (["stem", "block0.w1"], "skips position 'head'"),
        (["stem", "block1.w1", "block0.w1", "head"], "already passed"),
        (["stem", "block0.w1", "block0.w2", "head"], "already passed"),
        (["stem", "stem", "head"], "already passed"),
        (["fused.full", "head"], "already passed"),
        (["stem", "block9.w1", "head"], "no stage 'block9.w1'"),
        (["stem", 999, "head"], "no stage 999"),
    ],
)
def test_illegal_lists_are_refused_and_the_selection_stays(
    session: Session, image: Image, stages: list[str | int], reason: str
) -> None:
    session.select("tiny")
    before = session.run(image=image)["logits"]
    with pytest.raises(PathError, match=reason):
        session.select_stages(stages)
    with pytest.raises(PathError, match=reason):
        session._model.bundle.check_path(stages)
    assert session.selection()[0] == "tiny"
    np.testing.assert_array_equal(session.run(image=image)["logits"], before)


def test_a_fused_stage_is_a_legal_list(session: Session, eager: Eager, image: Image) -> None:
    session.select_stages(["fused.base"])
    assert session.selection() == (None, "chain", 1)
    np.testing.assert_allclose(
        session.run(image=image)["logits"], eager(image, PATHS["base"]), atol=1e-5
    )


def test_unknown_names(model: Model, session: Session, image: Image) -> None:
    with pytest.raises(PathError, match=r"no path 'huge'.*it has tiny, base, full"):
        session.select("huge")
    with pytest.raises(PathError, match="no input 'picture'; it has image"):
        session.run(picture=image)
    with pytest.raises(PathError, match="no slot 'y'"):
        session.tensor("y")
    with pytest.raises(PathError, match="no stage 'tail'"):
        model.stage_stats("tail")
    with pytest.raises(ValueError, match="mode is one of"):
        session.select("tiny", mode="fast")  # type: ignore[arg-type]


def test_running_needs_a_selection(session: Session, image: Image) -> None:
    with pytest.raises(EngineError, match="no path is selected"):
        session.run(image=image)


def test_inputs_must_fit(session: Session, image: Image) -> None:
    session.select("tiny")
    with pytest.raises(EngineError, match=r"another dtype \(expected float32, actual float64\)"):
        session.run(image=image.astype(np.float64))
    with pytest.raises(EngineError, match="another shape"):
        session.run(image=image[:, :8])
    with pytest.raises(EngineError, match="read-only"):
        frozen = np.zeros((1, 10), np.float32)
        frozen.flags.writeable = False
        session.bind_output("logits", frozen)


def test_binding_is_zero_copy(session: Session, eager: Eager, image: Image) -> None:
    mine = image.copy()
    out = np.empty((1, 16), np.float32)[:, :10].copy()
    session.select("base", mode="chain")
    session.bind_input("image", mine)
    session.bind_output("logits", out)
    for factor in (1.0, 0.5):
        mine[:] = image * np.float32(factor)
        session.run_bound()
        np.testing.assert_allclose(out, eager(mine, PATHS["base"]), atol=1e-5)
        assert session.tensor("logits") is out
    session.select("full", mode="fused")  # bindings survive a switch
    session.run_bound()
    np.testing.assert_allclose(out, eager(mine, PATHS["full"]), atol=1e-5)
    session.bind_input("image", None)
    session.bind_output("logits", None)
    session.tensor("image")[:] = image
    session.run_bound()
    np.testing.assert_allclose(session.tensor("logits"), eager(image, PATHS["full"]), atol=1e-5)
