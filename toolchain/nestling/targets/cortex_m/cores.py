"""The Cortex-M processors that plans are compiled for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from nestling.errors import ExportError


class Isa(IntEnum):
    """What a core computes with; numbers as in plans. Decides how weights are laid out."""

    DSP = 1
    """Armv7E-M or Armv8-M with the DSP extension: two 16-bit products at a time."""
    MVE = 2
    """Armv8.1-M with Helium: vectors of 16 bytes."""


@dataclass(frozen=True)
class Core:
    """A processor.

    Attributes:
        target: as bundles and the command line spell it.
        cpu: ExecuTorch's name.
        isa: which instructions its kernels use.
    """

    target: str
    cpu: str
    isa: Isa


CORES: dict[str, Core] = {
    core.target: core
    for core in (
        Core("cortex-m55", "M55", Isa.MVE),
        Core("cortex-m4", "M4", Isa.DSP),
        Core("cortex-m7", "M7", Isa.DSP),
        Core("cortex-m33", "M33", Isa.DSP),
    )
}


def representative(core: Core) -> Core:
    """The first core with the same instructions: what is lowered for one serves all of them."""
    return next(other for other in CORES.values() if other.isa is core.isa)


def get_core(target: str) -> Core:
    """Look a core up by target.

    Raises:
        ExportError: there is none of that name.
    """
    try:
        return CORES[target]
    except KeyError:
        raise ExportError(
            "unknown Cortex-M target", expected=" or ".join(CORES), actual=target
        ) from None
