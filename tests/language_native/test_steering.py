"""Steering natively gives what eager torch gives, token by token and on every path."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from language_native.tiny_decoder import PATHS

from nestling.elastic.families.llama import ElasticLlama
from nestling.language.decoder import EagerDecoder, StateRule
from nestling_runtime import CancelledError, Decoder, EngineError, PathError
from nestling_runtime.steering import Steering, SteeringVector
from nestling_runtime.token_policy import Choice, CustomPolicy, SelfSpeculation, Signals

PROMPT = [3, 1, 4, 1, 5, 9, 2, 6, 5]
DIM, LAYERS = 128, 3
VECTORS = {
    index: (layer, vector)
    for index, layer, vector in zip(
        (0, 3), (1, 0), torch.randn(2, DIM, generator=torch.Generator().manual_seed(7)), strict=True
    )
}


def set_vectors(decoder: Decoder) -> None:
    """Make the vectors of this file known."""
    for index, (layer, vector) in VECTORS.items():
        decoder.set_steering(index, layer, vector)


def feed(eager: EagerDecoder, token: int, path: str, steering: tuple[int, ...]) -> torch.Tensor:
    """Feed one steered token; return its logits."""
    eager.steering = {VECTORS[i][0]: VECTORS[i][1] for i in steering}
    return eager.feed(torch.tensor([[token]]), PATHS[path])[0, -1]


class EveryOther(CustomPolicy):
    """Other vectors and paths at each token."""

    STEERING = ((), (0,), (0, 3), (3,))

    def __init__(self, *paths: str) -> None:
        self.paths = paths

    def at(self, index: int) -> tuple[str, tuple[int, ...]]:
        """Path and vectors of the token that comes after `index` others."""
        return self.paths[index % len(self.paths)], self.STEERING[index % 4]

    def choose(self, last: Signals) -> Choice:
        return Choice(*self.at(last.generated))


def expected_tokens(
    net: ElasticLlama,
    policy: EveryOther,
    count: int,
    rule: StateRule,
    prompt_steering: tuple[int, ...] = (),
) -> list[int]:
    """What eager torch makes behind the prompt."""
    eager = EagerDecoder(net, rule=rule)
    for token in PROMPT[:-1]:
        feed(eager, token, "full", prompt_steering)
    tokens = [PROMPT[-1]]
    for index in range(count):
        tokens.append(int(feed(eager, tokens[-1], *policy.at(index)).argmax()))
    return tokens[1:]


@pytest.mark.parametrize(
    ("paths", "rule"),
    [
        (("full",), "keep"),
        (("slim", "full", "full"), "keep"),
        (("tiny", "tiny", "full"), "propagate"),
        (("tiny", "full", "tiny"), "recompute"),
    ],
)
def test_steered_tokens_are_those_of_eager_torch(
    net: ElasticLlama, decoder: Decoder, paths: tuple[str, ...], rule: str
) -> None:
    set_vectors(decoder)
    policy = EveryOther(*paths)
    if rule != "keep":
        decoder.set_rule("tiny", "full", rule)  # type: ignore[arg-type]
    eager_rule = StateRule.RECOMPUTE if rule == "recompute" else StateRule.PROPAGATE
    decoder.append(PROMPT)
    made = decoder.generate(policy, max_tokens=20, prompt_steering=(0, 3))
    expected = expected_tokens(net, policy, 20, eager_rule, (0, 3))
    assert made.token_ids == expected
    assert made.token_ids != expected_tokens(net, policy, 20, eager_rule)
    # The cache is that of the steered tokens: what comes next sees it.
    eager = EagerDecoder(net, rule=eager_rule)
    for token in PROMPT[:-1]:
        feed(eager, token, "full", (0, 3))
    for index, token in enumerate([PROMPT[-1], *expected[:-1]]):
        feed(eager, token, *policy.at(index))
    logits = feed(eager, expected[-1], "full", ())
    np.testing.assert_allclose(decoder.logits("full"), logits, atol=5e-4)


def test_a_path_that_recomputes_steers_again(net: ElasticLlama, decoder: Decoder) -> None:
    """Tokens left by another path, in one run of several, each with its own vectors."""
    set_vectors(decoder)
    policy = EveryOther("slim")
    decoder.set_rule("slim", "full", "recompute")
    decoder.append(PROMPT)
    made = decoder.generate(policy, max_tokens=9, prompt_path="slim", prompt_steering=(3,))
    eager = EagerDecoder(net)
    for token in PROMPT[:-1]:
        feed(eager, token, "full", (3,))
    for index, token in enumerate([PROMPT[-1], *made.token_ids[:-1]]):
        feed(eager, token, "full", policy.at(index)[1])
    logits = feed(eager, made.token_ids[-1], "full", ())
    np.testing.assert_allclose(decoder.logits("full"), logits, atol=5e-4)
    assert decoder.state().recomputed >= len(PROMPT) + 8


def test_drafts_are_steered_as_the_path_that_verifies(net: ElasticLlama, decoder: Decoder) -> None:
    vectors = [SteeringVector(layer, vector) for layer, vector in VECTORS.values()]
    decoder.append(PROMPT)
    made = decoder.generate(Steering(vectors, SelfSpeculation("tiny", "full")), max_tokens=20)
    eager = EagerDecoder(net)
    eager.feed(torch.tensor([PROMPT[:-1]]), PATHS["full"])
    token = PROMPT[-1]
    for made_token in made.token_ids:
        token = int(feed(eager, token, "full", (0, 3)).argmax())
        assert token == made_token
    assert made.drafted > 0


def test_steering_behind_uncertain_tokens_alone(net: ElasticLlama, decoder: Decoder) -> None:
    layer, vector = VECTORS[0]
    bits = 2.0
    decoder.append(PROMPT)
    policy = Steering([SteeringVector(layer, vector)], "full", entropy_bits=bits)
    made = decoder.generate(policy, max_tokens=20)
    eager = EagerDecoder(net)
    eager.feed(torch.tensor([PROMPT[:-1]]), PATHS["full"])
    token, steered = PROMPT[-1], []
    for index, made_token in enumerate(made.tokens):
        steered.append(index > 0 and made.tokens[index - 1].entropy_bits >= bits)
        token = int(feed(eager, token, "full", (0,) if steered[-1] else ()).argmax())
        assert token == made_token.token
    assert {True, False} == set(steered)


def test_a_cancel_or_a_mistake_leaves_a_steered_session_whole(
    net: ElasticLlama, decoder: Decoder
) -> None:
    set_vectors(decoder)
    policy = EveryOther("full")
    expected = expected_tokens(net, policy, 12, StateRule.PROPAGATE)
    decoder.append(PROMPT)

    def at_four(_: object) -> None:
        if len(decoder.tokens) == len(PROMPT) + 4:
            decoder.cancel()

    with pytest.raises(CancelledError):
        decoder.generate(policy, max_tokens=12, on_token=at_four)
    assert decoder.tokens[len(PROMPT) :] == expected[:4]

    class Unknown(CustomPolicy):
        def choose(self, last: Signals) -> Choice:
            return Choice("full", steering=(5,))

    with pytest.raises(PathError, match="no steering vector 5"):
        decoder.generate(Unknown())
    # 4 tokens are made, so that the policy, which counts from 0, is where it was.
    assert decoder.generate(policy, max_tokens=8).token_ids == expected[4:]


def test_mistakes_of_steering_are_errors(decoder: Decoder) -> None:
    assert (decoder.layers, decoder.stream_dim) == (LAYERS, DIM)
    with pytest.raises(PathError, match="no layer 3"):
        decoder.set_steering(0, 3, np.zeros(DIM))
    with pytest.raises(EngineError, match="as many numbers"):
        decoder.set_steering(0, 0, np.zeros(DIM - 1))
    with pytest.raises(EngineError, match="not finite"):
        decoder.set_steering(0, 0, np.full(DIM, np.nan))
    with pytest.raises(EngineError, match="no such steering vector"):
        decoder.set_steering(32, 0, np.zeros(DIM))
    decoder.append(PROMPT)
    decoder.set_steering(1, 0, np.ones(DIM))
    decoder.set_steering(1, 0, None)
    with pytest.raises(PathError, match="no steering vector 1"):
        decoder.generate(prompt_steering=(1,))

    def nested(_: object) -> None:
        with pytest.raises(EngineError, match="is generating"):
            decoder.logits("full")
        with pytest.raises(EngineError, match="is generating"):
            decoder.rewind(0)

    assert len(decoder.generate(max_tokens=2, on_token=nested).tokens) == 2
