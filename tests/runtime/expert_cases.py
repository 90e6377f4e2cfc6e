"""A bundle with two layers of experts, what it is asked, and what numpy makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from runtime.expert_bundle import expected, expert_builder
from runtime.expert_samples import ExpertLayer, Floats

from nestling_runtime import Model, Session
from nestling_runtime.experts import ModelExperts

TOKENS = (1, 6)


def make_layers(group: int) -> list[ExpertLayer]:
    """Two layers of different sizes; the first predicts the second."""
    layers = [
        ExpertLayer(dim=32, hidden=48, experts=6, group=group, seed=1, predicted_layer=1),
        ExpertLayer(
            dim=32,
            hidden=64,
            experts=8,
            top_k=3,
            group=group,
            seed=2,
            gated=False,
            activation="gelu",
            biases=True,
            renormalise=True,
        ),
    ]
    random = np.random.default_rng(3)
    layers[0].predictor = (
        random.standard_normal((8, 32)).astype(np.float32),
        random.standard_normal(8).astype(np.float32),
    )
    return layers


class Case:
    """A bundle and what it computes."""

    def __init__(self, folder: Path, group: int) -> None:
        self.layers = make_layers(group)
        self.path = folder / f"experts{group}.nest"
        expert_builder(self.layers, TOKENS).write(self.path)

    def inputs(self, tokens: int, seed: int = 0) -> dict[str, Floats]:
        """Random input and scores of one run."""
        random = np.random.default_rng((tokens, seed))
        return {
            f"x.t{tokens}": random.standard_normal((tokens, 32)).astype(np.float32),
            **{
                f"scores{n}.t{tokens}": 3
                * random.standard_normal((tokens, layer.experts)).astype(np.float32)
                for n, layer in enumerate(self.layers)
            },
        }

    def run(self, session: Session, tokens: int, seed: int = 0) -> Floats:
        """One run through all layers, (tokens, 32)."""
        session.select(f"t{tokens}")
        return session.run(**self.inputs(tokens, seed))[f"y1.t{tokens}"]

    def expected(self, tokens: int, seed: int = 0, bits: int = 8) -> Floats:
        """The same in numpy."""
        return expected(self.layers, *parts_of(self.inputs(tokens, seed)), bits)


def close(got: Floats, wanted: Floats) -> None:
    """Equal but for rounding, and for single steps of the activations' grid."""
    off = np.abs(got - wanted) / np.abs(wanted).max()
    assert np.median(off) < 1e-6
    assert off.max() < 5e-3


def experts_of(model: Model) -> ModelExperts:
    assert model.experts is not None
    return model.experts


def parts_of(inputs: dict[str, Floats]) -> tuple[Floats, list[Floats]]:
    x, *scores = inputs.values()
    return x, scores
