"""Bundles for several targets: paths over two of them, falling back, and where stages run best."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runtime.tiny_bundle import Artifacts, chain_of, tiny_builder
from runtime.tiny_model import BLOCKS, INPUT_UNITS, LEVELS, PATHS, Image, Lowered
from runtime.two_targets import add_target, portable_stages

import nestling_runtime
from nestling_runtime import EngineError, Model, PathError, TargetError, abi, native

Eager = Callable[[Image, tuple[int, ...]], Image]
BROKEN = "block1.w2"


@pytest.fixture(scope="module")
def portable() -> Mapping[str, Lowered]:
    """The stages without a delegate."""
    return portable_stages()


@pytest.fixture(scope="module")
def both(
    made: Artifacts, portable: Mapping[str, Lowered], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The tiny bundle for xnnpack and portable."""
    path = tmp_path_factory.mktemp("targets") / "both.nest"
    builder = tiny_builder(made)
    add_target(builder, "portable", portable)
    builder.write(path)
    return path


@pytest.fixture(scope="module")
def absent(made: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose own target is never here; everything has a stage for xnnpack as well."""
    path = tmp_path_factory.mktemp("targets") / "absent.nest"
    builder = tiny_builder(made, target="vulkan")
    add_target(builder, "xnnpack", made.stages)
    builder.write(path)
    return path


@pytest.fixture(scope="module")
def broken(
    made: Artifacts, portable: Mapping[str, Lowered], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """As `both`, with one stage for portable that ExecuTorch cannot read."""
    path = tmp_path_factory.mktemp("targets") / "broken.nest"
    builder = tiny_builder(made)
    add_target(builder, "portable", {**portable, BROKEN: Lowered(b"this is no program" * 9)})
    builder.write(path)
    return path


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    levels=st.tuples(*[st.integers(0, LEVELS)] * BLOCKS),
    where=st.lists(st.booleans(), min_size=BLOCKS + 2, max_size=BLOCKS + 2),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_path_over_two_targets_equals_eager(
    both: Path, eager: Eager, levels: tuple[int, ...], where: list[bool], seed: int
) -> None:
    image = np.random.default_rng(seed).standard_normal((1, INPUT_UNITS)).astype(np.float32)
    names = [
        f"{name}@portable" if there else name
        for name, there in zip(chain_of(levels), where, strict=False)
    ]
    with nestling_runtime.open(both, threads=1) as model, model.session() as session:
        session.select_stages(names)
        assert session.stages == tuple(names)
        logits = session.run(image=image)["logits"]
        assert model.fallbacks() == ()
    np.testing.assert_allclose(logits, eager(image, levels), atol=1e-5, rtol=1e-5)


def test_targets_and_stand_ins_are_told(both: Path) -> None:
    with nestling_runtime.open(both, threads=1) as model:
        bundle = model.bundle
        assert bundle.targets == ("xnnpack", "portable")
        assert [(t.name, t.runs, t.reason) for t in model.targets()] == [
            ("xnnpack", True, ""),
            ("portable", True, ""),
        ]
        assert sum(target.stages for target in model.targets()) == len(bundle.stages)
        for index, stage in enumerate(bundle.stages):
            base, _, target = stage.name.partition("@")
            assert bundle.stage_target(index) == (target or "xnnpack")
            for wanted in ("xnnpack", "portable", "acme"):
                name = base if wanted == "xnnpack" else f"{base}@{wanted}"
                names = [entry.name for entry in bundle.stages]
                expected = names.index(name) if name in names else None
                assert bundle.stand_in(index, wanted) == expected
                if wanted in bundle.targets:
                    number = bundle.targets.index(wanted)
                    stand_in = native.library().nst_model_stand_in(model.handle, index, number)
                    assert stand_in == (abi.NONE if expected is None else expected)


def test_the_device_says_which_target_is_best(both: Path, image: Image, eager: Eager) -> None:
    with nestling_runtime.open(both, threads=1, targets=["portable", "xnnpack"]) as model:
        with model.session() as session:
            session.select("full")  # its fused stage is only there for xnnpack
            assert session.stages == tuple(f"{n}@portable" for n in chain_of(PATHS["full"]))
            logits = session.run(image=image)["logits"]
            np.testing.assert_allclose(logits, eager(image, PATHS["full"]), atol=1e-5, rtol=1e-5)
            session.select("full", mode="fused")
            assert session.stages == ("fused.full",)
        assert model.fallbacks() == ()


def test_targets_that_were_not_asked_for_are_not_used(both: Path, image: Image) -> None:
    with nestling_runtime.open(both, threads=1, targets=["xnnpack"]) as model:
        (_, other) = model.targets()
        assert (other.runs, other.stages > 0) == (False, True)
        with model.session() as session:
            session.select_stages(["stem@portable", "head"])
            assert session.stages == ("stem", "head")
        (fallback,) = model.fallbacks()
        assert (fallback.stage, fallback.replacement) == ("stem@portable", "stem")
        assert "not among" in fallback.reason
    with pytest.raises(TargetError, match="xnnpack, portable"):
        nestling_runtime.open(both, targets=["openvino"])


@pytest.mark.parametrize("mode", ["default", "chain"])
def test_a_target_that_is_not_here_is_replaced(
    absent: Path, image: Image, eager: Eager, caplog: pytest.LogCaptureFixture, mode: str
) -> None:
    with caplog.at_level(logging.WARNING, logger="nestling_runtime"):
        model = nestling_runtime.open(absent, threads=1)
    assert "the target vulkan does not run here: " in caplog.text
    with model, model.session() as session:
        session.select("base", mode=mode)
        assert all(name.endswith("@xnnpack") for name in session.stages)
        logits = session.run(image=image)["logits"]
        np.testing.assert_allclose(logits, eager(image, PATHS["base"]), atol=1e-5, rtol=1e-5)
        replaced = {entry.stage: entry for entry in model.fallbacks()}
        for name in chain_of(PATHS["base"]):
            assert replaced[name].replacement == f"{name}@xnnpack"
            assert replaced[name].reason == model.targets()[0].reason != ""


def test_a_stage_that_nothing_stands_in_for_is_named(made: Artifacts, tmp_path: Path) -> None:
    builder = tiny_builder(made, target="vulkan")
    some = {name: stage for name, stage in made.stages.items() if not name.startswith("head")}
    add_target(builder, "xnnpack", some)
    builder.write(tmp_path / "a.nest")
    with nestling_runtime.open(tmp_path / "a.nest") as model, model.session() as session:
        session.select("full", mode="fused")
        with pytest.raises(TargetError, match=r"(?s)nothing stands in.*head"):
            session.select("full", mode="chain")
        assert session.stages == ("fused.full@xnnpack",)


def test_a_bundle_without_a_target_of_this_device_is_refused(
    made: Artifacts, tmp_path: Path
) -> None:
    builder = tiny_builder(made, target="vulkan")
    add_target(builder, "coreml", made.stages)
    builder.write(tmp_path / "a.nest")
    with pytest.raises(TargetError, match="it is for vulkan, coreml; vulkan: "):
        nestling_runtime.open(tmp_path / "a.nest")


@pytest.mark.parametrize("how", ["select", "stages", "load", "prefetch"])
def test_a_stage_that_does_not_load_is_replaced(
    broken: Path, image: Image, eager: Eager, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    with nestling_runtime.open(broken, threads=1, targets=["portable", "xnnpack"]) as model:
        with model.session() as session, caplog.at_level(logging.WARNING, "nestling_runtime"):
            wanted = [f"{name}@portable" for name in chain_of(PATHS["base"])]
            if how == "stages":
                session.select_stages(wanted)
            elif how == "load":
                model.load("base", mode="chain")
            elif how == "prefetch":
                model.prefetch("base", mode="chain").wait()
            if how != "stages":
                session.select("base", mode="chain")
            expected = [BROKEN if n == f"{BROKEN}@portable" else n for n in wanted]
            assert session.stages == tuple(expected)
            logits = session.run(image=image)["logits"]
            np.testing.assert_allclose(logits, eager(image, PATHS["base"]), atol=1e-5, rtol=1e-5)
            session.select("tiny", mode="chain")  # does not need it
            assert all(name.endswith("@portable") for name in session.stages)
        (fallback,) = model.fallbacks()
        assert (fallback.stage, fallback.replacement) == (f"{BROKEN}@portable", BROKEN)
        assert "ExecuTorch cannot read the program" in fallback.reason
    assert f"the stage {BROKEN} runs in the place of {BROKEN}@portable" in caplog.text


def test_a_stage_that_does_not_load_and_has_no_other_is_an_error(broken: Path) -> None:
    with nestling_runtime.open(broken, targets=["portable"]) as model, model.session() as session:
        session.select("tiny")
        with pytest.raises(EngineError, match="cannot read the program"):
            session.select("base")
        assert session.stages == tuple(f"{name}@portable" for name in chain_of(PATHS["tiny"]))
        session.run_bound()


def _costs(model: Model, path: str) -> tuple[list[list[float]], list[int]]:
    """Shortest times [step][target] in microseconds, and bytes at each border, by hand."""
    bundle = model.bundle
    chain = bundle.paths[bundle.path_index(path)].chain
    times = [
        [
            model.stage_stats(other).min_ns / 1e3
            for target in bundle.targets
            if (other := bundle.stand_in(stage, target)) is not None
        ]
        for stage in chain
    ]
    borders = []
    for border in range(1, len(chain)):
        before = {s for stage in chain[:border] for s in bundle.stages[stage].outputs}
        behind: set[int] = set()
        for stage in reversed(chain[border:]):
            behind = (behind - set(bundle.stages[stage].outputs)) | set(bundle.stages[stage].inputs)
        borders.append(sum(bundle.slots[slot].size_bytes for slot in before & behind))
    return times, borders


@pytest.mark.parametrize(("switch_us", "us_per_byte"), [(0.0, 0.0), (0.5, 0.01), (1e6, 0.0)])
def test_placement_is_the_cheapest_of_all(
    both: Path, image: Image, eager: Eager, switch_us: float, us_per_byte: float
) -> None:
    with nestling_runtime.open(both, threads=1) as model:
        placed = model.place(
            "full", inputs={"image": image}, repeat=3, switch_us=switch_us, us_per_byte=us_per_byte
        )
        times, borders = _costs(model, "full")
        sums = []
        for choice in itertools.product(range(2), repeat=len(times)):
            total = sum(times[step][target] for step, target in enumerate(choice))
            for border, (a, b) in zip(borders, itertools.pairwise(choice), strict=True):
                total += 0 if a == b else switch_us + border * us_per_byte
            sums.append(total)
        assert placed.predicted_us == pytest.approx(min(sums))
        assert set(placed.single_us) == {"xnnpack", "portable"}
        if switch_us == 1e6:
            assert len(set(placed.targets)) == 1
        with model.session() as session:
            session.select_stages(placed.stages)
            assert session.stages == placed.stages
            logits = session.run(image=image)["logits"]
    np.testing.assert_allclose(logits, eager(image, PATHS["full"]), atol=1e-5, rtol=1e-5)


def test_placement_measures_what_a_change_of_the_target_costs(both: Path) -> None:
    with nestling_runtime.open(both, threads=1) as model:
        placed = model.place("full", repeat=3)
        assert 0 <= placed.switch_us < 1e6
        assert placed.predicted_us > 0
        with pytest.raises(PathError):
            model.place("no such path")
        with pytest.raises(ValueError, match="at least 3"):
            model.place("full", repeat=1)
