"""Running on a device: the oracle's answers on every path, whatever ran before."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from devices.subjects import Subject, check

from nestling_devices import Device
from nestling_runtime.errors import CancelledError, EngineError, PathError


def test_every_path_gives_the_oracles_outputs(shared: Device, subject: Subject) -> None:
    for number, path in enumerate(subject.paths):
        inputs = subject.inputs(number)
        selection = shared.select(path)
        assert selection.path == number
        check(subject, shared.run(**inputs), subject.expected(subject.bundle, path, inputs))


def test_any_legal_list_of_stages_runs(shared: Device, subject: Subject) -> None:
    lists = subject.stage_lists()
    assert lists
    for seed, stages in enumerate(lists):
        inputs = subject.inputs(100 + seed)
        selection = shared.select(stages)
        assert (selection.path, selection.stages) == (None, len(stages))
        check(subject, shared.run(**inputs), subject.expected(subject.bundle, stages, inputs))


def test_a_switch_changes_nothing_but_the_path(shared: Device, subject: Subject) -> None:
    inputs = subject.inputs(7)
    names = [subject.paths[i] for i in np.random.default_rng(0).integers(0, len(subject.paths), 12)]
    for path in names:
        shared.select(path)
        check(subject, shared.run(**inputs), subject.expected(subject.bundle, path, inputs))


def test_the_arena_does_not_depend_on_the_path(shared: Device, subject: Subject) -> None:
    arenas = set()
    for path in subject.paths:
        shared.select(path)
        shared.run(**subject.inputs(0))
        arenas.add(shared.residency().arena)
    assert len(arenas) == 1


def test_paths_slots_and_info_are_the_bundles(shared: Device, subject: Subject) -> None:
    from nestling_runtime.bundle import Bundle

    with Bundle.open(subject.bundle) as bundle:
        assert [p.name for p in shared.paths()] == [p.name for p in bundle.paths]
        assert [p.macs for p in shared.paths()] == [p.macs for p in bundle.paths]
        assert shared.tensors() == bundle.slots
        info = shared.info()
        assert (info.bundle, info.target) == (bundle.name, bundle.target)
        assert bundle.target in info.targets


def test_tracing_counts_the_calls_and_changes_no_output(shared: Device, subject: Subject) -> None:
    path, inputs = subject.paths[-1], subject.inputs(3)
    selection = shared.select(path)
    before = {item.stage: item.calls for item in shared.trace()}
    shared.set_trace(True)
    check(subject, shared.run(**inputs), subject.expected(subject.bundle, path, inputs))
    after = shared.trace()
    shared.set_trace(False)
    assert sum(item.calls - before[item.stage] for item in after) == selection.stages
    assert sum(item.cost for item in after) > 0


def test_telemetry_counts(shared: Device, subject: Subject) -> None:
    shared.select(subject.paths[0])
    before = shared.telemetry()
    shared.run(**subject.inputs(0))
    shared.select(subject.paths[-1])
    after = shared.telemetry()
    assert after.runs == before.runs + 1
    assert after.switches == before.switches + 1
    assert after.frames > before.frames
    assert after.uptime_ms >= before.uptime_ms


def test_the_policy_chooses_the_largest_path_that_is_fast_enough(
    shared: Device, subject: Subject
) -> None:
    for path in subject.paths:
        shared.select(path)
        for seed in range(3):
            shared.run(**subject.inputs(seed))
    costs = [path.cost for path in shared.paths()]
    assert all(cost is not None and cost > 0 for cost in costs)
    number, _ = shared.choose(2**40)
    assert number == len(subject.paths) - 1
    number, _ = shared.choose(1)
    assert number == 0


def test_a_cancelled_run_says_so_and_the_next_one_is_right(
    shared: Device, subject: Subject
) -> None:
    path, inputs = subject.paths[-1], subject.inputs(5)
    shared.select(path)
    shared.cancel()
    with pytest.raises(CancelledError):
        shared.run(**inputs)
    check(subject, shared.run(**inputs), subject.expected(subject.bundle, path, inputs))


def test_calls_from_several_threads_take_turns(shared: Device, subject: Subject) -> None:
    shared.select(subject.paths[0])
    failures: list[BaseException] = []

    def look() -> None:
        try:
            for _ in range(10):
                assert shared.client.echo("hello") == "hello"
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.parametrize(
    "path", ["nowhere", 10_000, [], [0], [0, 0, 10_000]], ids=["name", "number", "no", "one", "far"]
)
def test_a_path_that_is_not_there_is_a_path_error(
    shared: Device, subject: Subject, path: str | int | list[int]
) -> None:
    shared.select(subject.paths[0])
    with pytest.raises(PathError):
        shared.select(path)
    inputs = subject.inputs(1)
    wanted = subject.expected(subject.bundle, subject.paths[0], inputs)
    check(subject, shared.run(**inputs), wanted)


def test_an_input_that_does_not_fit_is_refused_before_it_is_sent(
    shared: Device, subject: Subject
) -> None:
    shared.select(subject.paths[0])
    (name,) = subject.inputs(0)
    with pytest.raises(EngineError, match="no input"):
        shared.run(nothing=np.zeros(1, np.float32))
    with pytest.raises(EngineError, match="another shape"):
        shared.run(**{name: subject.inputs(0)[name][..., :-1]})
    with pytest.raises(EngineError, match="another dtype"):
        shared.run(**{name: subject.inputs(0)[name].astype(np.complex64)})
