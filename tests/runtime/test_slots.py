"""Slots that live on from run to run."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from runtime.tiny_bundle import Artifacts
from runtime.tiny_model import CLASSES, STREAM_UNITS, Image, TinyNet, content_key

import nestling_runtime
from nestling.bundle.manifest import SlotRole
from nestling.bundle.writer import BundleBuilder
from nestling_runtime import BundleError, CancelledError, EngineError

# The tiny net's blocks, in other roles: each step is x -> block(x, gate), any number of them.
STEPS = ("block0", "block1", "block2")


def recurrent_bundle(made: Artifacts, path: Path, role: SlotRole) -> None:
    """A bundle whose steps read and write one slot `x` of a role, and a head that reads it."""
    builder = BundleBuilder(name="recurrent")
    x = builder.add_slot("x", "f32", (1, STREAM_UNITS), role)
    gate = builder.add_slot("gate", "f32", (1, STREAM_UNITS), "input")
    logits = builder.add_slot("logits", "f32", (1, CLASSES), "output")
    for index, name in enumerate((*STEPS, "head")):
        builder.add_position(name, index, name == "head")
    stages = []
    for index, name in enumerate((*STEPS, "head")):
        lowered = made.stages["head" if name == "head" else f"{name}.w2"]
        bindings = []
        for wanted, weight in lowered.weights.items():
            key = content_key(weight) if weight.dtype else wanted
            constant = builder.add_constant(
                "core", key, weight.data, weight.dtype, weight.shape, weight.dim_order
            )
            bindings.append((wanted, constant))
        stages.append(
            builder.add_stage(
                name,
                program=builder.add_program(lowered.pte),
                first=index,
                inputs=[x] if name == "head" else [x, gate],
                outputs=[logits] if name == "head" else [x],
                bindings=bindings,
                arena_bytes=lowered.arena_bytes,
            )
        )
    builder.add_path("all", stages)
    builder.write(path)


def step(net: TinyNet, stages: tuple[str, ...], x: Image, gate: Image) -> Image:
    """The oracle: what `x` is after some steps."""
    with torch.no_grad():
        value = torch.from_numpy(x)
        for name in stages:
            value = net.blocks[STEPS.index(name)](value, torch.from_numpy(gate), 2)
        result: Image = value.numpy()
        return result


def head(net: TinyNet, x: Image) -> Image:
    with torch.no_grad():
        result: Image = net.head(torch.from_numpy(x)).numpy()
        return result


ANY_STEPS = [chosen for count in range(4) for chosen in itertools.combinations(STEPS, count)]


@pytest.fixture
def gate() -> Image:
    return np.random.default_rng(3).standard_normal((1, STREAM_UNITS)).astype(np.float32)


def test_state_survives_runs_and_switches(
    made: Artifacts, net: TinyNet, tmp_path: Path, gate: Image
) -> None:
    recurrent_bundle(made, tmp_path / "state.nest", "state")
    with (
        nestling_runtime.open(tmp_path / "state.nest", threads=1) as model,
        model.session() as session,
        model.session() as other,
    ):
        other.select("all")
        expected = np.zeros((1, STREAM_UNITS), np.float32)
        assert not session.tensor("x").any()
        # An odd and an even number of writers, after each other in every order.
        for chosen in (*ANY_STEPS, *reversed(ANY_STEPS)):
            session.select_stages([*chosen, "head"])
            logits = session.run(gate=gate)["logits"]
            other.run(gate=-gate)
            expected = step(net, chosen, expected, gate)
            np.testing.assert_allclose(session.tensor("x"), expected, atol=1e-4, rtol=1e-4)
            np.testing.assert_allclose(logits, head(net, expected), atol=1e-4, rtol=1e-4)
            expected = session.tensor("x").copy()
        session.tensor("x")[:] = 1.0
        session.select_stages(["block1", "head"])
        session.run(gate=gate)
        ones = step(net, ("block1",), np.ones((1, STREAM_UNITS), np.float32), gate)
        np.testing.assert_allclose(session.tensor("x"), ones, atol=1e-5)
        before = session.tensor("x").copy()
        session.cancel()
        with pytest.raises(CancelledError):
            session.run(gate=gate)
        np.testing.assert_array_equal(session.tensor("x"), before)
        session.reset_state()
        assert not session.tensor("x").any()
        assert other.tensor("x").any()


def test_inputs_are_not_written(made: Artifacts, tmp_path: Path) -> None:
    recurrent_bundle(made, tmp_path / "input.nest", "input")
    with pytest.raises(BundleError, match="writes an input slot"):
        nestling_runtime.open(tmp_path / "input.nest")


def test_internal_slots_have_no_address(session: nestling_runtime.Session) -> None:
    with pytest.raises(EngineError, match="x has no memory between runs"):
        session.tensor("x")
