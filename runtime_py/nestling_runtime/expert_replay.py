"""Replay of recorded expert traces: what other room, or another policy, would have hit.

The same C core that decides while a model runs (firmware/core/expert_cache.h) runs through the
trace, so policies compare on the same choices of the same routers:

for eviction in POLICIES:
    print(eviction, replay(trace, slots=32, eviction=eviction).hit_rate)
print("optimum", optimum(trace, slots=32).hit_rate)
"""

from __future__ import annotations

import heapq
from ctypes import byref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nestling_runtime import abi
from nestling_runtime import expert_cache_abi as cache_abi
from nestling_runtime.errors import EngineError

POLICIES = cache_abi.POLICIES
PREFETCHES = cache_abi.PREFETCHES


@dataclass(frozen=True)
class Trace:
    """Visits of expert layers, in the order in which they happened.

    Attributes:
        layers: `[rows]`, the number of each visit's layer.
        requests: `[rows]`, a number of each request's own.
        probabilities: `[rows, experts]`, the router's, mean over the visit's tokens.
        top_k: Experts that a token uses.
        chosen: `[rows, experts]`, whether any of the tokens used an expert. None: every visit is of
            one token, which uses the `top_k` most probable (of equals the lower number).
        predicted_layers: `[rows]`, the layer that a predictor spoke of at a visit; -1: it did not.
        predicted: `[rows, experts]`, the probabilities that it foretold.
    """

    layers: npt.NDArray[Any]
    requests: npt.NDArray[Any]
    probabilities: npt.NDArray[Any]
    top_k: int
    chosen: npt.NDArray[Any] | None = None
    predicted_layers: npt.NDArray[Any] | None = None
    predicted: npt.NDArray[Any] | None = None

    def __post_init__(self) -> None:
        """Check that the arrays fit together.

        Raises:
            ValueError: They do not.
        """
        shape = np.shape(self.probabilities)
        if len(shape) != 2 or shape[1] == 0:
            raise ValueError(f"probabilities are [rows, experts], not {shape}")
        if not 1 <= self.top_k <= shape[1]:
            raise ValueError(f"top_k is between 1 and {shape[1]} experts, not {self.top_k}")
        if (self.predicted is None) != (self.predicted_layers is None):
            raise ValueError("predicted and predicted_layers go together")
        for name, wanted in (
            ("layers", shape[:1]),
            ("requests", shape[:1]),
            ("chosen", shape),
            ("predicted_layers", shape[:1]),
            ("predicted", shape),
        ):
            value = getattr(self, name)
            if value is not None and np.shape(value) != wanted:
                raise ValueError(f"{name} is {list(wanted)}, not {list(np.shape(value))}")

    @property
    def experts(self) -> int:
        """Experts of the layer that has most."""
        return int(self.probabilities.shape[1])

    def chosen_experts(self, row: int) -> list[int]:
        """Return the experts that a visit used."""
        if self.chosen is not None:
            return [int(expert) for expert in np.flatnonzero(self.chosen[row])]
        order = np.argsort(-self.probabilities[row], kind="stable")[: self.top_k]
        return [int(expert) for expert in order]

    def save(self, path: str | Path) -> None:
        """Write the trace as a compressed `.npz` file."""
        present = {name: value for name, value in vars(self).items() if value is not None}
        np.savez_compressed(path, **present)

    @classmethod
    def load(cls, path: str | Path) -> Trace:
        """Read what `save` wrote.

        Raises:
            OSError: The file cannot be read.
            ValueError: It is not a trace.
        """
        with np.load(path, allow_pickle=False) as stored:
            values = {name: stored[name] for name in stored.files}
        try:
            return cls(**{**values, "top_k": int(values["top_k"])})
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path} is not a trace of experts: {error}") from error


@dataclass(frozen=True)
class Replay:
    """What happened in a replay.

    Attributes:
        hits: Look-ups that found their slice of an expert.
        misses: Look-ups that did not, each of which reads it.
        evictions: Residents that gave their slot away.
        prefetched: Slices that were read ahead of a look-up.
        prefetch_used: Of these, how many a look-up found.
    """

    hits: int
    misses: int
    evictions: int
    prefetched: int = 0
    prefetch_used: int = 0

    @property
    def hit_rate(self) -> float:
        """Hits in all look-ups, 0 to 1; 0 without any."""
        looked = self.hits + self.misses
        return self.hits / looked if looked else 0.0

    def read_bytes(self, slice_bytes: int) -> int:
        """Return the bytes read from storage, for slices of a size."""
        return (self.misses + self.prefetched) * slice_bytes


