"""The expert cache in C as a state machine, against a plain model of it."""

from __future__ import annotations

import ctypes
from ctypes import byref
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from nestling_runtime import abi
from nestling_runtime import expert_cache_abi as core

LAYERS, EXPERTS = 3, 4
# Policies whose victims the model foretells.
RULES = ("lru", "lfu", "least-stale")


COUNTS = ("hits", "late", "misses", "evictions", "prefetched", "prefetch_used")


@dataclass
class Entry:
    """A slot of the model."""

    key: int | None = None
    loading: bool = False
    pins: int = 0
    ahead: bool = False
    awaited: bool = False


@dataclass
class Model:
    """What expert_cache.h says, written down a second time."""

    policy: str
    slices: int
    slots: list[Entry]
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    when: dict[int, int] = field(default_factory=dict)
    uses: dict[int, int] = field(default_factory=dict)
    places: dict[int, tuple[int, int]] = field(default_factory=dict)  # request: layer, visit
    visits: int = 0
    now: int = 0

    def slot_of(self, key: int) -> int | None:
        return next((i for i, entry in enumerate(self.slots) if entry.key == key), None)

    def use(self, key: int) -> None:
        expert = key // self.slices
        self.now += 1
        self.when[expert] = self.now
        self.uses[expert] = self.uses.get(expert, 0) + 1

    def distance(self, layer: int) -> int:
        """Visits until a request comes to a layer again."""
        latest = sorted(self.places.values(), key=lambda place: -place[1])
        running = [
            at
            for rank, (at, visit) in enumerate(latest, start=1)
            if self.visits - visit <= 2 * rank * LAYERS
        ]
        return min(((layer - at - 1) % LAYERS for at in running), default=LAYERS - 1)

    def rank(self, key: int) -> tuple[int, ...]:
        """Residents of lower rank go first."""
        expert = key // self.slices
        if self.policy == "lru":
            return (self.when[expert],)
        if self.policy == "lfu":
            return (self.uses[expert], self.when[expert])
        return (-self.distance(expert // EXPERTS), self.when[expert])

    def candidates(self, prefetch: bool) -> list[int]:
        """Slots that a claim may take."""
        return [
            i
            for i, entry in enumerate(self.slots)
            if not entry.pins and not entry.loading and not (prefetch and entry.awaited)
        ]

    def victim(self, prefetch: bool) -> int:
        candidates = self.candidates(prefetch)
        empty = [i for i in candidates if self.slots[i].key is None]
        if empty:
            return empty[0]
        return min(candidates, key=lambda i: self._order(self.slots[i]))

    def _order(self, entry: Entry) -> tuple[Any, ...]:
        assert entry.key is not None
        return (entry.awaited, self.rank(entry.key), -(entry.key % self.slices))


class CacheMachine(RuleBasedStateMachine):
    """Any calls in any order; the model says what each answers."""

    policy = "lru"

    @initialize(slots=st.integers(1, 6), slices=st.integers(1, 2))
    def start(self, slots: int, slices: int) -> None:
        self.library = core.library()
        self.cache, self.memory = start_cache(self.policy, slots, slices)
        self.model = Model(self.policy, slices, [Entry() for _ in range(slots)])

    keys = st.integers(0, LAYERS * EXPERTS * 2 - 1)
    slot_numbers = st.integers(0, 6)

    def in_range(self, key: int) -> bool:
        return key < LAYERS * EXPERTS * self.model.slices

    @rule(
        request=st.integers(0, 2 * core.REQUESTS),
        layer=st.integers(0, LAYERS),
        chosen=st.lists(st.integers(0, EXPERTS), max_size=EXPERTS, unique=True),
        weights=st.lists(st.floats(0, 1, width=32), min_size=EXPERTS, max_size=EXPERTS),
    )
    def route(self, request: int, layer: int, chosen: list[int], weights: list[float]) -> None:
        sound = layer < LAYERS and all(expert < EXPERTS for expert in chosen)
        visit = visit_of(request, layer, chosen, weights)
        assert self.library.nst_expert_cache_route(byref(self.cache), byref(visit)) == sound
        if not sound:
            return
        model = self.model
        model.visits += 1
        model.places[request % core.REQUESTS] = (layer, model.visits)
        for entry in model.slots:
            if entry.key is not None and entry.key // model.slices // EXPERTS == layer:
                entry.awaited = entry.key // model.slices % EXPERTS in chosen

    @rule(
        request=st.integers(0, 9),
        layer=st.integers(0, LAYERS),
        weights=st.lists(st.floats(0, 1, width=32), min_size=EXPERTS, max_size=EXPERTS),
    )
    def expect(self, request: int, layer: int, weights: list[float]) -> None:
        visit = visit_of(request, layer, [0, 1], weights)
        done = self.library.nst_expert_cache_expect(byref(self.cache), byref(visit))
        assert done == (layer < LAYERS)

    @rule(request=st.integers(0, 9))
    def begin_request(self, request: int) -> None:
        self.library.nst_expert_cache_begin_request(byref(self.cache), request)

    @rule(key=keys)
    def find(self, key: int) -> None:
        slot = self.library.nst_expert_cache_find(byref(self.cache), key)
        wanted = self.model.slot_of(key)
        assert slot == (core.NONE if wanted is None else wanted)
        if wanted is None:
            self.model.counts["misses"] += self.in_range(key)
            return
        entry = self.model.slots[wanted]
        self.model.counts["late" if entry.loading else "hits"] += 1
        self.model.counts["prefetch_used"] += entry.ahead
        entry.ahead = entry.awaited = False
        self.model.use(key)

    @rule(key=keys)
    def await_use(self, key: int) -> None:
        slot = self.library.nst_expert_cache_await(byref(self.cache), key)
        wanted = self.model.slot_of(key)
        assert slot == (core.NONE if wanted is None else wanted)
        if wanted is not None:
            self.model.slots[wanted].awaited = True

    @rule(key=keys, prefetch=st.booleans())
    def claim(self, key: int, prefetch: bool) -> None:
        slot = ctypes.c_uint32()
        code = self.library.nst_expert_cache_claim(
            byref(self.cache), key, core.PREFETCH if prefetch else core.DEMAND, byref(slot)
        )
        model = self.model
        if not self.in_range(key):
            assert code == abi.E_ARGUMENT
            return
        resident = model.slot_of(key)
        if resident is not None:
            assert (code, slot.value) == (abi.E_STATE, resident)
            return
        candidates = model.candidates(prefetch)
        if not candidates:
            assert code == abi.E_BUDGET
            return
        assert code == abi.OK
        # Whatever the policy, what is pinned, loading or, for a prefetch, awaited stays.
        assert slot.value in candidates
        if any(model.slots[i].key is None for i in candidates) or self.policy in RULES:
            assert slot.value == model.victim(prefetch)
        model.counts["evictions"] += model.slots[slot.value].key is not None
        model.counts["prefetched"] += prefetch
        model.slots[slot.value] = Entry(key, loading=True, ahead=prefetch, awaited=prefetch)
        model.use(key)

    @rule(slot=slot_numbers)
    def ready(self, slot: int) -> None:
        loading = slot < len(self.model.slots) and self.model.slots[slot].loading
        assert self.library.nst_expert_cache_ready(byref(self.cache), slot) == loading
        if loading:
            self.model.slots[slot].loading = False

    @rule(slot=slot_numbers)
    def drop(self, slot: int) -> None:
        full = slot < len(self.model.slots) and self.model.slots[slot].key is not None
        assert self.library.nst_expert_cache_drop(byref(self.cache), slot) == full
        if full:
            self.model.slots[slot] = Entry(pins=self.model.slots[slot].pins)

    @rule(slot=slot_numbers)
    def pin(self, slot: int) -> None:
        full = slot < len(self.model.slots) and self.model.slots[slot].key is not None
        assert self.library.nst_expert_cache_pin(byref(self.cache), slot) == full
        if full:
            self.model.slots[slot].pins += 1

    @rule(slot=slot_numbers)
    def unpin(self, slot: int) -> None:
        pinned = slot < len(self.model.slots) and self.model.slots[slot].pins > 0
        assert self.library.nst_expert_cache_unpin(byref(self.cache), slot) == pinned
        if pinned:
            self.model.slots[slot].pins -= 1

    @rule()
    def reset_counts(self) -> None:
        self.library.nst_expert_cache_reset_counts(byref(self.cache))
        self.model.counts = dict.fromkeys(COUNTS, 0)

    @invariant()
    def slots_are_as_in_the_model(self) -> None:
        for slot, entry in zip(
            self.cache.slots[: len(self.model.slots)], self.model.slots, strict=True
        ):
            state = (
                core.EMPTY if entry.key is None else core.LOADING if entry.loading else core.READY
            )
            key = core.NONE if entry.key is None else entry.key
            assert (slot.key, slot.state, slot.pins) == (key, state, entry.pins)
            assert (bool(slot.ahead), bool(slot.awaited)) == (entry.ahead, entry.awaited)

    @invariant()
    def keys_lead_to_their_slots(self) -> None:
        for key in range(LAYERS * EXPERTS * self.model.slices + 1):
            slot = self.model.slot_of(key)
            found = self.library.nst_expert_cache_peek(byref(self.cache), key)
            assert found == (core.NONE if slot is None else slot)

    @invariant()
    def counts_add_up(self) -> None:
        counts = {name: getattr(self.cache.counts, name) for name in COUNTS}
        assert counts == self.model.counts


def start_cache(
    policy: str, slots: int, slices: int = 1
) -> tuple[core.Cache, npt.NDArray[np.uint64]]:
    """Start a cache; also return its memory, which must be kept."""
    library = core.library()
    shape = core.Shape(LAYERS, EXPERTS, slices, slots)
    eviction = library.nst_expert_eviction_at(core.POLICIES.index(policy))
    needed = library.nst_expert_cache_bytes(byref(shape), eviction)
    # Memory comes as it is.
    memory = np.full(-(-needed // 8), 0xA5A5_A5A5_A5A5_A5A5, np.uint64)
    cache = core.Cache()
    code = library.nst_expert_cache_init(
        byref(cache), byref(shape), eviction, memory.ctypes.data, needed
    )
    assert code == abi.OK
    return cache, memory


def visit_of(request: int, layer: int, chosen: list[int], weights: list[float]) -> core.Visit:
    """Return a visit; ctypes keeps its arrays alive."""
    return core.Visit(
        request,
        layer,
        (ctypes.c_float * len(weights))(*weights),
        (ctypes.c_uint32 * max(1, len(chosen)))(*chosen),
        len(chosen),
    )


@pytest.mark.parametrize("policy", core.POLICIES)
def test_any_calls_leave_the_cache_as_the_model_says(policy: str) -> None:
    run_state_machine_as_test(
        type("Machine", (CacheMachine,), {"policy": policy}),
        settings=settings(max_examples=20, stateful_step_count=40, deadline=None),
    )


def test_policies_have_their_names() -> None:
    library = core.library()
    for number, name in enumerate(core.POLICIES):
        assert library.nst_expert_eviction_at(number).contents.name.decode() == name
    assert not library.nst_expert_eviction_at(len(core.POLICIES))


@pytest.mark.parametrize("policy", core.POLICIES)
@pytest.mark.parametrize(
    "shape",
    [
        *[(0, 4, 1, 2), (3, 0, 1, 2), (3, 4, 0, 2), (3, 4, 3, 2), (3, 4, 1, 0)],
        *[(1 << 16, 1 << 16, 1, 1), (1 << 23, 2, 2, 1), (3, 4, 1, (1 << 24) + 1)],
    ],
)
def test_shapes_out_of_their_limits_are_refused(policy: str, shape: tuple[int, ...]) -> None:
    library = core.library()
    eviction = library.nst_expert_eviction_at(core.POLICIES.index(policy))
    given = core.Shape(*shape)
    assert library.nst_expert_cache_bytes(byref(given), eviction) == 0
    memory = np.zeros(4096, np.uint64)
    code = library.nst_expert_cache_init(
        byref(core.Cache()), byref(given), eviction, memory.ctypes.data, memory.nbytes
    )
    assert code == abi.E_ARGUMENT


@pytest.mark.parametrize("policy", core.POLICIES)
def test_memory_that_is_too_small_or_misaligned_is_refused(policy: str) -> None:
    library = core.library()
    eviction = library.nst_expert_eviction_at(core.POLICIES.index(policy))
    shape = core.Shape(LAYERS, EXPERTS, 1, 2)
    needed = library.nst_expert_cache_bytes(byref(shape), eviction)
    memory = np.zeros(needed // 8 + 2, np.uint64)
    for at, room, expected in ((0, needed - 1, abi.E_LIMIT), (4, needed, abi.E_ARGUMENT)):
        code = library.nst_expert_cache_init(
            byref(core.Cache()), byref(shape), eviction, memory.ctypes.data + at, room
        )
        assert code == expected


@pytest.mark.parametrize("policy", core.POLICIES)
def test_a_pinned_expert_outlives_any_number_of_others(policy: str) -> None:
    library = core.library()
    cache, memory = start_cache(policy, slots=2)
    slot = ctypes.c_uint32()
    assert library.nst_expert_cache_claim(byref(cache), 5, core.DEMAND, byref(slot)) == abi.OK
    pinned = slot.value
    assert library.nst_expert_cache_ready(byref(cache), pinned)
    assert library.nst_expert_cache_pin(byref(cache), pinned)
    for key in [key for key in range(LAYERS * EXPERTS) if key != 5] * 2:
        code = library.nst_expert_cache_claim(byref(cache), key, core.DEMAND, byref(slot))
        assert code == abi.OK
        assert slot.value != pinned
        assert library.nst_expert_cache_ready(byref(cache), slot.value)
    assert library.nst_expert_cache_find(byref(cache), 5) == pinned
    assert library.nst_expert_cache_unpin(byref(cache), pinned)
    del memory
