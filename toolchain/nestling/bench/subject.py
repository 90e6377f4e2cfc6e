"""What is measured: a bundle, and beside it what it is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nestling.bench.native import Effort
from nestling.bench.records import describe_machine


@dataclass(frozen=True)
class Subject:
    """One bundle under measurement.

    Attributes:
        bundle: The `.nest` file.
        model: What the records call it.
        scheme: How it is quantised.
        paths: Its named paths, small to large.
        plain: The dense program of each named path, where there is one.
        inputs: Raw bytes of each input, in the model's order; empty: made up.
        supernet: Checkpoint of the supernet that the bundle was exported from, for eager torch; or
            None.
        recipe: Name of the recipe that trained it, for its held-out data; or None.
        threads: That one run may use, on every side of a comparison.
        effort: How long to measure.
    """

    bundle: Path
    model: str
    scheme: str
    paths: tuple[str, ...]
    plain: Mapping[str, Path] = field(default_factory=dict)
    inputs: tuple[Path, ...] = ()
    supernet: Path | None = None
    recipe: str | None = None
    threads: int = 1
    effort: Effort = field(default_factory=Effort)

    @property
    def full(self) -> str:
        """Name of the largest path."""
        return self.paths[-1]

    @property
    def label(self) -> str:
        """The network and its scheme, as records name it."""
        return f"{self.model} {self.scheme}"

    @property
    def where(self) -> str:
        """The machine in words."""
        return describe_machine(self.threads)