def replay(
    trace: Trace,
    slots: int,
    *,
    eviction: str = "foresight",
    prefetch: str = "none",
    layers: int | None = None,
    slices: int = 1,
) -> Replay:
    """Run a trace through the real cache, starting empty; time is not replayed.

    Args:
        trace: Of a router.
        slots: Slices of experts that there is room for.
        eviction: One of `POLICIES`.
        prefetch: One of `PREFETCHES`: nothing, what the trace's predictor foretold, or what
            sequence statistics foretell; `top_k` experts ahead of each visit.
        layers: How many there are; as many as the trace visits by default.
        slices: Of an expert, 1 or 2; each look-up of an expert looks for all.

    Raises:
        ValueError: No such policy or prefetch, no predictions in the trace, a layer that there is
            not, or numbers that are out of the cache's limits.
        EngineError: libnestling cannot be found, or is of another version.
    """
    if eviction not in POLICIES:
        raise ValueError(f"no eviction {eviction!r}; there are: {', '.join(POLICIES)}")
    if prefetch not in PREFETCHES:
        raise ValueError(f"no prefetch {prefetch!r}; there are: {', '.join(PREFETCHES)}")
    if prefetch == "predicted" and trace.predicted is None:
        raise ValueError("the trace has no predictions")
    if layers is None:
        layers = int(trace.layers.max(initial=0)) + 1
    shape = cache_abi.Shape(
        layers=_u32("layers", layers),
        experts=trace.experts,
        slices=_u32("slices", slices),
        slots=_u32("slots", slots),
    )
    cache, memory = _start_cache(shape, POLICIES.index(eviction))
    sequence, table = _start_sequence(shape) if prefetch == "sequence" else (None, None)
    arrays = _native_arrays(trace)
    native_trace = cache_abi.Trace(
        rows=len(trace.layers),
        top_k=trace.top_k,
        **{name: value.ctypes.data for name, value in arrays.items()},
    )
    room = [np.zeros(trace.experts, kind) for kind in (np.uint32, np.uint8, np.float32)]
    code = cache_abi.library().nst_expert_replay(
        byref(cache),
        byref(native_trace),
        PREFETCHES.index(prefetch),
        None if sequence is None else byref(sequence),
        byref(cache_abi.ReplayRoom(*(part.ctypes.data for part in room))),
    )
    # Until here the library used them.
    del memory, table
    if code == abi.E_NOT_FOUND:
        raise ValueError(f"the trace visits a layer that is not among {layers}")
    if code != abi.OK:
        raise EngineError(f"the replay was refused with code {code}")
    counts = cache.counts
    return Replay(
        hits=counts.hits + counts.late,
        misses=counts.misses,
        evictions=counts.evictions,
        prefetched=counts.prefetched,
        prefetch_used=counts.prefetch_used,
    )


def optimum(trace: Trace, slots: int) -> Replay:
    """Replay with a look into the future: no policy without prefetch hits more (Belady, 1966).

    Of the residents, the one that is used last again gives its slot away. Experts are whole here:
    for two slices, halve the slots.

    Args:
        trace: Of a router.
        slots: Experts that there is room for, at least 1.

    Raises:
        ValueError: There is no slot.
    """
    if slots < 1:
        raise ValueError(f"at least one slot, not {slots}")
    visits = [
        [int(layer) * trace.experts + expert for expert in trace.chosen_experts(row)]
        for row, layer in enumerate(trace.layers)
    ]
    resident: dict[int, int] = {}  # expert: the visit that uses it next
    latest: list[tuple[int, int]] = []  # heap of (-next visit, expert); may be out of date
    hits = misses = evictions = 0
    for keys, coming in zip(visits, _next_visits(visits), strict=True):
        # Those that are there are used first, as the cache does; those kept longest come last.
        following = dict(zip(keys, coming, strict=True))
        missing = sorted((key for key in keys if key not in resident), key=lambda k: -following[k])
        hits += len(keys) - len(missing)
        misses += len(missing)
        for key in [*(key for key in keys if key in resident), *missing]:
            if key not in resident and len(resident) == slots:
                while True:
                    negative, victim = heapq.heappop(latest)
                    if resident.get(victim) == -negative:
                        break
                del resident[victim]
                evictions += 1
            resident[key] = following[key]
            heapq.heappush(latest, (-following[key], key))
    return Replay(hits=hits, misses=misses, evictions=evictions)


