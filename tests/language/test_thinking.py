"""Soft steps, modes and steering."""

from __future__ import annotations

import pytest
import torch

from nestling.elastic import Supernet
from nestling.errors import PathError
from nestling.language.decoder import EagerDecoder
from nestling.language.policies import Fixed, Mode, Moded, SoftThinking
from nestling.language.running import write_greedily
from nestling.language.thinking import SoftSwitch, soft_embedding, think


def test_a_soft_embedding_is_the_weighted_mean() -> None:
    embedding = torch.randn(4, 3)
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05])
    expected = probabilities @ embedding
    torch.testing.assert_close(soft_embedding(probabilities.log(), embedding, 4), expected)
    torch.testing.assert_close(soft_embedding(probabilities.log(), embedding, 1), embedding[0])
    two = (0.5 * embedding[0] + 0.3 * embedding[1]) / 0.8
    torch.testing.assert_close(soft_embedding(probabilities.log(), embedding, 2), two)


def test_confidence_switches_at_its_threshold() -> None:
    switch = SoftSwitch(SoftThinking(confidence=0.6))
    assert [switch.decide(9.0, p) for p in (0.59, 0.6, 0.1)] == [False, True, False]


def test_entropy_trend_switches_with_dwell_and_a_cap() -> None:
    switch = SoftSwitch(SoftThinking(trend=True, dwell=2, most_switches=2))
    steps = [
        (2.0, True),  # the reference
        (2.5, True),
        (1.5, False),  # falls below 2.0: at once; reference 1.5
        (1.9, False),  # rises, but has not stayed two tokens
        (1.9, True),  # reference 1.9
        (1.8, False),  # the second soft phase ends
        (9.0, False),
        (9.0, False),  # no third one
    ]
    assert [switch.decide(entropy, 0.0) for entropy, _ in steps] == [soft for _, soft in steps]
    assert switch.switches == 2


def test_thinking_without_soft_steps_is_greedy_writing(decoder: Supernet) -> None:
    prompt, full = [1, 2, 3], decoder.space.full()
    never = think(decoder, prompt, full, SoftThinking(confidence=1.1), 10)
    written = write_greedily(decoder, prompt, [full], Fixed(0), 10)
    assert [thought.token for thought in never] == [one.token for one in written]
    always = think(decoder, prompt, full, SoftThinking(confidence=0.0, top=50), 10)
    assert all(thought.soft for thought in always)
    table = decoder.stem.embedding.weight  # type: ignore[union-attr]
    with torch.no_grad():
        first = decoder(torch.tensor([prompt]))[0, -1]
        eager = EagerDecoder(decoder)
        eager.feed(torch.tensor([prompt]), full)
        mean = (first.softmax(-1) @ table)[None, None]
        second = eager.feed_stream(mean, full)[0, -1]
    assert always[1].token == int(second.argmax())


def test_modes_spend_their_tokens_and_change_on_the_way() -> None:
    low, high = Mode("low", 0, 1, 2), Mode("high", 1, 2, 5, prefix="think hard\n")
    switch = Moded((low, high), "low").start(1)

    def path() -> int:
        return int(switch.choose(None, 0))

    assert [path() for _ in range(3)] == [0, 0, 1]
    switch.set_mode("high")
    assert [path() for _ in range(3)] == [1, 1, 2]
    with pytest.raises(PathError, match="no such mode"):
        switch.set_mode("medium")
    assert path() == 2
    early = Moded((low, high), "high").start(1)
    assert int(early.choose(None, 0)) == 1
    early.answer()
    assert int(early.choose(None, 1)) == 2


def test_steering_adds_to_the_stream_of_tokens_that_want_it(decoder: Supernet) -> None:
    tokens = torch.randint(50, (1, 4))
    full, tiny = decoder.space.full(), decoder.space.smallest()
    eager, plain = EagerDecoder(decoder), EagerDecoder(decoder)
    with torch.no_grad():
        vector = torch.randn(32)
        eager.feed(tokens[:, :3], full)
        plain.feed(tokens[:, :3], full)
        eager.steering[0] = vector
        steered = eager.feed(tokens[:, 3:], full)
        x = decoder.stem.embedding(tokens[:, 3:]) + vector  # type: ignore[operator]
        torch.testing.assert_close(steered, plain.feed_stream(x, full))
        eager.rewind(3)
        eager.steering = {2: vector}
        plain.rewind(3)
        # A layer that is skipped does not see its vector.
        torch.testing.assert_close(eager.feed(tokens[:, 3:], tiny), plain.feed(tokens[:, 3:], tiny))
