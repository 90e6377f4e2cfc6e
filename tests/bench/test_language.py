"""What the language figures are made of: rolling means, fitted thresholds, merged records."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from language.conftest import make_decoder

from nestling.bench.language_fit import (
    bisect,
    fit_confidence,
    fit_entropy,
    fit_entropy_ahead,
    rolling_mean,
    some_windows,
)
from nestling.bench.language_plot import wrap_pieces
from nestling.bench.language_records import (
    LanguageResult,
    PolicyRow,
    SpeculationRow,
    language_records,
)
from nestling.bench.records import Record, merge_records, read_records, write_records
from nestling.elastic import Supernet
from nestling.errors import NestlingError
from nestling.language.bits import Windows, bits_per_byte, score_subnet
from nestling.language.policies import ConfidenceExit, EntropyAdaptive
from nestling.language.running import follow_exits, follow_text


@given(st.lists(st.floats(0, 8), min_size=1, max_size=30), st.integers(1, 6))
def test_a_rolling_mean_is_that_of_the_last_ones(values: list[float], window: int) -> None:
    found = rolling_mean(torch.tensor(values, dtype=torch.float64), window).tolist()
    for index, mean in enumerate(found):
        last = values[max(0, index + 1 - window) : index + 1]
        assert mean == pytest.approx(sum(last) / len(last), abs=1e-9)


def test_bisection_finds_the_least_value_that_is_enough() -> None:
    assert bisect(lambda value: value < 0.3, 0.0, 1.0, 30) == pytest.approx(0.3)


def greedy_text(supernet: Supernet) -> Windows:
    """Text whose every target is what the full path holds likeliest, so that it has least loss."""
    tokens = torch.randint(50, (12, 16), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        targets = supernet(tokens, subnet=supernet.space.full()).argmax(-1)
    return Windows(tokens, targets, torch.ones(12, 16), ("prose",) * 12)


def test_fitted_thresholds_keep_what_they_promise() -> None:
    supernet = make_decoder()
    windows, paths = greedy_text(supernet), list(supernet.space.named.values())
    ahead = fit_entropy_ahead(supernet, windows, paths, 0, 2, 0.4)
    assert follow_exits(supernet, windows, paths, ahead).share(2) == pytest.approx(0.4, abs=0.01)

    past = fit_entropy(supernet, windows, paths, 0, 2, 0.4)
    assert follow_text(supernet, windows, paths, past).share(2) <= 0.4
    lower = EntropyAdaptive(0, 2, past.threshold_bits - 8 / 2**6)
    assert follow_text(supernet, windows, paths, lower).share(2) > 0.4

    def loss(policy: ConfidenceExit) -> float:
        return bits_per_byte(follow_exits(supernet, windows, paths, policy).bits, windows.sizes)

    full = bits_per_byte(score_subnet(supernet, paths[2], windows)[0], windows.sizes)
    confidence = fit_confidence(supernet, windows, paths, 0, 2, 1.1)
    assert loss(confidence) <= 1.1 * full
    assert loss(ConfidenceExit((0, 2), (confidence.thresholds[0] - 2**-8,))) > 1.1 * full


def test_some_windows_are_spread_evenly() -> None:
    windows = greedy_text(make_decoder())
    some = some_windows(windows, 3)
    assert torch.equal(some.tokens, windows.tokens[[0, 6, 11]]) and len(some.kinds) == 3
    assert torch.equal(some_windows(windows, 99).targets, windows.targets)


def test_text_is_broken_at_line_ends_and_full_lines() -> None:
    lines = wrap_pieces(["ab", "cde", "\nf"], [True, False, True], columns=4)
    assert ["".join(c for c, _ in line) for line in lines] == ["abcd", "e↵", "f"]
    assert [full for _, full in lines[0]] == [True, True, False, False]


def test_records_of_others_stay(tmp_path: Path) -> None:
    def row(policy: str, loss: float, macs: float) -> PolicyRow:
        return PolicyRow(policy, loss, 0.4, 0.8, macs)

    file = tmp_path / "bench.json"
    timed = Record("speedup", 1.5, "1", None, 1.5, None, "entropy", "native")
    old = Record("mac_speedup", 9.0, "1", None, 9.0, None, "entropy", "before")
    write_records([timed, old], file)
    result = LanguageResult(
        [row("full", 2.0, 100.0), row("entropy", 2.1, 50.0)],
        states={"share": (0.3, 0.8, 10.0)},
        speculation=[SpeculationRow("code", 0.7, 3.5, False, 1.4)],
        full_macs=100.0,
    )
    merge_records(language_records(result), file)
    found = {(record.metric, record.model): record for record in read_records(file)}
    assert found["speedup", "entropy"] == timed
    assert found["mac_speedup", "entropy"].value == 2.0
    assert found["bits_per_byte", "entropy"].ratio == pytest.approx(1.05)
    assert found["state_divergence", "share"].value == 0.3
    assert found["state_macs", "share"].ratio == pytest.approx(0.1)
    assert found["identical", "speculative-code"].value == 0.0
    assert found["mac_speedup", "speculative-code"].ratio == 1.4
    file.write_text("[{}]")
    with pytest.raises(NestlingError, match="holds no records"):
        read_records(file)
