"""What the engine refuses, and what it keeps doing then."""

from __future__ import annotations

import ctypes
import hashlib
from pathlib import Path
from typing import Any

import cbor2
import pytest
from bundle.samples import edited
from micro.engine.host import MicroEngine, MicroError
from micro.engine.samples import digits_bundle, held_out, small_bundle

from nestling.targets.cortex_m.fit import measure
from nestling_runtime.bundle import Bundle

CANCELLED, TARGET, BUDGET, PATH, LIMIT = -13, -12, -11, -10, -9


@pytest.fixture
def engine():
    made = MicroEngine(digits_bundle())
    yield made
    made.close()


def image():
    return held_out()[:1].numpy()


def test_a_path_may_change_between_any_two_runs(engine: MicroEngine) -> None:
    alone = {}
    for path in engine.paths:
        engine.select(path)
        alone[path] = engine.run(image())
    for path in [*engine.paths, *reversed(engine.paths)]:
        engine.select(path)
        assert engine.run(image()) == alone[path]


def test_what_an_earlier_run_left_in_the_arena_does_not_matter(engine: MicroEngine) -> None:
    engine.select("full")
    before = engine.run(image())
    for value in (0x00, 0x7F, 0xFF):
        engine.scribble(engine.memory().arena_bytes, value)
        assert engine.run(image()) == before


def test_an_input_lasts_until_it_is_written_again(engine: MicroEngine) -> None:
    engine.select("full")
    first = engine.run(image())
    engine.select("tiny")
    engine.run(image())
    engine.select("full")
    assert engine.run() == first


def test_tracing_counts_without_changing_results(engine: MicroEngine) -> None:
    engine.select("small")
    plain = engine.run(image())
    chain = engine.chains[engine.paths["small"]]
    assert all(engine.stage(stage).total == 0 for stage in chain)
    engine.trace(True)
    assert engine.run(image()) == plain
    assert all(engine.stage(stage).total > 0 for stage in chain)
    assert [engine.stage(stage).calls for stage in chain] == [2] * len(chain)
    other = next(stage for stage in engine.chains[engine.paths["full"]] if stage not in chain)
    assert engine.stage(other).calls == 0


def test_the_watchdog_is_fed_while_a_path_runs(engine: MicroEngine) -> None:
    engine.select("full")
    before = engine.feeds
    engine.run(image())
    assert engine.feeds - before >= len(engine.chains[engine.paths["full"]])


def test_without_a_bundle_the_arena_is_known_all_the_same(engine: MicroEngine) -> None:
    capacity = engine.memory().arena_capacity
    engine.close_bundle()
    memory = engine.memory()
    assert (memory.arena_capacity, memory.arena_bytes) == (capacity, 0)
    assert capacity > 0


def test_cancelling_stops_one_run(engine: MicroEngine) -> None:
    engine.select("full")
    before = engine.run(image())
    engine.cancel()
    with pytest.raises(MicroError, match="cancelled") as caught:
        engine.run(image())
    assert caught.value.code == CANCELLED
    assert engine.run(image()) == before


def test_one_arena_serves_all_paths_and_is_known_beforehand(engine: MicroEngine) -> None:
    bundle = digits_bundle()
    with Bundle.open(bundle) as opened:
        need = measure(opened, bundle)
    assert engine.memory().arena_bytes == need.arena_bytes == need.largest_path_arena_bytes
    assert 0 < need.peak.bytes <= need.arena_bytes


def test_a_smaller_arena_is_refused_with_its_stage_and_bytes() -> None:
    bundle = digits_bundle()
    with Bundle.open(bundle) as opened:
        need = measure(opened, bundle).arena_bytes
    MicroEngine(bundle, arena_bytes=need).close()
    with pytest.raises(MicroError, match="arena") as caught:
        MicroEngine(bundle, arena_bytes=need - 16)
    error = caught.value
    assert (error.code, error.expected, error.actual) == (BUDGET, need, need - 16)
    assert error.stage.startswith("layer0.")


def test_state_memory_has_a_size_that_is_enough(engine: MicroEngine) -> None:
    need = engine.state_bytes
    MicroEngine(digits_bundle(), state_bytes=need).close()
    with pytest.raises(MicroError, match="state memory") as caught:
        MicroEngine(digits_bundle(), state_bytes=need - 64)
    assert caught.value.code == LIMIT
    assert caught.value.expected > caught.value.actual


