"""Any network as named stages between named slots: what is lowered and packed into a bundle.

:func:`nestling.partition.decoder.cut_decoder` makes a chain of a decoder. Networks of other kinds
(a head for each task, a path for each step of a loop) make one by hand::

    chain = Chain(get_scheme("fp32"))
    chain.add_slot("pixels", torch.zeros(1, 1, 8, 8), "input")
    chain.add_slot("x", torch.zeros(1, 17, 64))                  # between stages
    chain.add_slot("logits", torch.zeros(1, 10), "output")
    chain.add_slot("kept", torch.zeros(1, 17, 64), "state")      # survives a run
    chain.add_position("stem")                                   # in the order of the chain
    chain.add_position("experts")
    chain.add_position("deep", required=False)                   # paths may leave it out
    chain.add_position("head")
    chain.add_stage("stem", net.stem, ["pixels"], ["x"], "stem")
    chain.add_expert_stage("experts.digit", net.layer, "x", "experts", task="digit")
    chain.add_expert_stage("experts.parity", net.layer, "x", "experts", task="parity")
    chain.add_stage("deep", net.deep, ["x"], ["x", "kept"], "deep")
    chain.add_stage("reuse", net.reuse, ["kept"], ["x"], "deep")  # a path takes the cached feature
    chain.add_stage("head", net.head, ["x"], ["logits"], "head")
    chain.add_path("digit", ["stem", "experts.digit", "deep", "head"])
    chain.add_path("parity", ["stem", "experts.parity", "reuse", "head"])
    export_chain(chain, Path("net.nest"), experts=ExpertFormat(32))

Rules. A stage covers its positions, from `first` to `last`; a path's stages cover positions in
rising order, and every required one. A stage may read and write the same slot: the engine keeps two
buffers. Inputs and outputs of a module are tensors of static shapes, the batch included; the
example of a slot says which. A state slot belongs to the session and holds what was written last;
its first content is zeros. With `append` a slot is rows that the engine adds to a state slot at the
position of the session, as a cache of keys. Equal stages are lowered once, whatever their weights;
weights are stored once however many stages hold them. A path that goes through the same stage
several times names visits of it (`add_visit`): stages of the same program and weights, each with a
position and slots of its own. The numbers of expert layers are given in
the order in which their first stage is added, all stages of a layer share its experts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nestling.bundle.manifest import SlotRole
from nestling.errors import ModelError
from nestling.experts.bank import ExpertBank
from nestling.experts.layer import ExpertFeedForward, StageExperts
from nestling.experts.operator import resident_experts
from nestling.quantize.dynamic import quantize_linears
from nestling.quantize.schemes import Scheme, get_scheme


@dataclass(frozen=True)
class ChainSlot:
    """A tensor between stages, by example.

    Attributes:
        example: its dtype and shape.
        role: as in the bundle.
        append: name of the state slot whose next rows this one is.
    """

    example: Tensor
    role: SlotRole = "internal"
    append: str | None = None


@dataclass(frozen=True)
class ChainStage:
    """One stage before it is lowered.

    Attributes:
        module: in evaluation mode, quantised.
        inputs: names of slots.
        outputs: names of slots.
        first: name of the first position that it covers.
        last: name of the last one.
        level: nesting level.
        bits: of its weights.
        macs: multiply-accumulates of its products with weights, those of its routed experts too.
    """

    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    first: str
    last: str
    level: int
    bits: int
    macs: int


@dataclass(frozen=True)
class ChainPath:
    """A list of stages with a name.

    Attributes:
        stages: names.
        parameters: of the network that the path computes, all experts counted.
    """

    stages: tuple[str, ...]
    parameters: int = 0


@dataclass
class Chain:
    """A network in pieces, all by name.

    Attributes:
        scheme: of the stages' weights: fp32, or one with dynamic activations. Experts have a format
            of their own.
        positions: name -> (layer, whether it is required), in the order of the chain.
        slots: tensors between stages.
        stages: what is lowered.
        paths: lists of stages.
        experts: expert layers by name, in the order of their numbers.
    """

    scheme: Scheme = field(default_factory=lambda: get_scheme("fp32"))
    positions: dict[str, tuple[int, bool]] = field(default_factory=dict)
    slots: dict[str, ChainSlot] = field(default_factory=dict)
    stages: dict[str, ChainStage] = field(default_factory=dict)
    paths: dict[str, ChainPath] = field(default_factory=dict)
    experts: dict[str, ExpertFeedForward] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse schemes that need data."""
        if self.scheme.activations == "static":
            raise ModelError("chains are not quantised statically", actual=self.scheme.name)

    def add_slot(
        self,
        name: str,
        example: Tensor,
        role: SlotRole = "internal",
        *,
        append: str | None = None,
    ) -> None:
        """Add a tensor that stages hand each other; see `ChainSlot`.

        Raises:
            ModelError: there is one of that name, or `append` is no state slot.
        """
        _refuse_second(name, self.slots, "slot")
        if append is not None and (append not in self.slots or self.slots[append].role != "state"):
            raise ModelError("rows are appended to a state slot", expected=name, actual=append)
        self.slots[name] = ChainSlot(example, role, append)

    def add_position(self, name: str, layer: int = 0, required: bool = True) -> None:
        """Add the next place of the chain.

        Args:
            name: unique.
            layer: the layer that depth drops it with.
            required: whether every path covers it.

        Raises:
            ModelError: there is one of that name.
        """
        _refuse_second(name, self.positions, "position")
        self.positions[name] = (layer, required)

    def add_stage(
        self,
        name: str,
        module: nn.Module,
        inputs: Iterable[str],
        outputs: Iterable[str],
        first: str,
        last: str | None = None,
        level: int = 1,
    ) -> None:
        """Add a stage; its linear layers are quantised as the scheme says.

        Args:
            name: unique.
            module: one tensor for each input, a tensor or a tuple of them for the outputs.
            inputs: names of slots.
            outputs: names of slots.
            first: position.
            last: position; default: `first`.
            level: nesting level, the blob in which its weights lie.

        Raises:
            ModelError: there is one of that name, or a slot or position is not there.
        """
        _refuse_second(name, self.stages, "stage")
        inputs, outputs, last = tuple(inputs), tuple(outputs), last or first
        _require((*inputs, *outputs), self.slots, "slot", name)
        _require((first, last), self.positions, "position", name)
        module = module.eval()
        macs = self._count_macs(module, inputs)
        if self.scheme.activations == "dynamic":
            module = quantize_linears(module, self.scheme, self.scheme.full_bits).eval()
        self.stages[name] = ChainStage(
            module, inputs, outputs, first, last, level, self.scheme.full_bits, macs
        )

    def add_visit(
        self, name: str, of: str, inputs: Iterable[str], outputs: Iterable[str], first: str
    ) -> None:
        """Add another visit of a stage: its program and weights, on other slots at another place.

        Args:
            name: unique.
            of: the stage.
            inputs: names of slots, of the shapes that the stage's own have.
            outputs: as `inputs`.
            first: position.

        Raises:
            ModelError: there is one of that name, or a stage, slot or position is not there, or a
                slot has another shape.
        """
        _refuse_second(name, self.stages, "stage")
        inputs, outputs = tuple(inputs), tuple(outputs)
        _require((of,), self.stages, "stage", name)
        _require((*inputs, *outputs), self.slots, "slot", name)
        _require((first,), self.positions, "position", name)
        stage = self.stages[of]
        taken = [self.slots[slot].example for slot in (*inputs, *outputs)]
        own = [self.slots[slot].example for slot in (*stage.inputs, *stage.outputs)]
        if [(t.dtype, t.shape) for t in taken] != [(t.dtype, t.shape) for t in own]:
            raise ModelError(f"{name} has not the slots of the stage that it visits", actual=of)
        self.stages[name] = replace(stage, inputs=inputs, outputs=outputs, first=first, last=first)

    def add_expert_stage(
        self,
        name: str,
        block: ExpertFeedForward,
        stream: str,
        first: str,
        *,
        task: str | None = None,
        level: int = 1,
    ) -> None:
        """Add a stage of an expert layer; the first one of a layer gives it its number.

        Args:
            name: unique.
            block: the layer; has a name.
            stream: slot that it reads and writes.
            first: position.
            task: whose router; the layer's active task by default.
            level: nesting level.

        Raises:
            ModelError: as `add_stage`; or there is no such task.
        """
        stage = block.stage(self.number_experts(block), task)
        self.add_stage(name, stage, (stream,), (stream,), first, level=level)

    def number_experts(self, block: ExpertFeedForward) -> int:
        """Return the number of an expert layer in the index, the next one for a new layer.

        Raises:
            ModelError: the layer has no name, or another one has it.
        """
        if not block.name or self.experts.setdefault(block.name, block) is not block:
            raise ModelError("expert layers need names of their own", module=block.name or None)
        return list(self.experts).index(block.name)

    def add_path(self, name: str, stages: Sequence[str], parameters: int | None = None) -> None:
        """Add a path.

        Args:
            name: unique.
            stages: names, in order.
            parameters: of the network that it computes; default: those of its stages and of the
                experts behind them.

        Raises:
            ModelError: there is one of that name, or a stage is not there.
        """
        _refuse_second(name, self.paths, "path")
        _require(stages, self.stages, "stage", name)
        if parameters is None:
            parameters = self._count_parameters(stages)
        self.paths[name] = ChainPath(tuple(stages), parameters)

    def macs(self, path: str) -> int:
        """Return the multiply-accumulates of a path."""
        return sum(self.stages[stage].macs for stage in self.paths[path].stages)

    def example_inputs(self, stage: str) -> tuple[Tensor, ...]:
        """Return inputs of a stage to trace it with."""
        return tuple(self.slots[name].example.clone() for name in self.stages[stage].inputs)

    def banks(self) -> list[ExpertBank]:
        """Return the experts of all layers, by number: what `resident_experts` takes."""
        return [block.bank for block in self.experts.values()]

    def _count_macs(self, module: nn.Module, inputs: Sequence[str]) -> int:
        example = tuple(self.slots[slot].example for slot in inputs)
        banks = self.banks()
        with torch.no_grad(), resident_experts(banks), FlopCounterMode(display=False) as counter:
            module(*example)
        return int(counter.get_total_flops()) // 2

    def _count_parameters(self, stages: Sequence[str]) -> int:
        modules = [self.stages[stage].module for stage in stages]
        own = {id(p): p for module in modules for p in module.parameters()}
        parts = [part for module in modules for part in module.modules()]
        numbers = {part.number for part in parts if isinstance(part, StageExperts)}
        banks = [bank for number, bank in enumerate(self.banks()) if number in numbers]
        experts = {id(p): p for bank in banks for p in bank.parameters()}
        return sum(p.numel() for p in (*own.values(), *experts.values()))


def _refuse_second(name: str, known: Iterable[str], kind: str) -> None:
    if name in known:
        raise ModelError(f"two {kind}s of the chain have one name", actual=name)


def _require(names: Iterable[str], known: Iterable[str], kind: str, of: str) -> None:
    for name in names:
        if name not in known:
            raise ModelError(f"{of} names a {kind} that is not there", actual=name)
