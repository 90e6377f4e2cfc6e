"""Where the stages of a path run: targets, what stands in for what, and the cheapest placement.

model.targets()              which of the bundle's targets run here, and why others do not
model.fallbacks()            which stages run in the place of others, and why
model.place("full").stages   the list to select: each stage on the target where it is cheapest
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, byref, c_double, c_uint8, c_uint32
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nestling_runtime import abi, native
from nestling_runtime.errors import EngineError

if TYPE_CHECKING:
    from nestling_runtime.engine import Model
    from nestling_runtime.session import Session

MINIMUM_RUNS = 3


@dataclass(frozen=True)
class TargetState:
    """A target of a bundle.

    Attributes:
        name: As the bundle spells it.
        runs: Whether its stages run in this process.
        reason: Why not; empty where it runs.
        stages: How many stages the bundle has for it.
    """

    name: str
    runs: bool
    reason: str
    stages: int


@dataclass(frozen=True)
class Fallback:
    """A stage that was asked for, the one that runs in its place, and why."""

    stage: str
    replacement: str
    reason: str


@dataclass(frozen=True)
class Placement:
    """A path with a target for each of its stages.

    Attributes:
        path: Name of the path.
        stages: What to select, with `Session.select_stages`.
        targets: The target of each stage.
        predicted_us: Sum of measured stage times and transfers.
        single_us: For each target that runs here, the shortest run of the path on it (with the
            path's own stages where the target has none).
        switch_us: What a change of the target was counted with.
    """

    path: str
    stages: tuple[str, ...]
    targets: tuple[str, ...]
    predicted_us: float
    single_us: dict[str, float]
    switch_us: float


def search(
    stage_us: npt.ArrayLike, move_us: npt.ArrayLike | None = None
) -> tuple[tuple[int, ...], float]:
    """Find the cheapest target for each step of a path, by exact dynamic programming in C.

    Args:
        stage_us: `[steps, targets]`, the cost of each step on each target; what is negative,
            infinite or not a number is not possible.
        move_us: `[steps - 1, targets, targets]`, the cost of going from a target (of step i) to
            another (of step i + 1), in the same unit; nothing by default.

    Returns:
        The number of a target for each step, and the whole cost.

    Raises:
        EngineError: No choice is possible.
        ValueError: The arrays do not fit together, or there are over 16 targets.
    """
    costs = np.ascontiguousarray(stage_us, dtype=np.float64)
    if costs.ndim != 2 or costs.size == 0:
        raise ValueError(f"stage_us is [steps, targets], not {costs.shape}")
    steps, targets = costs.shape
    moves = None if move_us is None else np.ascontiguousarray(move_us, dtype=np.float64)
    if moves is not None and moves.shape != (steps - 1, targets, targets):
        raise ValueError(f"move_us is [{steps - 1}, {targets}, {targets}], not {moves.shape}")
    problem = abi.Placement(
        steps=steps,
        targets=targets,
        stage_us=costs.ctypes.data_as(POINTER(c_double)),
        move_us=None if moves is None else moves.ctypes.data_as(POINTER(c_double)),
    )
    choice, scratch, total = (c_uint32 * steps)(), (c_uint8 * (steps * targets))(), c_double()
    code = native.library().nst_placement_search(byref(problem), choice, scratch, byref(total))
    if code == abi.E_ARGUMENT:
        raise ValueError(f"too many steps or targets: {costs.shape}")
    if code != abi.OK:
        raise EngineError("no target can run every step of the path")
    return tuple(choice), total.value


def place(
    model: Model,
    path: str | int,
    *,
    inputs: dict[str, npt.NDArray[Any]] | None = None,
    repeat: int = 10,
    switch_us: float | None = None,
    us_per_byte: float = 0.0,
) -> Placement:
    """Measure a path on every target that runs here, and place it; see `Model.place`."""
    if repeat < MINIMUM_RUNS:
        raise ValueError(f"at least {MINIMUM_RUNS} runs, not {repeat}")
    bundle = model.bundle
    index = bundle.path_index(path)
    entry = bundle.paths[index]
    here = [state.name for state in model.targets() if state.runs]
    # Each stage on each target; where there is none, the one that the path names.
    rows = {
        target: [
            stage if (other := bundle.stand_in(stage, target)) is None else other
            for stage in entry.chain
        ]
        for target in here
    }
    with model.session() as session:
        totals = {
            target: _shortest_us(session, row, inputs or {}, repeat) for target, row in rows.items()
        }
        if switch_us is None:
            switch_us = _measure_switch(model, session, list(rows.values()), repeat)
    transfer = abi.Transfer(switch_us=switch_us, us_per_byte=us_per_byte)
    chosen, predicted = (c_uint32 * len(entry.chain))(), c_double()
    native.call(
        "nst_model_place",
        model.handle,
        index,
        byref(transfer),
        chosen,
        len(chosen),
        byref(predicted),
    )
    return Placement(
        path=entry.name,
        stages=tuple(bundle.stages[stage].name for stage in chosen),
        targets=tuple(bundle.stage_target(stage) for stage in chosen),
        predicted_us=predicted.value,
        single_us=totals,
        switch_us=switch_us,
    )


def _shortest_us(
    session: Session, stages: Sequence[int], inputs: dict[str, npt.NDArray[Any]], repeat: int
) -> float:
    session.select_stages(stages)
    session.run(**inputs)
    times = []
    for _ in range(repeat):
        session.run_bound()
        times.append(session.last_run_ns / 1e3)
    return min(times)


def _measure_switch(
    model: Model, session: Session, rows: Sequence[Sequence[int]], repeat: int
) -> float:
    """Microseconds of a change of the target: a run that changes at every step, less its stages."""
    if len(rows) < 2:
        return 0.0
    mixed = [rows[step % len(rows)][step] for step in range(len(rows[0]))]
    targets = [model.bundle.stage_target(stage) for stage in mixed]
    switches = sum(a != b for a, b in pairwise(targets))
    if switches == 0:
        return 0.0
    whole = _shortest_us(session, mixed, {}, repeat)
    alone = sum(model.stage_stats(stage).min_ns for stage in mixed) / 1e3
    return max(0.0, (whole - alone) / switches)


def read_targets(model: Model) -> tuple[TargetState, ...]:
    """Return the targets of an open model, the bundle's own first."""
    found = []
    for index in range(native.library().nst_model_target_count(model.handle)):
        view = abi.TargetView()
        native.call("nst_model_target", model.handle, index, byref(view))
        found.append(
            TargetState(
                view.name.decode(),
                bool(view.runs),
                view.reason.decode(errors="replace"),
                view.stages,
            )
        )
    return tuple(found)


def read_fallbacks(model: Model) -> tuple[Fallback, ...]:
    """Return what was replaced so far in an open model."""
    stages = model.bundle.stages
    found = []
    for index in range(native.library().nst_model_fallback_count(model.handle)):
        raw = abi.Fallback()
        native.call("nst_model_fallback", model.handle, index, byref(raw))
        found.append(
            Fallback(
                stages[raw.stage].name,
                stages[raw.replacement].name,
                raw.reason.decode(errors="replace"),
            )
        )
    return tuple(found)


def read_stages(handle: int, capacity: int) -> tuple[int, ...]:
    """Return the stages that a run of a session executes."""
    stages, count = (ctypes.c_uint32 * max(1, capacity))(), c_uint32()
    native.call("nst_session_stages", handle, stages, capacity, byref(count))
    return tuple(stages[: count.value])
