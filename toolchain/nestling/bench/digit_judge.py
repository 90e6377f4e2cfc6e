"""Judges drawn digits: a classifier of real ones, and Frechet's distance in its features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from nestling.recipes.digits import distort, load_digits_split
from nestling.training.threads import torch_threads

_FEATURES = 32
_STEPS = 500
_BATCH = 128
_SEED = 11


@dataclass(frozen=True)
class Judgement:
    """How good drawn digits are.

    Attributes:
        accuracy: Share that the classifier takes for the digit that was asked for.
        distance: Frechet's distance of the features of drawn and held-out digits; 0 is equal.
    """

    accuracy: float
    distance: float


class DigitJudge:
    """A small CNN that was trained on the training scans alone."""

    def __init__(self) -> None:
        images, labels, self._held_out, self._held_out_labels = load_digits_split()
        generator = torch.Generator().manual_seed(_SEED)
        with torch.random.fork_rng(devices=[]), torch_threads(1):
            torch.manual_seed(_SEED)
            self._body = nn.Sequential(
                nn.Conv2d(1, 16, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(16, 32, 3, stride=2, padding=1),
                nn.ReLU(),
                nn.Flatten(),
                nn.Linear(32 * 16, _FEATURES),
                nn.ReLU(),
            )
            self._head = nn.Linear(_FEATURES, 10)
            parameters = [*self._body.parameters(), *self._head.parameters()]
            optimizer = torch.optim.Adam(parameters, lr=2e-3)
            for _ in range(_STEPS):
                rows = torch.randint(len(images), (_BATCH,), generator=generator)
                pixels, digits = distort((images[rows], labels[rows]), generator)
                optimizer.zero_grad(set_to_none=True)
                loss = F.cross_entropy(self._head(self._body(pixels)), digits)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        self._real = self._features(self._held_out)

    def held_out_accuracy(self) -> float:
        """Return the classifier's own accuracy on held-out scans: what drawn ones can reach."""
        return self.accuracy(self._held_out, self._held_out_labels)

    @torch.inference_mode()
    def accuracy(self, images: Tensor, labels: Tensor) -> float:
        """Return the share of images, (samples, 1, 8, 8), that it takes for their labels."""
        return float((self._head(self._body(images)).argmax(-1) == labels).double().mean())

    def judge(self, images: Tensor, labels: Tensor) -> Judgement:
        """Judge drawn images, (samples, 1, 8, 8), of the digits that were asked for."""
        distance = frechet_distance(self._features(images), self._real)
        return Judgement(self.accuracy(images, labels), distance)

    @torch.inference_mode()
    def _features(self, images: Tensor) -> NDArray[np.float64]:
        features: NDArray[np.float64] = self._body(images).double().numpy()
        return features


def frechet_distance(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return Frechet's distance of the normal distributions that fit two sets of features.

    Source: Heusel et al., arXiv 1706.08500, there with the features of an Inception network.

    Args:
        first: (samples, features).
        second: As `first`.
    """
    means = first.mean(0) - second.mean(0)
    one, two = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    values, vectors = np.linalg.eigh(one)
    root = vectors * np.sqrt(values.clip(min=0.0)) @ vectors.T
    # The root of `one @ two` has the trace of that of this symmetric product.
    shared = np.sqrt(np.linalg.eigvalsh(root @ two @ root).clip(min=0.0)).sum()
    return float(means @ means + np.trace(one) + np.trace(two) - 2.0 * shared)