def test_a_stage_for_another_target_is_refused(tmp_path: Path) -> None:
    def edit(manifest: dict[str, Any]) -> None:
        number = manifest["stages"][1]["program"]
        manifest["programs"][number]["target"] = "cortex-m4"
        for stage in manifest["stages"]:
            if stage["program"] == number:
                stage["name"] += "@cortex-m4"

    data = small_bundle().read_bytes()
    several = tmp_path / "several.nest"
    several.write_bytes(edited(data[:8] + (2).to_bytes(4, "little") + data[12:], edit))
    with pytest.raises(MicroError, match="split the bundle for this device") as caught:
        MicroEngine(several)
    assert caught.value.code == TARGET
    assert caught.value.stage.endswith("@cortex-m4")


def test_a_plan_for_another_core_is_refused() -> None:
    with pytest.raises(MicroError, match="another core") as caught:
        MicroEngine(small_bundle("cortex-m7"), isa=2)
    assert caught.value.code == TARGET
    assert caught.value.stage == "stem"
    with pytest.raises(MicroError, match="cortex-m7") as caught:
        MicroEngine(small_bundle("cortex-m7"), target="cortex-m55")
    assert caught.value.code == TARGET


def test_a_bad_bundle_leaves_the_open_one_running(engine: MicroEngine) -> None:
    engine.select("small")
    before = engine.run(image())
    data = bytearray(digits_bundle().read_bytes())
    data[-1] ^= 1
    with pytest.raises(MicroError, match="not those that were written"):
        engine.open(bytes(data), second=True)
    assert engine.run(image()) == before
    engine.open(digits_bundle().read_bytes(), second=True)
    engine.select("small")
    assert engine.run(image()) == before


def test_lists_of_stages_are_judged_by_the_core(engine: MicroEngine) -> None:
    chain = engine.chains[engine.paths["full"]]
    engine.select(chain)
    for bad in (chain[1:], [*chain, chain[-1]], [], chain[:-1]):
        with pytest.raises(MicroError) as caught:
            engine.select(bad)
        assert caught.value.code == PATH
    engine.select("full")


def test_a_budget_below_the_arena_is_refused(engine: MicroEngine) -> None:
    need = engine.memory().arena_bytes
    engine.call("budget", ctypes.c_uint64(need))
    with pytest.raises(MicroError) as caught:
        engine.call("budget", ctypes.c_uint64(need - 1))
    assert (caught.value.code, caught.value.expected) == (BUDGET, need)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, 0, "not a plan"),
        (4, 2, "version"),
        (12, 0, "no instructions"),
        (16, 8, "header"),
        (20, 2**31, "tables"),
        (28, 0, "tensors|number|inside|plan"),
        (44, 1, "header"),
    ],
)
def test_a_damaged_plan_is_refused_with_its_stage(
    place: int, value: int, message: str, tmp_path: Path
) -> None:
    data = bytearray(small_bundle().read_bytes())
    with Bundle.open(small_bundle()) as bundle:
        stage = bundle.stages[0]
        program = bundle.programs[stage.program]
        section = bundle.sections[program.section]
    start = section.offset_bytes + program.offset_bytes + place
    data[start : start + 4] = value.to_bytes(4, "little")
    bad = tmp_path / "bad.nest"
    bad.write_bytes(_with_right_hashes(bytes(data), program.section))
    with pytest.raises(MicroError, match=message) as caught:
        MicroEngine(bad)
    assert caught.value.stage == stage.name


def _with_right_hashes(data: bytes, section: int) -> bytes:
    """A bundle whose content was changed, as if it had been written like that."""
    size = int.from_bytes(data[16:24], "little")
    manifest = cbor2.loads(data[64 : 64 + size])
    entry = manifest["sections"][section]
    content = data[entry["offset"] : entry["offset"] + entry["size"]]
    entry["sha256"] = hashlib.sha256(content).digest()
    encoded = cbor2.dumps(manifest, canonical=True)
    assert len(encoded) == size
    return data[:32] + hashlib.sha256(encoded).digest() + encoded + data[64 + size :]
