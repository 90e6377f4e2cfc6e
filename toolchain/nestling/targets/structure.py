"""Lower a structure once, for all layers that have it and all weights that it will ever hold.

Lowering takes seconds a stage and does not look at the weights: it only rearranges them. So a stage
is lowered with random weights, and each constant of the result is traced back to the tensor it came
from and to the rearrangement it went through. That gives a template, good for every module with the
same graph: the twelve layers of a ViT are lowered once, and a model that is trained again is not
lowered at all. Where a constant cannot be traced back (a bias that was quantised with an activation
range), the program is lowered with its own weights instead.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cbor2
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from nestling.targets.layer_numbers import (
    can_be_numbered,
    layer_numbers,
    marked_layers,
    put_numbers,
)
from nestling.targets.lowered import ExternalConstant, LoweredProgram, TensorLayout

_SEED = 20240229


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.permute(0, 2, 3, 1)


def _depthwise(tensor: Tensor) -> Tensor:
    return tensor.permute(1, 2, 3, 0)


def _nibbles(tensor: Tensor) -> Tensor:
    shifted = (tensor + 8).to(torch.uint8).reshape(-1)
    return (shifted[1::2] << 4) | shifted[::2]


def _bfloat16(tensor: Tensor) -> Tensor:
    return tensor.to(torch.bfloat16)


REARRANGEMENTS: dict[str, Callable[[Tensor], Tensor]] = {
    "same": _same,
    "channels_last": _channels_last,
    "depthwise": _depthwise,
    "nibbles": _nibbles,
    "bfloat16": _bfloat16,
}
"""What XNNPACK's serialiser does to a constant: dimension order of convolutions, two 4-bit weights
a byte offset by 8, scales of groups as bfloat16."""


@dataclass(frozen=True)
class Origin:
    """Where a constant of a template comes from.

    Attributes:
        tensor: qualified name in the exported program.
        rearrangement: a key of :data:`REARRANGEMENTS`.
        layout: as in :class:`~nestling.targets.lowered.ExternalConstant`.
    """

    tensor: str
    rearrangement: str
    layout: TensorLayout | None


@dataclass(frozen=True)
class Template:
    """A lowered structure: everything but the weights.

    Attributes:
        lowered: the program; its constants are those that do not depend on the weights.
        origins: symbol -> where its bytes come from.
    """

    lowered: LoweredProgram
    origins: dict[str, Origin]

    def fill(self, program: ExportedProgram) -> LoweredProgram:
        """Give the template the weights of ``program``, which must have its structure."""
        tensors = dict(_weights(program))
        constants = dict(self.lowered.constants)
        for symbol, origin in self.origins.items():
            tensor = REARRANGEMENTS[origin.rearrangement](tensors[origin.tensor])
            constants[symbol] = ExternalConstant(tensor_bytes(tensor), origin.layout)
        numbered = put_numbers(self.lowered.program, layer_numbers(program))
        return replace(self.lowered, program=numbered, constants=constants)

    def to_bytes(self) -> bytes:
        """Serialise to CBOR, for the cache."""
        origins = [
            [s, o.tensor, o.rearrangement, None if o.layout is None else o.layout.to_list()]
            for s, o in self.origins.items()
        ]
        return cbor2.dumps({"lowered": self.lowered.to_bytes(), "origins": origins})

    @staticmethod
    def from_bytes(data: bytes) -> Template:
        """Read what :meth:`to_bytes` wrote."""
        raw: dict[str, Any] = cbor2.loads(data)
        origins = {
            symbol: Origin(tensor, how, None if layout is None else TensorLayout.from_list(layout))
            for symbol, tensor, how, layout in raw["origins"]
        }
        return Template(LoweredProgram.from_bytes(raw["lowered"]), origins)


def structure_digest(program: ExportedProgram) -> bytes:
    """SHA-256 of what lowering looks at: the graph, shapes, and constants that are not weights.

    Numbers of expert layers do not count.
    """
    digest = hashlib.sha256()
    with marked_layers(program):
        digest.update(program.graph_module.code.encode())
    digest.update(str(program.graph_signature).encode())
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if node.op == "placeholder" and isinstance(value, Tensor):
            digest.update(repr([node.name, value.dtype, tuple(value.shape)]).encode())
            if not value.is_contiguous():  # the same code in another memory order
                digest.update(repr(value.stride()).encode())
    weights = dict(_weights(program))
    for name, tensor in _tensors(program):
        if name not in weights:
            digest.update(repr([name, tensor.dtype, tuple(tensor.shape)]).encode())
            digest.update(tensor_bytes(tensor))
    return digest.digest()


def content_digest(program: ExportedProgram) -> bytes:
    """SHA-256 of the structure and the weights."""
    digest = hashlib.sha256(structure_digest(program))
    for number in layer_numbers(program):
        digest.update(number.to_bytes(8, "little"))
    for name, tensor in _tensors(program):
        digest.update(name.encode())
        digest.update(tensor_bytes(tensor))
    return digest.digest()


def calibrated_digest(program: ExportedProgram, samples: Sequence[tuple[Tensor, ...]]) -> bytes:
    """SHA-256 of the structure, the weights and the inputs that ranges are taken from."""
    digest = hashlib.sha256(content_digest(program))
    for sample in samples:
        for tensor in sample:
            digest.update(tensor_bytes(tensor))
    return digest.digest()


def make_template(
    program: ExportedProgram, lower: Callable[[ExportedProgram], LoweredProgram]
) -> Template | None:
    """Lower the structure of ``program``.

    Args:
        program: its weights are replaced by random ones while this runs.
        lower: the target.

    Returns:
        The template, or ``None`` when a constant cannot be traced back to one tensor.
    """
    weights = dict(_weights(program))
    generator = torch.Generator().manual_seed(_SEED)
    stand_ins = {name: _random_like(tensor, generator) for name, tensor in weights.items()}
    kept = dict(program.state_dict)
    try:
        for name, tensor in stand_ins.items():
            is_parameter = isinstance(kept[name], nn.Parameter)
            program.state_dict[name] = (
                nn.Parameter(tensor, requires_grad=False) if is_parameter else tensor
            )
        with marked_layers(program):
            lowered = lower(program)
    finally:
        program.state_dict.update(kept)
    if not can_be_numbered(lowered.program, len(layer_numbers(program))):
        return None
    known = {tensor_bytes(t): None for n, t in _tensors(program) if n not in weights}
    found: dict[bytes, tuple[str, str]] = {}
    for name, tensor in stand_ins.items():
        for how, rearrange in _fitting(tensor):
            found.setdefault(_digest(tensor_bytes(rearrange(tensor))), (name, how))
    fixed: dict[str, ExternalConstant] = {}
    origins: dict[str, Origin] = {}
    for symbol, constant in lowered.constants.items():
        origin = found.get(_digest(constant.data))
        if origin is not None:
            origins[symbol] = Origin(*origin, constant.layout)
        elif constant.data in known:
            fixed[symbol] = constant
        else:
            return None
    return Template(replace(lowered, constants=fixed), origins)


def has_static_ranges(program: ExportedProgram) -> bool:
    """Whether the graph holds activation ranges, which makes it the graph of one layer only."""
    return any("quantize_per_tensor" in str(node.target) for node in program.graph.nodes)


def tensor_bytes(tensor: Tensor) -> bytes:
    """Elements of ``tensor`` in row-major order."""
    flat = tensor.detach().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes()


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _tensors(program: ExportedProgram) -> Iterator[tuple[str, Tensor]]:
    for name, value in sorted({**program.state_dict, **program.constants}.items()):
        if isinstance(value, Tensor):
            yield name, value.detach()


def _weights(program: ExportedProgram) -> Iterator[tuple[str, Tensor]]:
    """Tensors that training decides: floating point and int8 ones of the state dictionary."""
    for name, value in sorted(program.state_dict.items()):
        if value.dtype in (torch.float32, torch.float16, torch.int8):
            yield name, value.detach()


def _random_like(tensor: Tensor, generator: torch.Generator) -> Tensor:
    if tensor.dtype == torch.int8:  # within four bits, where weights may have to stay
        return torch.randint(-8, 8, tensor.shape, generator=generator, dtype=torch.int8)
    return (torch.rand(tensor.shape, generator=generator) + 0.5).to(tensor.dtype)


def _fitting(tensor: Tensor) -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
    for how, rearrange in REARRANGEMENTS.items():
        image = how in ("channels_last", "depthwise")
        if image and tensor.dim() != 4:
            continue
        if how == "nibbles" and (tensor.dtype != torch.int8 or tensor.numel() % 2):
            continue
        if how == "bfloat16" and tensor.dtype != torch.float32:
            continue
        yield how, rearrange
