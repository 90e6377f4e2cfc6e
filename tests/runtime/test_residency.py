"""Memory: what is loaded, what it counts, who may stay under a budget."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from runtime.tiny_bundle import chain_of
from runtime.tiny_model import BLOCKS, LEVELS, PATHS, Image

import nestling_runtime
from nestling_runtime import BudgetError, CancelledError, EngineError, Model, Session


def constant_bytes(model: Model, stages: list[str]) -> int:
    """The oracle: sizes of the distinct constants of some stages, from the tables."""
    bundle = model.bundle
    used = {
        constant
        for name in stages
        for _, constant in bundle.stages[bundle.stage_index(name)].bindings
    }
    return sum(bundle.constants[index].size_bytes for index in used)


def resident_stages(model: Model) -> list[str]:
    return [stats.name for stats in model.stats() if stats.resident]


def test_nothing_is_loaded_by_opening(model: Model) -> None:
    memory = model.memory()
    assert (memory.resident_bytes, memory.stages_resident, memory.loads) == (0, 0, 0)


def test_shared_constants_count_once(model: Model) -> None:
    loaded: list[str] = []
    for name in PATHS:
        for mode in ("chain", "fused"):
            assert model.missing_bytes(name) > 0 or mode == "fused" or f"fused.{name}" in loaded
            model.load(name, mode=mode)  # type: ignore[arg-type]
            loaded += chain_of(PATHS[name]) if mode == "chain" else [f"fused.{name}"]
            memory = model.memory()
            assert memory.constant_bytes == constant_bytes(model, loaded)
            assert memory.resident_bytes == memory.constant_bytes + memory.stage_bytes
            assert memory.stages_resident == len(set(loaded))
    assert all(model.missing_bytes(name) == 0 for name in PATHS)
    assert model.memory().peak_bytes == model.memory().resident_bytes
    freed = model.evict()
    assert freed == memory.resident_bytes
    assert model.memory().resident_bytes == 0
    assert model.memory().evictions == len(set(loaded))


def test_missing_bytes_is_what_loading_adds(model: Model) -> None:
    missing = model.missing_bytes("base")
    model.load("base", mode="fused")
    assert model.memory().resident_bytes == missing


def test_a_budget_evicts_the_least_recently_used(model: Model, session: Session) -> None:
    for name in ("tiny", "base", "full"):
        model.load(name, mode="fused")
    session.select("tiny", mode="fused")
    session.select("full", mode="fused")  # least recent now: base, then tiny
    needed = model.memory().resident_bytes
    model.set_budget(needed - 1)
    assert resident_stages(model) == ["fused.tiny", "fused.full"]
    model.set_budget(model.memory().resident_bytes)
    model.set_budget(0)


def test_a_budget_too_small_is_refused_with_the_missing_bytes(
    tiny_path: Path, image: Image
) -> None:
    with nestling_runtime.open(tiny_path, threads=1) as probe, probe.session() as tried:
        tried.select("full", mode="chain")
        full_bytes = probe.memory().resident_bytes
        tried.select("tiny", mode="chain")
        probe.evict()
        tiny_bytes = probe.memory().resident_bytes
    with (
        nestling_runtime.open(tiny_path, threads=1, budget_bytes=full_bytes - 10) as model,
        model.session() as session,
    ):
        session.select("tiny", mode="chain")
        expected = session.run(image=image)["logits"]
        with pytest.raises(BudgetError, match="bytes too small") as refused:
            session.select("full", mode="chain")
        assert refused.value.missing_bytes >= 10
        # What ran goes on running, and the budget holds.
        np.testing.assert_array_equal(session.run(image=image)["logits"], expected)
        assert model.memory().resident_bytes <= full_bytes - 10
        with pytest.raises(BudgetError) as refused:
            model.set_budget(tiny_bytes - 1)
        assert refused.value.missing_bytes == 1
        assert model.memory().budget_bytes == full_bytes - 10
        # The message is right: with that much more, it fits.
        model.set_budget(full_bytes)
        session.select("full", mode="chain")
        assert model.memory().resident_bytes <= full_bytes


def test_a_switch_may_use_the_room_of_the_path_that_it_leaves(
    tiny_path: Path, image: Image
) -> None:
    with nestling_runtime.open(tiny_path, threads=1) as probe:
        sizes = {}
        for name in PATHS:
            probe.load(name, mode="fused")
            sizes[name] = probe.memory().resident_bytes
            probe.evict()
    budget = max(sizes.values())
    with (
        nestling_runtime.open(tiny_path, threads=1, budget_bytes=budget) as model,
        model.session() as session,
    ):
        # "full" alone fills the budget.
        for name in ("full", "tiny", "full", "base", "full"):
            session.select(name, mode="fused")
            session.run(image=image)
            assert model.memory().resident_bytes <= budget


def test_selected_stages_cannot_be_evicted(model: Model, session: Session, image: Image) -> None:
    session.select("base", mode="chain")
    with pytest.raises(EngineError, match="selected by a session"):
        model.evict(["stem"])
    assert model.evict() == 0
    session.run(image=image)
    session.close()
    assert model.evict(["stem"]) > 0
    assert model.evict(["stem"]) == 0
    assert "stem" not in resident_stages(model)


def test_an_evicted_path_loads_again(model: Model, session: Session, image: Image) -> None:
    session.select("full", mode="chain")
    expected = session.run(image=image)["logits"]
    session.select("tiny", mode="fused")
    model.evict()
    session.select("full", mode="chain")
    np.testing.assert_array_equal(session.run(image=image)["logits"], expected)
    assert model.stage_stats("block0.w3").loads == 2


def test_statistics(model: Model, session: Session, image: Image) -> None:
    session.select("base", mode="chain")
    for _ in range(3):
        session.run(image=image)
    session.select("tiny", mode="chain")
    session.run(image=image)
    calls = {stats.name: stats.calls for stats in model.stats() if stats.calls}
    assert calls == {
        "stem": 4,
        "head": 4,
        "block0.w1": 1,
        "block2.w1": 1,
        "block0.w2": 3,
        "block1.w2": 3,
        "block2.w2": 3,
    }
    stem = model.stage_stats("stem")
    assert 0 < stem.min_ns <= stem.last_ns <= stem.total_ns
    assert stem.min_ns * stem.calls <= stem.total_ns
    assert stem.load_ns > 0
    assert stem.resident_bytes > constant_bytes(model, ["stem"])
    assert stem.pins == 1
    assert session.runs == 4
    model.reset_stats()
    assert all(stats.calls == stats.total_ns == stats.min_ns == 0 for stats in model.stats())


def test_prefetch_reports_progress(model: Model, session: Session, image: Image) -> None:
    seen: list[tuple[int, int, int]] = []
    with model.prefetch("base", mode="chain", progress=lambda *at: seen.append(at)):
        pass
    stages = len(chain_of(PATHS["base"]))
    assert [left for _, _, left in seen] == list(range(stages, -1, -1))
    loaded = [done for done, _, _ in seen]
    assert loaded[0] == 0
    assert all(a < b for a, b in itertools.pairwise(loaded))
    assert loaded[-1] == seen[-1][1] > 0
    loads = model.memory().loads
    session.select("base", mode="chain")
    session.run(image=image)
    assert model.memory().loads == loads == stages
    # Everything is there already: one report, nothing to do.
    seen.clear()
    with model.prefetch("base", mode="chain", progress=lambda *at: seen.append(at)):
        pass
    assert seen == [(0, 0, stages)]


def test_prefetch_can_be_cancelled_at_each_stage(model: Model) -> None:
    for stop_at in range(4):
        model.evict()
        left_then = len(chain_of(PATHS["base"])) - stop_at
        prefetch = model.prefetch(
            "base", mode="chain", progress=lambda *at, stop=left_then: at[2] == stop
        )
        with pytest.raises(CancelledError):
            prefetch.wait()
        assert prefetch.done
        assert model.memory().stages_resident == stop_at
        assert model.memory().stages_pinned == 0


def test_prefetch_can_be_cancelled_from_another_thread(model: Model) -> None:
    cancelled = threading.Event()
    prefetch = model.prefetch("base", mode="chain", progress=lambda *_: not cancelled.wait(60))
    prefetch.cancel()
    cancelled.set()
    with pytest.raises(CancelledError):
        prefetch.wait()
    assert model.memory().stages_resident == 0


def test_errors_of_a_progress_callback_reach_who_waits(model: Model) -> None:
    def fail(loaded: int, total: int, left: int) -> None:
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        model.prefetch("base", progress=fail).wait()
    assert model.memory().stages_resident == 0


def test_prefetch_of_what_does_not_fit(tiny_path: Path) -> None:
    with nestling_runtime.open(tiny_path, threads=1, budget_bytes=1000) as model:
        with pytest.raises(BudgetError) as refused:
            model.prefetch("tiny").wait()
        assert refused.value.missing_bytes > 0


def test_closing_ends_sessions_and_prefetches(tiny_path: Path, image: Image) -> None:
    model = nestling_runtime.open(tiny_path, threads=1)
    session = model.session()
    session.select("tiny")
    model.prefetch("full", mode="chain")
    model.close()
    model.close()
    with pytest.raises(EngineError, match="session is closed"):
        session.run(image=image)
    with pytest.raises(EngineError, match="model is closed"):
        model.session()


class ResidencyMachine(RuleBasedStateMachine):
    """Any sequence of loads, switches and evictions keeps the accounts and the results right."""

    tiny_path: Path
    expected: dict[tuple[int, ...], bytes]
    image: Image

    @initialize(budget_kib=st.sampled_from([0, 80, 120, 200, 400]))
    def open(self, budget_kib: int) -> None:
        self.model = nestling_runtime.open(
            self.tiny_path, threads=1, budget_bytes=budget_kib * 1024
        )
        self.sessions = [self.model.session(), self.model.session()]
        self.selected: list[tuple[int, ...] | None] = [None, None]

    @rule(
        which=st.integers(0, 1),
        levels=st.tuples(*[st.integers(0, LEVELS)] * BLOCKS),
    )
    def select_stages(self, which: int, levels: tuple[int, ...]) -> None:
        try:
            self.sessions[which].select_stages(chain_of(levels))
            self.selected[which] = levels
        except BudgetError as refused:
            assert refused.missing_bytes > 0

    @rule(which=st.integers(0, 1), name=st.sampled_from(list(PATHS)))
    def select_fused(self, which: int, name: str) -> None:
        try:
            self.sessions[which].select(name, mode="fused")
            self.selected[which] = PATHS[name]
        except BudgetError as refused:
            assert refused.missing_bytes > 0

    @rule(which=st.integers(0, 1))
    def run(self, which: int) -> None:
        levels = self.selected[which]
        if levels is not None:
            logits = self.sessions[which].run(image=self.image)["logits"]
            known = self.expected.setdefault(levels, logits.tobytes())
            assert logits.tobytes() == known

    @rule(name=st.sampled_from(list(PATHS)))
    def load(self, name: str) -> None:
        try:
            self.model.load(name, mode="chain")
        except BudgetError as refused:
            assert refused.missing_bytes > 0

    @rule()
    def evict(self) -> None:
        before = self.model.memory().resident_bytes
        freed = self.model.evict()
        assert self.model.memory().resident_bytes == before - freed

    @invariant()
    def accounts_are_right(self) -> None:
        if not hasattr(self, "model"):
            return
        memory = self.model.memory()
        assert memory.constant_bytes == constant_bytes(self.model, resident_stages(self.model))
        if memory.budget_bytes:
            assert memory.resident_bytes <= memory.budget_bytes
        pinned = {stats.name for stats in self.model.stats() if stats.pins}
        assert pinned <= set(resident_stages(self.model))

    def teardown(self) -> None:
        if hasattr(self, "model"):
            self.model.close()


def test_residency_keeps_its_accounts(tiny_path: Path, image: Image) -> None:
    machine = type(
        "Machine",
        (ResidencyMachine,),
        {"tiny_path": tiny_path, "image": image, "expected": {}},
    )
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=25,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
