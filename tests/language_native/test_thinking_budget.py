"""A thought with a budget, then the answer: in one generation of the native loop."""

from __future__ import annotations

import pytest
from language_native.tiny_decoder import generate

from nestling.elastic.families.llama import ElasticLlama
from nestling_runtime import Decoder, EngineError, SelfSpeculation
from nestling_runtime.soft_thinking import SoftThinking
from nestling_runtime.thinking_budget import ThinkingBudget
from nestling_runtime.token_policy import Changeable, CustomPolicy, Signals

PROMPT = [3, 1, 4, 1, 5, 9, 2, 6, 5]
CLOSING = (60, 11, 60)


@pytest.mark.parametrize("budget", [0, 1, 5])
@pytest.mark.parametrize("answering", ["full", SelfSpeculation("tiny", "full")], ids=str)
def test_a_used_budget_closes_the_thought(
    net: ElasticLlama, decoder: Decoder, budget: int, answering: str
) -> None:
    decoder.append(PROMPT)
    policy = ThinkingBudget(CLOSING, budget, "slim", answering)
    made = decoder.generate(policy, max_tokens=budget + 3 + 8)
    thought = generate_slim(net, decoder, budget)
    assert made.token_ids[: budget + 3] == [*thought, *CLOSING]
    paths = [token.path for token in made.tokens]
    assert paths == ["slim"] * (budget + 3) + ["full"] * 8


def generate_slim(net: ElasticLlama, decoder: Decoder, count: int) -> list[int]:
    """What `slim` makes behind a prompt that `full` has read, as the decoder itself says."""
    with decoder._model.decoder() as other:
        other.append(PROMPT)
        return other.generate("slim", max_tokens=count).token_ids


def test_a_thought_that_the_model_closes(net: ElasticLlama, decoder: Decoder) -> None:
    """Closing tokens that the model would write anyway, also where they overlap themselves."""
    expected = generate(net, PROMPT, "full", 12)
    decoder.append(PROMPT)
    policy = ThinkingBudget(expected[3:5], 30, "full", "tiny")
    made = decoder.generate(policy, max_tokens=12)
    end = next(i for i in range(2, 13) if expected[i - 2 : i] == expected[3:5])
    assert made.token_ids[:end] == expected[:end]
    assert [token.path for token in made.tokens] == ["full"] * end + ["tiny"] * (12 - end)


def test_a_budget_within_which_thoughts_are_soft_and_which_changes(decoder: Decoder) -> None:
    decoder.append(PROMPT)
    soft = SoftThinking("full", confidence=0.0, top=4)
    policy = Changeable(ThinkingBudget(CLOSING, 20, soft, "tiny"))

    def shorten(_: object) -> None:
        if len(decoder.tokens) == len(PROMPT) + 4:
            policy.policy = ThinkingBudget(CLOSING, 0, "slim", "tiny")

    made = decoder.generate(policy, max_tokens=10, on_token=shorten)
    # A policy that is exchanged begins anew, behind a token that is taken for one of its thought.
    assert [token.soft_tokens for token in made.tokens] == [0, 4, 4, 4, 0, 0, 0, 0, 0, 0]
    assert tuple(made.token_ids[4:7]) == CLOSING
    assert [token.path for token in made.tokens[4:]] == ["slim"] * 3 + ["tiny"] * 3


def test_budgets_that_are_none(decoder: Decoder) -> None:
    class Broken(CustomPolicy):
        def choose(self, last: Signals) -> str:
            raise KeyError("broken")

    decoder.append(PROMPT)
    for policy, says in (
        (ThinkingBudget((), 3), "out of its range"),
        (ThinkingBudget((1,), -1), "out of its range"),
        (ThinkingBudget((61,), 3), "not the model's"),
    ):
        with pytest.raises(EngineError, match=says):
            decoder.generate(policy)
    with pytest.raises(KeyError, match="broken"):
        decoder.generate(ThinkingBudget((1,), 0, "full", Broken()))
    assert decoder.tokens == [*PROMPT, 1]
