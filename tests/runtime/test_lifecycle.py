"""Opening, closing, threads: nothing leaks, nothing mixes."""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runtime.tiny_bundle import chain_of
from runtime.tiny_model import BLOCKS, INPUT_UNITS, LEVELS, PATHS, Image

import nestling_runtime
from nestling_runtime import Bundle, BundleError, CancelledError, EngineError, Model, Session

Eager = Callable[[Image, tuple[int, ...]], Image]


def in_process(program: str, *arguments: object) -> str:
    """Run a Python program with nothing else in its process; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_and_running_brings_no_torch(tiny_path: Path) -> None:
    """Nor executorch's Python package; and the process stays under 60 MB, weights included."""
    program = """
import sys, numpy as np, nestling_runtime
with nestling_runtime.open(sys.argv[1]) as model, model.session() as session:
    session.select("full")
    session.run(image=np.zeros((1, 16), np.float32))
    rss = int(open("/proc/self/statm").read().split()[1]) * 4096
foreign = {name.partition(".")[0] for name in sys.modules} & {"torch", "executorch", "torchao"}
assert not foreign, foreign
assert rss < 60e6, rss
print("fine")
"""
    assert in_process(program, tiny_path) == "fine\n"


def test_nothing_leaks_in_a_thousand_lives(tiny_path: Path) -> None:
    program = """
import gc, os, sys, numpy as np, nestling_runtime
image = np.zeros((1, 16), np.float32)

def live(count):
    for number in range(count):
        with nestling_runtime.open(sys.argv[1], threads=1) as model, model.session() as session:
            session.select(number % 3, mode=("fused", "chain")[number % 2])
            session.run(image=image)
            if number % 50 == 0:
                model.prefetch("full").wait()

def held():
    gc.collect()
    maps = len(open("/proc/self/maps").readlines())
    rss = int(open("/proc/self/statm").read().split()[1]) * 4096
    return len(os.listdir("/proc/self/fd")), maps, rss

live(100)
before = held()
live(1000)
after = held()
assert after[0] == before[0], (before, after)
assert after[1] <= before[1] + 4, (before, after)
assert after[2] <= before[2] + 1_000_000, (before, after)
print("fine")
"""
    assert in_process(program, tiny_path) == "fine\n"


def test_what_is_closed_says_so(tiny_path: Path) -> None:
    model = nestling_runtime.open(tiny_path, threads=1)
    session, tables = model.session(), model.bundle
    model.close()
    for call in (
        lambda: session.select("tiny"),
        lambda: session.select_stages([0]),
        lambda: model.load("tiny"),
        lambda: model.prefetch("tiny"),
        lambda: tables.stages,
        lambda: tables.name,
    ):
        with pytest.raises(EngineError, match="the model is closed"):
            call()
    with Bundle.open(tiny_path) as bundle:
        paths = bundle.paths
    for read in (lambda: bundle.stages, lambda: bundle.name, bundle.check_sections):
        with pytest.raises(BundleError, match="the bundle is closed"):
            read()
    assert bundle.paths is paths


