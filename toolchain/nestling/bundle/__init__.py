"""Writing `.nest` bundles: manifest, layout, signature. nestling_runtime reads them."""

from nestling.bundle.manifest import (
    Constant,
    Manifest,
    PathEntry,
    Position,
    Program,
    Section,
    Slot,
    Stage,
)
from nestling.bundle.writer import BundleBuilder

__all__ = [
    "BundleBuilder",
    "Constant",
    "Manifest",
    "PathEntry",
    "Position",
    "Program",
    "Section",
    "Slot",
    "Stage",
]
