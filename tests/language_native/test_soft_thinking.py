"""Soft steps natively are those of eager torch: the same tokens, the same steps, the same cache."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from language_native.tiny_decoder import PATHS

from nestling.elastic.families.llama import ElasticLlama
from nestling.language import policies, thinking
from nestling.language.decoder import EagerDecoder
from nestling_runtime import CancelledError, Decoder, EngineError, Model, Sampling
from nestling_runtime.soft_thinking import SoftThinking
from nestling_runtime.token_policy import Choice, CustomPolicy, SelfSpeculation, Signals

PROMPT = [3, 1, 4, 1, 5, 9, 2, 6, 5]
# How many tokens are compared: a mean is fed with all its rounding, which no token takes away,
# so that steps without end drift apart, eager torch in single from double precision as well.
SWITCHES = [
    ({"confidence": 0.0}, 7),
    ({"confidence": 0.6, "top": 3}, 24),
    ({"trend": True, "dwell": 2}, 14),
    ({"trend": True, "dwell": 1, "most_switches": 2, "top": 16}, 24),
]


def embeddings(net: ElasticLlama) -> torch.Tensor:
    """The table that tokens are looked up in, (vocabulary, dim)."""
    table = net.stem.embedding.weight  # type: ignore[union-attr]
    assert isinstance(table, torch.Tensor)
    return table


def eager_thoughts(
    net: ElasticLlama, path: str, switch: dict[str, float], count: int
) -> list[thinking.Thought]:
    """What eager torch thinks behind the prompt."""
    policy = policies.SoftThinking(**switch)  # type: ignore[arg-type]
    return thinking.think(net, PROMPT, PATHS[path], policy, count)


@pytest.mark.parametrize(("switch", "count"), SWITCHES, ids=str)
@pytest.mark.parametrize("path", ["slim", "full"])
def test_soft_steps_are_those_of_eager_torch(
    net: ElasticLlama, decoder: Decoder, path: str, switch: dict[str, float], count: int
) -> None:
    decoder.append(PROMPT)
    policy = SoftThinking(path, **switch)  # type: ignore[arg-type]
    made = decoder.generate(policy, max_tokens=count, prompt_path=path)
    expected = eager_thoughts(net, path, switch, count)
    assert made.token_ids == [thought.token for thought in expected]
    # A thought says how it goes on, a token how it was come to.
    soft = [token.soft_tokens > 0 for token in made.tokens]
    assert soft == [False, *[thought.soft for thought in expected[:-1]]]
    assert {token.soft_tokens for token in made.tokens} <= {0, switch.get("top", 10)}
    assert any(soft)


class Script(CustomPolicy):
    """Paths and soft steps by the number of the token."""

    def __init__(self, paths: list[str], soft: list[int]) -> None:
        self.paths, self.soft = paths, soft

    def choose(self, last: Signals) -> Choice:
        at = last.generated
        return Choice(self.paths[at % len(self.paths)], soft_tokens=self.soft[at % len(self.soft)])


def test_a_path_that_recomputes_mixes_again(net: ElasticLlama, decoder: Decoder) -> None:
    """Soft steps of the small path, computed anew by the large one, several in a run."""
    decoder.append(PROMPT)
    made = decoder.generate(Script(["tiny"], [0, 4, 0, 7, 2]), max_tokens=12, prompt_path="tiny")
    eager, large = EagerDecoder(net), EagerDecoder(net)
    table = embeddings(net)
    streams = table[torch.tensor(PROMPT)][None]
    logits = eager.feed_stream(streams, PATHS["tiny"])[0, -1]
    for index in range(1, 12):
        assert made.tokens[index - 1].token == int(logits.argmax())
        top = [0, 4, 0, 7, 2][index % 5]
        one = table[logits.argmax()]
        fed = thinking.soft_embedding(logits, table, top) if top else one
        streams = torch.cat([streams, fed[None, None]], 1)
        logits = eager.feed_stream(fed[None, None], PATHS["tiny"])[0, -1]
    streams = torch.cat([streams, table[logits.argmax()][None, None]], 1)
    expected = large.feed_stream(streams, PATHS["full"])[0, -1]
    np.testing.assert_allclose(decoder.logits("full"), expected, atol=5e-4)
    assert decoder.state().recomputed >= len(PROMPT) + 10


def test_a_cancel_leaves_the_tokens_and_what_was_fed(net: ElasticLlama, decoder: Decoder) -> None:
    expected = eager_thoughts(net, "full", {"confidence": 0.0}, 8)
    decoder.append(PROMPT)

    def at_four(_: object) -> None:
        if len(decoder.tokens) == len(PROMPT) + 4:
            decoder.cancel()

    with pytest.raises(CancelledError):
        decoder.generate(SoftThinking(confidence=0.0), max_tokens=8, on_token=at_four)
    assert decoder.tokens[len(PROMPT) :] == [thought.token for thought in expected[:4]]
    # The last token was drawn, but its soft step was not taken: it is fed as itself.
    eager = EagerDecoder(net)
    table = embeddings(net)
    logits = eager.feed(torch.tensor([PROMPT]), PATHS["full"])[0, -1]
    for _ in range(3):
        fed = thinking.soft_embedding(logits, table, 10)
        logits = eager.feed_stream(fed[None, None], PATHS["full"])[0, -1]
    logits = eager.feed(logits.argmax()[None, None], PATHS["full"])[0, -1]
    np.testing.assert_allclose(decoder.logits("full"), logits, atol=2e-2)


def test_soft_tokens_are_not_shared_with_other_conversations(model: Model) -> None:
    """A pool keeps common beginnings once; what was fed softly only looks the same."""
    with model.decoder_pool(64 << 20) as pool, pool.decoder() as one, pool.decoder() as other:
        one.append(PROMPT)
        tokens = one.generate(SoftThinking(confidence=0.0), max_tokens=24).token_ids
        text = [*PROMPT, *tokens]
        other.append(text)
        plain = other.logits("full")
        assert pool.state().adopted_tokens == 0
    with model.decoder() as alone:
        alone.append(text)
        np.testing.assert_allclose(plain, alone.logits("full"), atol=5e-4)


def test_soft_steps_that_cannot_be_are_errors(decoder: Decoder) -> None:
    decoder.append(PROMPT)
    with pytest.raises(EngineError, match=r"so many tokens .expected 1..16, actual 17"):
        decoder.generate(SoftThinking(top=17))
    with pytest.raises(EngineError, match="cannot begin with a soft step"):
        decoder.generate(Script(["full"], [4]))
    with pytest.raises(EngineError, match="fewer tokens"):
        decoder.generate(Script(["full"], [0, 17]))
    assert len(decoder.tokens) == len(PROMPT) + 1
    # A draft is never soft.
    made = decoder.generate(
        SoftThinking(SelfSpeculation("tiny", "full"), confidence=0.0), max_tokens=8
    )
    assert made.drafted > 0 and not any(token.soft_tokens for token in made.tokens)


def test_sampled_soft_steps_repeat_by_seed(decoder: Decoder) -> None:
    def draw(seed: int) -> list[int]:
        decoder.rewind(0)
        decoder.append(PROMPT)
        how = Sampling(temperature=3.0, seed=seed)
        return decoder.generate(SoftThinking(confidence=0.5), max_tokens=20, sampling=how).token_ids

    assert draw(1) == draw(1) != draw(2)
