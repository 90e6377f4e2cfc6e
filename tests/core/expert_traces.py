"""Traces of routers that never were: seeded, with the traits of real ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nestling_runtime.expert_replay import Trace

Scores = npt.NDArray[np.float64]


def drawn(
    *,
    seed: int,
    layers: int,
    experts: int,
    top_k: int,
    requests: int,
    tokens: int,
    skew: float = 0.5,
    topic: float = 0.8,
    cling: float = 0.7,
    together: int = 1,
    tied: bool = False,
) -> Trace:
    """Draw a trace of requests that generate tokens, each through all layers.

    Args:
        seed: Of everything.
        layers: Visited for each token.
        experts: Of a layer.
        top_k: Experts that a token uses.
        requests: How many.
        tokens: Of each.
        skew: Spread of how popular experts are with all requests.
        topic: The same with the requests of a topic, of which there are four.
        cling: How much of a token's scores passes on to the next, 0 to 1.
        together: Requests that generate at the same time, token by token in turn.
        tied: Scores of a layer follow, up to a permutation, from those of the layer before.
    """
    rng = np.random.default_rng(seed)
    popular = rng.normal(size=(layers, experts)) * skew
    topics = rng.normal(size=(4, layers, experts)) * topic
    swaps = np.array([rng.permutation(experts) for _ in range(layers)])
    rows: list[tuple[int, int, Scores]] = []
    for first in range(0, requests, together):
        batch = range(first, min(first + together, requests))
        about = {request: topics[rng.integers(4)] for request in batch}
        state = {request: rng.normal(size=(layers, experts)) for request in batch}
        for _ in range(tokens):
            for request in batch:
                fresh = rng.normal(size=(layers, experts))
                state[request] = cling * state[request] + np.sqrt(1 - cling**2) * fresh
                scores = 1.5 * (popular + about[request] + state[request])
                if tied:
                    scores = np.array([scores[0][swaps[layer]] for layer in range(layers)])
                rows += [(layer, request, scores[layer]) for layer in range(layers)]
    scores = np.array([row[2] for row in rows])
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return Trace(
        layers=np.array([row[0] for row in rows], np.uint32),
        requests=np.array([row[1] for row in rows], np.uint32),
        probabilities=(weights / weights.sum(axis=1, keepdims=True)).astype(np.float32),
        top_k=top_k,
    )


def cyclic(*, layers: int, experts: int, length: int, tokens: int) -> Trace:
    """Return a trace whose layers use their first `length` experts one after another, for ever.

    Args:
        layers: Visited for each token.
        experts: Of a layer.
        length: Of the cycle.
        tokens: How many.
    """
    turns = np.arange(tokens) % length
    probabilities = np.full((tokens * layers, experts), 0.5 / experts, np.float32)
    probabilities[np.arange(tokens * layers), np.repeat(turns, layers)] += 0.5
    return Trace(
        layers=np.tile(np.arange(layers, dtype=np.uint32), tokens),
        requests=np.zeros(tokens * layers, np.uint32),
        probabilities=probabilities,
        top_k=1,
    )