def test_forgotten_objects_are_collected(tiny_path: Path, image: Image) -> None:
    before = len(os.listdir("/proc/self/fd"))
    model = nestling_runtime.open(tiny_path, threads=1)
    session = model.session()
    session.select("tiny")
    view = session.tensor("logits")
    session.run(image=image)
    expected = view.copy()
    del model, session
    gc.collect()
    # The view keeps the memory that it shows.
    np.testing.assert_array_equal(view, expected)
    del view
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_garbage_is_closed_in_any_order(tiny_path: Path) -> None:
    """Cycles, and what is left when the interpreter ends."""
    program = """
import gc, os, sys, nestling_runtime

class Holder:
    pass

def make(count):
    for _ in range(count):
        holder = Holder()
        holder.model = nestling_runtime.open(sys.argv[1], threads=1)
        holder.session = holder.model.session()
        holder.session.select("tiny")
        holder.prefetch = holder.model.prefetch("base")
        holder.self = holder
        holder.model.holder = holder
        holder.session.holder = holder
    gc.collect()

make(3)
before = len(os.listdir("/proc/self/fd"))
make(20)
assert len(os.listdir("/proc/self/fd")) == before
model = nestling_runtime.open(sys.argv[1], threads=1)
session = model.session()
session.select("tiny")
prefetch = model.prefetch("full")
print("fine")
"""
    done = subprocess.run(
        [sys.executable, "-c", program, tiny_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")


def test_sessions_in_threads_give_their_own_results(model: Model, eager: Eager) -> None:
    threads, runs = 4, 60
    failures: list[BaseException] = []
    cases = []
    for number in range(threads):
        rng = random.Random(number)
        images = np.random.default_rng(number).standard_normal((runs, 1, INPUT_UNITS))
        images = images.astype(np.float32)
        levels = [tuple(rng.randint(0, LEVELS) for _ in range(BLOCKS)) for _ in range(runs)]
        expected = [eager(image, chosen) for image, chosen in zip(images, levels, strict=True)]
        cases.append((images, levels, expected))

    def work(number: int) -> None:
        try:
            images, levels, expected = cases[number]
            with model.session() as session:
                for image, chosen, wanted in zip(images, levels, expected, strict=True):
                    session.select_stages(chain_of(chosen))
                    got = session.run(image=image)["logits"]
                    np.testing.assert_allclose(got, wanted, atol=2e-5, rtol=2e-5)
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    # Evictions and loads meanwhile must not disturb anyone.
    while any(worker.is_alive() for worker in workers):
        model.evict()
        model.prefetch("full").wait()
        model.load("base", mode="chain")
    for worker in workers:
        worker.join()
    assert not failures, failures[0]
    calls = sum(stats.calls for stats in model.stats())
    assert calls == sum(len(chain_of(chosen)) for _, levels, _ in cases for chosen in levels)


def test_cancel_stops_before_the_next_stage_and_only_once(
    model: Model, session: Session, image: Image
) -> None:
    session.select("full", mode="chain")
    expected = session.run(image=image)["logits"]
    session.cancel()
    session.cancel()
    with pytest.raises(CancelledError, match="before this stage") as cancelled:
        session.run(image=image)
    assert cancelled.value.stage == "stem"
    np.testing.assert_array_equal(session.run(image=image)["logits"], expected)
    assert session.runs == 2


def test_cancel_from_another_thread_ends_a_loop_of_runs(session: Session, image: Image) -> None:
    session.select("full", mode="chain")
    started = threading.Event()
    outcome: list[str] = []

    def loop() -> None:
        try:
            while True:
                session.run(image=image)
                started.set()
        except CancelledError:
            outcome.append("cancelled")

    worker = threading.Thread(target=loop)
    worker.start()
    started.wait()
    session.cancel()
    worker.join()
    assert outcome == ["cancelled"]


def test_pools_of_two_sizes_are_refused(tiny_path: Path) -> None:
    with nestling_runtime.open(tiny_path, threads=2) as model, model.session() as session:
        session.select("tiny")
        with pytest.raises(EngineError, match="uses a pool of 2 threads"):
            nestling_runtime.open(tiny_path, threads=3)
        with (
            nestling_runtime.open(tiny_path, threads=1) as alone,
            nestling_runtime.open(tiny_path, threads=0) as same,
        ):
            for other in (alone, same):
                with other.session() as another:
                    another.select("tiny")
                    another.run_bound()
    with nestling_runtime.open(tiny_path, threads=3):
        pass


@pytest.mark.parametrize(
    "options",
    [
        {"weight_cache": False},
        {"workspace_per_stage": True},
        {"keep_pages": True},
        {"verify_all": True},
        {"threads": 2},
    ],
)
def test_options_do_not_change_results(
    tiny_path: Path, eager: Eager, image: Image, options: dict[str, bool]
) -> None:
    chosen: dict[str, Any] = {"threads": 1, **options}
    with nestling_runtime.open(tiny_path, **chosen) as model, model.session() as session:
        for name, levels in PATHS.items():
            for mode in ("fused", "chain"):
                session.select(name, mode=mode)  # type: ignore[arg-type]
                np.testing.assert_allclose(
                    session.run(image=image)["logits"], eager(image, levels), atol=1e-5
                )
