"""Thresholds of the policies for language models, fitted on text that judges nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nestling.elastic import Subnet, Supernet
from nestling.language.bits import Windows, bits_per_byte, score_subnet, token_bits
from nestling.language.decoder import measure_logits
from nestling.language.policies import ConfidenceExit, EntropyAdaptive
from nestling.language.running import follow_exits, follow_text, read_paths

WINDOWS_TRIED = (1, 2, 3, 5)


def rolling_mean(values: Tensor, window: int) -> Tensor:
    """Return the mean of each entry and the `window - 1` before it, along the last axis."""
    sums = torch.nn.functional.pad(values.double().cumsum(dim=-1), (1, 0))
    ends = torch.arange(1, values.shape[-1] + 1)
    starts = (ends - window).clamp(min=0)
    return ((sums[..., ends] - sums[..., starts]) / (ends - starts)).to(values.dtype)


def fit_entropy_ahead(
    supernet: Supernet,
    windows: Windows,
    paths: Sequence[Subnet],
    small: int,
    large: int,
    share: float,
) -> EntropyAdaptive:
    """Fit threshold and window so that `share` of the tokens go on and the loss is least."""
    entropies = measure_logits(score_subnet(supernet, paths[small], windows)[1])[0]
    best: tuple[float, EntropyAdaptive] | None = None
    for window in WINDOWS_TRIED:
        mean = rolling_mean(entropies, window)
        threshold = float(torch.quantile(mean.flatten(), 1.0 - share))
        path = torch.where(mean > threshold, large, small)
        logits = read_paths(supernet, windows, paths, path)
        loss = float(token_bits(logits, windows.targets).sum())
        if best is None or loss < best[0]:
            best = (loss, EntropyAdaptive(small, large, threshold, window, ahead=True))
    assert best is not None
    return best[1]


def fit_entropy(
    supernet: Supernet,
    windows: Windows,
    paths: Sequence[Subnet],
    small: int,
    large: int,
    share: float,
    *,
    window: int = 5,
    minimum_stay: int = 1,
) -> EntropyAdaptive:
    """Fit the paper's threshold, by bisection: which path runs changes which entropies it sees."""

    def too_low(threshold: float) -> bool:
        policy = EntropyAdaptive(small, large, threshold, window, minimum_stay)
        return follow_text(supernet, windows, paths, policy).share(large) > share

    return EntropyAdaptive(small, large, bisect(too_low, 0.0, 8.0, 6), window, minimum_stay)


def fit_confidence(
    supernet: Supernet,
    windows: Windows,
    paths: Sequence[Subnet],
    small: int,
    large: int,
    loss_ratio: float,
) -> ConfidenceExit:
    """Fit the lowest threshold at which the bits per byte stay below `loss_ratio` of the full."""
    full = bits_per_byte(score_subnet(supernet, paths[large], windows)[0], windows.sizes)

    def too_low(threshold: float) -> bool:
        policy = ConfidenceExit((small, large), (threshold,))
        bits = follow_exits(supernet, windows, paths, policy).bits
        return bits_per_byte(bits, windows.sizes) > loss_ratio * full

    return ConfidenceExit((small, large), (bisect(too_low, 0.0, 1.0, 8),))


def some_windows(windows: Windows, count: int) -> Windows:
    """Return some of the windows, evenly spread; all where there are no more than `count`."""
    rows = torch.linspace(0, len(windows.kinds) - 1, min(count, len(windows.kinds))).round().long()
    kinds = tuple(windows.kinds[int(row)] for row in rows)
    return Windows(windows.tokens[rows], windows.targets[rows], windows.sizes[rows], kinds)


def bisect(too_low: Callable[[float], bool], low: float, high: float, rounds: int) -> float:
    """Return the least value between two that is not too low."""
    for _ in range(rounds):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if too_low(middle) else (low, middle)
    return high