def _next_visits(visits: list[list[int]]) -> list[list[int]]:
    """For each use of an expert, the visit that uses it next; behind the last where none does."""
    never = len(visits)
    coming: dict[int, int] = {}
    following = []
    for row in range(len(visits) - 1, -1, -1):
        following.append([coming.get(key, never) for key in visits[row]])
        coming.update(dict.fromkeys(visits[row], row))
    return following[::-1]


def _u32(name: str, value: int) -> int:
    if not 1 <= value < cache_abi.NONE:
        raise ValueError(f"{name} is at least 1, not {value}")
    return value


def _native_arrays(trace: Trace) -> dict[str, npt.NDArray[Any]]:
    """Those of a trace that are there, as the C struct wants them."""
    kinds: dict[str, npt.DTypeLike] = {
        "layers": np.uint32,
        "requests": np.uint32,
        "probabilities": np.float32,
        "chosen": np.uint8,
        "predicted_layers": np.uint32,
        "predicted": np.float32,
    }
    arrays = {}
    for name, kind in kinds.items():
        value = getattr(trace, name)
        if value is not None:
            if name == "predicted_layers":
                value = np.where(np.asarray(value) < 0, cache_abi.NONE, value)
            elif name == "requests":
                value = _number_by_session(value)
            arrays[name] = np.ascontiguousarray(value).astype(kind, copy=False)
    return arrays


def _number_by_session(requests: npt.NDArray[Any]) -> npt.NDArray[np.uint32]:
    """Number requests as sessions do, one of which runs one request after another.

    Policies keep what they know of a request under its number modulo `cache_abi.REQUESTS`, and put
    it away when another begins there.
    """
    numbers: dict[int, int] = {}
    sessions: list[int | None] = [None] * cache_abi.REQUESTS
    last = {int(request): row for row, request in enumerate(requests)}
    numbered = np.zeros(len(requests), np.uint32)
    for row, request in enumerate(int(number) for number in requests):
        if request not in numbers:
            # Where there are more at a time than sessions, they share.
            free = [i for i, running in enumerate(sessions) if running is None]
            session = free[0] if free else len(numbers) % len(sessions)
            sessions[session] = request
            numbers[request] = session + len(sessions) * len(numbers)
        numbered[row] = numbers[request]
        if last[request] == row:
            sessions = [None if running == request else running for running in sessions]
    return numbered


def _start_cache(
    shape: cache_abi.Shape, policy: int
) -> tuple[cache_abi.Cache, npt.NDArray[np.uint64]]:
    """Return a started cache and its memory."""
    library = cache_abi.library()
    eviction = library.nst_expert_eviction_at(policy)
    memory = np.zeros(-(-library.nst_expert_cache_bytes(byref(shape), eviction) // 8), np.uint64)
    cache = cache_abi.Cache()
    code = library.nst_expert_cache_init(
        byref(cache), byref(shape), eviction, memory.ctypes.data, memory.nbytes
    )
    if code != abi.OK:
        raise ValueError(
            f"no cache of {shape.layers} layers x {shape.experts} experts x {shape.slices} slices "
            f"in {shape.slots} slots"
        )
    return cache, memory


def _start_sequence(
    shape: cache_abi.Shape,
) -> tuple[cache_abi.Sequence, npt.NDArray[np.uint16]]:
    """Return a started table of sequence statistics and its memory."""
    library = cache_abi.library()
    table = np.zeros(library.nst_expert_sequence_bytes(byref(shape)) // 2, np.uint16)
    sequence = cache_abi.Sequence()
    code = library.nst_expert_sequence_init(
        byref(sequence), byref(shape), table.ctypes.data, table.nbytes
    )
    if code != abi.OK:
        raise ValueError(
            f"no sequence statistics of {shape.layers} layers x {shape.experts} experts"
        )
    return sequence, table
