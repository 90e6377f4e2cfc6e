"""What the decoding benchmark records; how fast anything is decides nothing here."""

from __future__ import annotations

from pathlib import Path

import pytest

import nestling_runtime
from nestling.bench.conversations import Talk, measure_conversations
from nestling.bench.decoding import measure_alternating, measure_second_path, measure_speedups
from nestling_runtime import ConfidenceExit, FixedPath, SelfSpeculation

PROMPTS = [[3, 1, 4, 1, 5], [9, 2, 6]]


def test_speedups_say_how_much_of_the_output_is_the_same(bundle: Path) -> None:
    policies = {
        "speculative": SelfSpeculation("tiny", "full"),
        "never sure": ConfidenceExit(("tiny", "full"), 2.0),
        "small": FixedPath("tiny"),
    }
    records = measure_speedups(bundle, PROMPTS, policies, tokens=8, rounds=2)
    assert [record.model for record in records] == list(policies)
    for record in records:
        assert record.metric == "speedup" and record.value == record.ratio
        assert record.value is not None and record.value > 0
        assert record.spread is not None and record.baseline is not None and record.baseline > 0
        assert "2 prompts, 8 tokens each" in record.where
    same = [record.where.rpartition(", ")[2] for record in records]
    assert same[:2] == ["output identical"] * 2
    assert same[2].endswith("% of the output identical")


def test_alternating_is_held_against_the_mean_of_both(bundle: Path) -> None:
    record = measure_alternating(bundle, PROMPTS, "slim", "full", tokens=8, rounds=1)
    assert (record.metric, record.model) == ("alternating_overhead", "slim and full")
    assert record.value is not None and record.value > 0 and record.spread == 0


def test_a_second_path_adds_its_own_stages_alone(bundle: Path) -> None:
    again = measure_second_path(bundle, "full", "full")
    assert again.value == 0
    record = measure_second_path(bundle, "tiny", "full")
    with nestling_runtime.open(bundle, threads=1) as model, model.decoder() as decoder:
        decoder.load("tiny")
        alone = model.memory().resident_bytes
        decoder.load("full")
        both = model.memory().resident_bytes
    assert record.baseline == alone
    assert record.value == pytest.approx(both / alone - 1) and both > alone


def test_conversations_in_memory_for_fewer(bundle: Path) -> None:
    talk = Talk(conversations=4, in_memory=2, turns=2, said=12, answered=6)
    records = {
        (record.metric, record.model): record
        for record in measure_conversations(bundle, PROMPTS, talk=talk, rounds=1)
    }
    assert set(records) == {
        ("swap_in_ttft_ratio", "warm"),
        ("swap_in_ttft_ratio", "cold"),
        ("swap_wrong_tokens", "all"),
        ("shared_prefix_memory", "all"),
    }
    for kind in ("warm", "cold"):
        assert records["swap_in_ttft_ratio", kind].value > 0  # type: ignore[operator]
    assert records["swap_wrong_tokens", "all"].value == 0
    # One block of the beginning is whole; of each conversation one more is its own.
    assert records["shared_prefix_memory", "all"].value == pytest.approx((1 + 4) / (2 * 4))
