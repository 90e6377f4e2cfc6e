"""The experts of a model: which are in memory, how they get there, and what that cost.

model.experts.configure(budget_bytes=64 << 20, on_miss="low_bits")
...sessions and decoders run as ever...
model.experts.statistics().hit_rate
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import POINTER, byref, c_float, c_uint32, c_uint64
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from nestling_runtime import abi, expert_abi, native

if TYPE_CHECKING:
    from nestling_runtime.engine import Model

Eviction = Literal["lru", "lfu", "least-stale", "activation", "foresight"]
ExpertPredictor = Literal["none", "sequence", "router"]
OnMiss = Literal["wait", "low_bits", "second_choice", "elsewhere"]
ExpertOrder = Literal["auto", "cache", "queue"]
Floats = npt.NDArray[np.float32]

# Takes layer, expert and rows [count, dim]; gives what the expert makes of them, the same shape.
Elsewhere = Callable[[int, int, Floats], npt.ArrayLike]


@dataclass(frozen=True)
class ExpertLayer:
    """A layer of experts.

    Attributes:
        dim: Of its input and output.
        hidden: Units of one expert.
        experts: How many there are.
        top_k: To how many of them each token goes.
        format: "f32" or "nibbles".
        group: Weights a scale; 0 for f32.
        activation: "silu", "gelu", "relu" or "gelu_tanh".
        gated: Whether an expert is down(act(gate(x)) * up(x)).
        renormalise: Whether the weights of the chosen are made to sum to one.
        biases: Whether its products have biases.
        predicted_layer: For which layer it has a predictor; None without one.
        slice_bytes: Bytes of an expert in the file, slice by slice.
    """

    dim: int
    hidden: int
    experts: int
    top_k: int
    format: str
    group: int
    activation: str
    gated: bool
    renormalise: bool
    biases: bool
    predicted_layer: int | None
    slice_bytes: tuple[int, int]


@dataclass(frozen=True)
class ExpertStatistics:
    """What was counted since `configure` or `reset_statistics`; see `nst_expert_stats`.

    Look-ups, loads and what is resident are counted in slices: an expert of nibbles has two.
    """

    calls: int
    tokens: int
    hits: int
    late: int
    misses: int
    evictions: int
    prefetched: int
    prefetch_used: int
    loads: int
    loaded_bytes: int
    failed_loads: int
    timeouts: int
    low_bits: int
    second_choices: int
    elsewhere: int
    queue_calls: int
    wait_ns: int
    compute_ns: int
    load_ns: int
    budget_bytes: int
    slots: int
    resident: int
    resident_bytes: int
    peak_bytes: int
    storage_bytes_per_s: int
    storage_latency_us: int

    @property
    def lookups(self) -> int:
        """Slices that were looked for."""
        return self.hits + self.late + self.misses

    @property
    def hit_rate(self) -> float:
        """Share of look-ups that found the slice ready; 1.0 where there was none."""
        return self.hits / self.lookups if self.lookups else 1.0


@dataclass(frozen=True)
class ExpertCall:
    """A recorded call of a layer.

    Attributes:
        request: Calls of one run, or of one conversation, share it.
        layer: Number of the layer.
        tokens: Of the call.
        probabilities: float32 [experts of the largest layer], of the router, mean over tokens.
        chosen: The experts that its tokens went to, ascending.
    """

    request: int
    layer: int
    tokens: int
    probabilities: Floats
    chosen: tuple[int, ...]


class ModelExperts:
    """The experts of an open model: `Model.experts`. All sessions share them."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._raised: BaseException | None = None
        # Kept here: the library calls it until the next configuration.
        self._elsewhere: expert_abi.Elsewhere | None = None  # type: ignore[valid-type]
        view = expert_abi.ExpertView()
        native.call("nst_model_expert_view", model.handle, byref(view))
        self.slot_bytes = int(view.slot_bytes)
        self.slices = int(view.slices)
        self.total_bytes = int(view.bytes)
        self._most_experts = int(view.most_experts)
        self.layers = tuple(self._layer(number) for number in range(view.layers))

    def _layer(self, number: int) -> ExpertLayer:
        raw = expert_abi.ExpertLayerView()
        native.call("nst_model_expert_layer", self._model.handle, number, byref(raw))
        return ExpertLayer(
            dim=raw.dim,
            hidden=raw.hidden,
            experts=raw.experts,
            top_k=raw.top_k,
            format=expert_abi.FORMATS[raw.format],
            group=raw.group,
            activation=expert_abi.ACTIVATIONS[raw.activation],
            gated=bool(raw.flags & expert_abi.GATED),
            renormalise=bool(raw.flags & expert_abi.RENORMALISE),
            biases=bool(raw.flags & expert_abi.BIASES),
            predicted_layer=None if raw.predicted_layer == abi.NONE else raw.predicted_layer,
            slice_bytes=(raw.slice_bytes[0], raw.slice_bytes[1]),
        )

    def configure(
        self,
        *,
        budget_bytes: int = 0,
        eviction: Eviction = "foresight",
        predictor: ExpertPredictor = "router",
        on_miss: OnMiss = "wait",
        order: ExpertOrder = "auto",
        bits: Literal[4, 8] = 8,
        second_choice_ratio: float = 0.5,
        elsewhere: Elsewhere | None = None,
        timeout_us: int = 0,
        storage_bytes_per_s: int = 0,
        storage_latency_us: int = 0,
    ) -> None:
        """Begin anew with these options: nothing is resident, nothing is counted.

        Args:
            budget_bytes: Memory for experts, in slots of `slot_bytes`; 0 for all of them.
            eviction: Which resident expert gives way to another.
            predictor: What is read ahead: nothing, what followed most often, or what the router of
                a later layer says of this layer's input.
            on_miss: What a run does about an expert that is not resident: "wait" for it;
                "low_bits", answer from the high halves of nibbles; "second_choice", take the best
                resident one whose probability is at least `second_choice_ratio` of the missing
                one's; "elsewhere", let `elsewhere` compute it.
            order: Of the tokens of a run: "cache", one by one; "queue", expert by expert; "auto",
                "queue" where tokens times top k is at least the number of experts.
            bits: Of nibbles that are used.
            second_choice_ratio: 0..1.
            elsewhere: Computes the rows of an expert that is not resident.
            timeout_us: Longest wait for one expert; 0 for any time.
            storage_bytes_per_s: Speed of an emulated storage; 0 for the real one.
            storage_latency_us: Latency of each of its reads.

        Raises:
            BudgetError: The memory does not hold one expert.
            EngineError: An option is out of its range.
            ValueError: An option is none of its words.
        """
        options = expert_abi.ExpertOptions()
        native.library().nst_expert_options_default(byref(options))
        options.budget_bytes = budget_bytes
        options.timeout_us = timeout_us
        options.storage_bytes_per_s = storage_bytes_per_s
        options.storage_latency_us = storage_latency_us
        options.eviction = _number(expert_abi.EVICTIONS, eviction, "eviction")
        options.predictor = _number(expert_abi.PREDICTORS, predictor, "predictor")
        options.on_miss = _number(expert_abi.ON_MISS, on_miss, "on_miss")
        options.order = _number(expert_abi.ORDERS, order, "order")
        options.bits = bits
        options.second_choice_ratio = second_choice_ratio
        callback = expert_abi.Elsewhere() if elsewhere is None else self._wrap(elsewhere)
        options.elsewhere = callback
        native.call("nst_model_configure_experts", self._model.handle, byref(options))
        self._elsewhere = callback

    def _wrap(self, elsewhere: Elsewhere) -> expert_abi.Elsewhere:  # type: ignore[valid-type]
        def compute(
            _user: object, layer: int, expert: int, rows: object, count: int, out: object
        ) -> int:
            shape = (count, self.layers[layer].dim)
            try:
                result = elsewhere(layer, expert, np.ctypeslib.as_array(rows, shape).copy())
                np.ctypeslib.as_array(out, shape)[...] = result
            except BaseException as error:  # handed to `take_error`; nothing may cross the library
                self._raised = error
                return 1
            return 0

        return expert_abi.Elsewhere(compute)

    def take_error(self) -> BaseException | None:
        """Return what `elsewhere` has raised last, once; the run said only that it failed."""
        raised, self._raised = self._raised, None
        return raised

    def load(self) -> None:
        """Read experts, layer by layer, until all are resident or the memory is full.

        Raises:
            BundleError: One cannot be read, or is damaged.
        """
        native.call("nst_model_load_experts", self._model.handle)

    def statistics(self) -> ExpertStatistics:
        """Return what was counted."""
        raw = expert_abi.ExpertStats()
        native.call("nst_model_expert_stats", self._model.handle, byref(raw))
        return ExpertStatistics(
            **{field.name: int(getattr(raw, field.name)) for field in fields(ExpertStatistics)}
        )

    def reset_statistics(self) -> None:
        """Zero what is counted; what is resident stays."""
        native.call("nst_model_reset_expert_stats", self._model.handle)

    def record(self, calls: int) -> None:
        """Keep what routers say from now on, for replays offline.

        Args:
            calls: Of layers, at most; 0 stops and forgets.

        Raises:
            EngineError: There is no memory for so many.
        """
        native.call("nst_model_record_experts", self._model.handle, calls)

    def recorded(self) -> tuple[ExpertCall, ...]:
        """Return the calls that were kept, in their order."""
        count = native.library().nst_model_recorded_experts(self._model.handle, None)
        return tuple(self._recorded(index) for index in range(count))

    @property
    def dropped_calls(self) -> int:
        """Calls that came after the recorder's room was full."""
        dropped = c_uint64()
        native.library().nst_model_recorded_experts(self._model.handle, byref(dropped))
        return dropped.value

    def _recorded(self, index: int) -> ExpertCall:
        raw = expert_abi.ExpertCall()
        probabilities = np.zeros(self._most_experts, np.float32)
        chosen = (c_uint32 * self._most_experts)()
        native.call(
            "nst_model_recorded_expert",
            self._model.handle,
            index,
            byref(raw),
            probabilities.ctypes.data_as(POINTER(c_float)),
            ctypes.cast(chosen, POINTER(c_uint32)),
            self._most_experts,
        )
        return ExpertCall(
            request=raw.request,
            layer=raw.layer,
            tokens=raw.tokens,
            probabilities=probabilities,
            chosen=tuple(chosen[: raw.chosen]),
        )


def _number(words: tuple[str, ...], word: str, what: str) -> int:
    if word not in words:
        raise ValueError(f"{what} is one of {', '.join(words)}, not {word!r}")
    return words.index(word)
