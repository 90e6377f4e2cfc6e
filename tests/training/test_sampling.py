"""Strategies: how often they draw what, from nothing but seed and step."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nestling.elastic import BlockSpec, Subnet, SubnetSpace
from nestling.errors import TrainError
from nestling.training import (
    Alone,
    Progressive,
    Sandwich,
    SortedNet,
    Strategy,
    TrainConfig,
    make_strategy,
    step_rng,
)


def make_space(layers: int = 3, levels: int = 4) -> SubnetSpace:
    widths = tuple(8 * (level + 1) for level in range(levels))
    blocks = tuple(
        BlockSpec(name=f"{kind}{layer}", layer=layer, widths=widths, skippable=True)
        for layer in range(layers)
        for kind in ("attention", "ffn")
    )
    depths = tuple(tuple(range(depth)) for depth in range(1, layers + 1))
    full = Subnet(levels=(levels,) * len(blocks))
    tiny = Subnet(levels=(1, 1) + (0,) * (len(blocks) - 2))
    return SubnetSpace(blocks=blocks, depths=depths, named={"tiny": tiny, "full": full})


SPACE = make_space()
STRATEGIES = [
    SortedNet(subnets_per_step=3),
    Sandwich(subnets_per_step=4, full_weight=2.0),
    Progressive(subnets_per_step=4, distill=0.5),
    Alone(),
    Alone(SPACE.smallest()),
]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: type(s).__name__)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), step=st.integers(0, 999))
def test_every_step_is_legal_and_repeatable(strategy: Strategy, seed: int, step: int) -> None:
    assert isinstance(strategy, Strategy)
    draws = strategy.draw(SPACE, step, 1000, step_rng(seed, step))
    assert draws == strategy.draw(SPACE, step, 1000, step_rng(seed, step))
    assert sum(draw.weight for draw in draws) == pytest.approx(1.0)
    taught = False
    for draw in draws:
        SPACE.check(draw.subnet)
        assert taught or draw.distill == 0.0
        taught = taught or draw.teaches
    assert not (taught and strategy.split_batch), "teacher and pupils must see the same inputs"


def test_neighbouring_steps_and_seeds_draw_differently() -> None:
    strategy = SortedNet()
    drawn = {strategy.draw(SPACE, s, 100, step_rng(seed, s)) for seed in (0, 1) for s in range(50)}
    assert len(drawn) > 95


def test_sorted_draws_every_depth_and_level_alike() -> None:
    draws = [
        draw.subnet
        for step in range(2000)
        for draw in SortedNet(subnets_per_step=4).draw(SPACE, step, 2000, step_rng(7, step))
    ]
    depths = Counter(sum(level > 0 for level in subnet.levels) // 2 for subnet in draws)
    levels = Counter(subnet.levels[0] for subnet in draws)
    # 8000 draws: the standard deviation of a share is at most 0.0056, so 0.03 is over five of them.
    assert {depth: pytest.approx(1 / 3, abs=0.03) for depth in (1, 2, 3)} == {
        depth: count / len(draws) for depth, count in depths.items()
    }
    assert {level: pytest.approx(1 / 4, abs=0.03) for level in (1, 2, 3, 4)} == {
        level: count / len(draws) for level, count in levels.items()
    }


def test_sandwich_has_both_ends_and_only_the_largest_teaches() -> None:
    draws = Sandwich(subnets_per_step=5, distill=0.7).draw(SPACE, 3, 10, step_rng(0, 3))
    assert len(draws) == 5
    assert draws[0].subnet == SPACE.full() and draws[0].teaches and draws[0].distill == 0.0
    assert draws[1].subnet == SPACE.smallest()
    assert [draw.distill for draw in draws[1:]] == [0.7] * 4
    assert not any(draw.teaches for draw in draws[1:])


def test_sandwich_weights_the_largest() -> None:
    draws = Sandwich(subnets_per_step=3, full_weight=2.0).draw(SPACE, 0, 10, step_rng(0, 0))
    assert [draw.weight for draw in draws] == [0.5, 0.25, 0.25]


def test_progressive_shares_in_three_phases() -> None:
    strategy = Progressive(first_share=0.2, last_share=0.8, first_end=0.25, second_end=0.75)
    shares = [strategy.share(step, 100) for step in range(100)]
    assert shares[:25] == [0.2] * 25
    assert shares[75:] == [0.8] * 25
    assert shares[50] == pytest.approx(0.5)
    rises = [b - a for a, b in itertools.pairwise(shares[25:76])]
    assert rises == [pytest.approx(0.6 / 50)] * 50


@pytest.mark.parametrize("phase", [(0, 200, 0.2), (800, 1000, 1.0)])
def test_progressive_draws_its_share(phase: tuple[int, int, float]) -> None:
    first, last, share = phase
    strategy = Progressive(subnets_per_step=8)
    full_weight = 0.0
    for step in range(first, last):
        for draw in strategy.draw(SPACE, step, 1000, step_rng(3, step)):
            # A random draw may hit the full net too, but one in 4^6 * 3 does not matter here.
            full_weight += draw.weight if draw.teaches else 0.0
    assert full_weight / (last - first) == pytest.approx(1.0 - share, abs=0.04)


def test_progressive_merges_draws_of_the_full_net() -> None:
    strategy = Progressive(subnets_per_step=4, first_share=0.0, distill=0.5)
    assert strategy.draw(SPACE, 0, 10, random.Random(0)) == (
        strategy.draw(SPACE, 0, 10, random.Random(1))[0],
    )


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("greedy", {}, "no training strategy"),
        ("sorted", {"distill": 0.5}, "no parameter 'distill'"),
        ("sorted", {"subnets_per_step": 0}, "subnets_per_step"),
        ("sandwich", {"subnets_per_step": 1}, "subnets_per_step"),
        ("sandwich", {"full_weight": 0.0}, "full_weight"),
        ("progressive", {"last_share": 1.5}, "last_share"),
        ("progressive", {"first_end": 0.9}, "phase two"),
    ],
)
def test_bad_parameters_are_named(name: str, options: dict[str, float], says: str) -> None:
    with pytest.raises(TrainError, match=says):
        make_strategy(name, **options)
    with pytest.raises(TrainError, match=says):
        TrainConfig(strategy=name, strategy_options=options)
