"""The quantisation schemes that a bundle can be exported with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nestling.errors import ExportError

Activations = Literal["float", "dynamic", "static"]


@dataclass(frozen=True)
class Scheme:
    """How weights and activations are stored and computed.

    Attributes:
        name: as users and bundles spell it.
        weight_bits: bits of one weight at full precision.
        activations: ``"float"`` is as wide as the weights; ``"dynamic"`` has integers with ranges
            taken from every token at run time; ``"static"`` with ranges from calibration data.
        group_size: weights that share one scale along the input axis; ``None`` is a whole row.
        bit_levels: precisions that one set of weights can run at, smallest first. More than one
            makes bits a nested axis: the first level's bytes suffice for the first precision.
        activation_bits: bits of one activation where activations are integers.
    """

    name: str
    weight_bits: int
    activations: Activations
    group_size: int | None = None
    bit_levels: tuple[int, ...] = ()
    activation_bits: int = 8

    @property
    def needs_calibration(self) -> bool:
        """Whether :func:`nestling.export.export_bundle` wants real inputs."""
        return self.activations == "static"

    @property
    def full_bits(self) -> int:
        """Bits of the highest precision."""
        return self.bit_levels[-1] if self.bit_levels else self.weight_bits

    @property
    def levels(self) -> tuple[int, ...]:
        """All precisions, smallest first; a single one unless bits nest."""
        return self.bit_levels or (self.weight_bits,)


SCHEMES: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        Scheme("fp32", 32, "float"),
        Scheme("fp16", 16, "float"),
        Scheme("int8-static", 8, "static"),
        Scheme("int8-dynamic", 8, "dynamic"),
        Scheme("int4-group32", 4, "dynamic", group_size=32),
        Scheme("int8-nibble", 8, "dynamic", bit_levels=(4, 8)),
        Scheme("w8a16", 8, "static", activation_bits=16),
        Scheme("w4a16", 4, "static", activation_bits=16),
    )
}


def get_scheme(name: str) -> Scheme:
    """Look a scheme up.

    Raises:
        ExportError: there is none of that name.
    """
    try:
        return SCHEMES[name]
    except KeyError:
        raise ExportError(
            "unknown quantisation scheme", expected=" or ".join(SCHEMES), actual=name
        ) from None
