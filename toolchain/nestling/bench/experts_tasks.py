"""Several tasks in one network on the runtime: their quality, and what changing the task costs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from numpy.typing import NDArray

import nestling_runtime
from nestling.bench.experts_running import experts_of
from nestling.bench.records import Record, describe_machine, ratio_record
from nestling.chain_export import export_chain
from nestling.partition.tasks import BATCH_PATH
from nestling.recipes.experts.digit_tasks import OUTPUTS, QUARTERS, Task, held_out, task_quality
from nestling.recipes.experts.stages import task_batch_chain, task_chain
from nestling.recipes.experts.vision import TaskViT, score_task
from nestling_runtime import Model, Session

TASK_QUALITY = "task_quality"
TASK_PARITY = "task_parity"
TASK_SWITCH_BYTES = "task_switch_bytes"
TASK_SWITCH_OVERHEAD = "task_switch_overhead"
TASK_BATCH_SPEEDUP = "task_batch_speedup"

_SWITCHES = 400
_BURST = 40
_ROWS = 16


@dataclass(frozen=True)
class TaskExample:
    """Some images and what each task says of them.

    Attributes:
        images: (4, images, 8, 8): the scans, turned, spoilt, and repaired.
        answers: By task.
    """

    images: NDArray[np.float32]
    answers: dict[str, list[str]]


def measure_tasks(
    model: TaskViT,
    singles: Mapping[Task, TaskViT],
    bundle: Path,
    *,
    rounds: int = 9,
    jobs: int = 2,
    cache_dir: Path | None = None,
) -> list[Record]:
    """Export a network of tasks and take all its figures.

    Args:
        model: Trained.
        singles: A network for each task alone, of the same active compute.
        bundle: Where to write it.
        rounds: How often times are taken.
        jobs: Processes that lower at once.
        cache_dir: Of lowered programs.
    """
    chain = task_chain(model)
    export_chain(chain, bundle, jobs=jobs, cache_dir=cache_dir, name="digit-tasks")
    with nestling_runtime.open(bundle, threads=1) as opened, opened.session() as session:
        for task in model.tasks:
            opened.load(task)
        experts_of(opened).load()
        records = _measure_quality(model, singles, session)
        records.append(_switch_bytes(model, opened, session))
        records.append(_switch_overhead(model, session, rounds))
        batch = bundle.with_name(f"{bundle.stem}-batch{bundle.suffix}")
        export_chain(task_batch_chain(model, _ROWS), batch, jobs=jobs, cache_dir=cache_dir)
        with nestling_runtime.open(batch, threads=1) as rows, rows.session() as whole:
            records += _mixed_batch(model, whole, session, rounds)
    return records


def _measure_quality(
    model: TaskViT, singles: Mapping[Task, TaskViT], session: Session
) -> list[Record]:
    records = []
    for task in model.tasks:
        pixels, target = held_out(task)
        session.select(task)
        found = [session.run(pixels=image)[task] for image in torch.split(pixels, 1)]
        output = torch.from_numpy(np.concatenate(found))
        with torch.inference_mode():
            eager = torch.cat([model(part, task) for part in torch.split(pixels, 256)])
        quality, alone = task_quality(task, output, target), score_task(singles[task], task)
        unit = "explained variance" if task == "repair" else "share of right answers"
        where = (
            f"{unit} on {len(pixels)} held-out images, native; baseline: a dense network of this "
            "task alone, trained on as many images of it, of the same active compute"
        )
        records.append(
            Record(TASK_QUALITY, quality, "1", alone, quality / alone, None, task, where)
        )
        difference = float((output - eager).abs().max() / eager.abs().max())
        where = f"largest difference from eager torch, of the largest output, {len(pixels)} images"
        records.append(Record(TASK_PARITY, difference, "1", None, None, None, task, where))
    return records


def _switch_bytes(model: TaskViT, opened: Model, session: Session) -> Record:
    """Change the task at every image and add up everything that was loaded meanwhile."""
    pixels, _ = held_out("digit")
    order = np.random.default_rng(0).integers(len(model.tasks), size=_SWITCHES)
    experts_of(opened).reset_statistics()
    before = {stage.name: stage.loads for stage in opened.stats()}
    for count, chosen in enumerate(order):
        session.select(model.tasks[chosen])
        session.run(pixels=pixels[count % len(pixels)][None].numpy())
    stages = sum(
        (stage.loads - before[stage.name]) * stage.resident_bytes for stage in opened.stats()
    )
    moved = float(experts_of(opened).statistics().loaded_bytes + stages)
    where = (
        f"bytes of stages and experts that were loaded while {_SWITCHES} images each had a task "
        "drawn at random, everything resident"
    )
    return Record(TASK_SWITCH_BYTES, moved, "bytes", None, None, None, "digit-tasks", where)


def _switch_overhead(model: TaskViT, session: Session, rounds: int) -> Record:
    """Compare a change of the task at every run with staying; `select` is called on both sides."""
    pixels = held_out("digit")[0][:1].numpy()

    def run(order: list[Task]) -> float:
        began = time.perf_counter()
        for task in order:
            session.select(task)
            session.run_bound()
        return (time.perf_counter() - began) / len(order)

    for task in model.tasks:
        session.select(task)
        session.run(pixels=pixels)
    changing: list[Task] = list(model.tasks) * (_BURST // len(model.tasks))
    ratios, steady = [], []
    for _ in range(rounds):
        switched, stayed = [], []
        for task in model.tasks:
            stayed.append(run([task] * _BURST))
            switched.append(run(changing))
        steady.append(mean(stayed))
        ratios.append(mean(switched) / mean(stayed))
    return ratio_record(
        TASK_SWITCH_OVERHEAD,
        ratios,
        baseline=1e6 * mean(steady),
        model="digit-tasks",
        where=f"{describe_machine(1)}; time of runs that change the task each time, against runs "
        "that stay; baseline: microseconds of such a run",
    )


def _mixed_batch(model: TaskViT, whole: Session, single: Session, rounds: int) -> list[Record]:
    """Compare one batch of rows of all tasks with running each row by itself."""
    pixels = held_out("digit")[0][:_ROWS].numpy()
    numbers = np.arange(_ROWS) % len(model.tasks)
    tasks = [model.tasks[number] for number in numbers]
    whole.select(BATCH_PATH)

    def one_by_one() -> list[NDArray[np.float32]]:
        found = []
        for row, task in enumerate(tasks):
            single.select(task)
            found.append(single.run(pixels=pixels[row : row + 1])[task][0].copy())
        return found

    outputs = whole.run(pixels=pixels, task=numbers)
    alone = one_by_one()
    size = max(float(np.abs(wanted).max()) for wanted in alone)
    difference = max(
        float(np.abs(outputs[task][row] - alone[row]).max()) for row, task in enumerate(tasks)
    )
    ratios, steady = [], []
    for _ in range(5 * rounds):
        began = time.perf_counter()
        whole.run(pixels=pixels, task=numbers)
        between = time.perf_counter()
        one_by_one()
        ended = time.perf_counter()
        ratios.append((ended - between) / (between - began))
        steady.append((ended - between) / _ROWS)
    where = f"a batch of {_ROWS} images whose rows belong to {len(model.tasks)} tasks"
    return [
        Record(
            TASK_PARITY,
            difference / size,
            "1",
            None,
            None,
            None,
            "batch",
            f"largest difference from running each row by itself, of the largest output; {where}",
        ),
        ratio_record(
            TASK_BATCH_SPEEDUP,
            ratios,
            baseline=1e6 * mean(steady),
            model="digit-tasks",
            where=f"{describe_machine(1)}; {where}; time one by one over time of the batch; "
            "baseline: microseconds of a row by itself",
        ),
    ]


def show_tasks(model: TaskViT, bundle: Path) -> TaskExample:
    """Let the runtime answer a held-out image of each digit, on every task in turn."""
    plain, labels = held_out("digit")
    turned, _ = held_out("rotation")
    spoilt, _ = held_out("repair")
    rows = [int((labels == digit).nonzero()[0]) for digit in range(OUTPUTS["digit"])]
    answers: dict[str, list[str]] = {task: [] for task in model.tasks if task != "repair"}
    images = np.empty((4, len(rows), 8, 8), np.float32)
    with nestling_runtime.open(bundle, threads=1) as opened, opened.session() as session:
        for index, row in enumerate(rows):
            shown = plain[row], turned[(index % QUARTERS) * len(labels) + row], spoilt[row]
            for place, image in enumerate(shown):
                images[place, index] = image[0].numpy()
            for task in model.tasks:
                session.select(task)
                image = shown[{"rotation": 1, "repair": 2}.get(task, 0)]
                output = session.run(pixels=image[None].numpy())[task][0]
                if task == "repair":
                    images[3, index] = output.reshape(8, 8)
                else:
                    answers[task].append(_say(task, int(output.argmax())))
    return TaskExample(images, answers)


def _say(task: Task, answer: int) -> str:
    if task == "parity":
        return "odd" if answer else "even"
    return f"turned {90 * answer}" if task == "rotation" else f"a {answer}"
