"""Generating natively gives what eager torch gives, token by token, whatever path makes which."""

from __future__ import annotations

import random
import threading

import numpy as np
import pytest
import torch
from language_native.tiny_decoder import (
    CONTEXT,
    PATHS,
    VOCABULARY,
    full_sequence_logits,
    generate,
    mixed_logits,
)

from nestling.elastic.families.llama import ElasticLlama
from nestling_runtime import (
    CancelledError,
    ConfidenceExit,
    ContextError,
    CustomPolicy,
    Decoder,
    EngineError,
    EntropySwitch,
    Model,
    PathError,
    Sampling,
    SelfSpeculation,
    TokenRate,
)
from nestling_runtime.decoder import Token
from nestling_runtime.token_policy import Signals

PROMPTS = [[7], [3, 1, 4, 1, 5, 9, 2, 6, 5], list(range(20, 45, 2))]
TOLERANCE = 2e-4


@pytest.mark.parametrize("path", list(PATHS))
@pytest.mark.parametrize("prompt", PROMPTS, ids=len)
def test_greedy_tokens_are_those_of_eager_torch(
    net: ElasticLlama, decoder: Decoder, path: str, prompt: list[int]
) -> None:
    decoder.append(prompt)
    made = decoder.generate(path, max_tokens=CONTEXT - len(prompt), prompt_path=path)
    expected = generate(net, prompt, path, CONTEXT - len(prompt))
    assert made.token_ids == expected
    assert made.reason == "length"
    assert decoder.tokens == prompt + expected
    assert {token.path for token in made.tokens} == {path}


def test_signals_are_those_of_the_distribution(net: ElasticLlama, decoder: Decoder) -> None:
    decoder.append(PROMPTS[1])
    made = decoder.generate("full", max_tokens=6)
    logits = full_sequence_logits(net, PROMPTS[1] + made.token_ids, "full")
    for index, token in enumerate(made.tokens):
        p = torch.softmax(logits[len(PROMPTS[1]) - 1 + index].double(), 0).numpy()
        best = np.sort(p)[::-1]
        assert token.entropy_bits == pytest.approx(-(p * np.log2(p)).sum(), abs=1e-3)
        assert token.confidence == pytest.approx(best[0], abs=1e-4)
        assert token.margin == pytest.approx(best[0] - best[1], abs=1e-4)


def test_every_mix_of_widths_keeps_the_cache(net: ElasticLlama, decoder: Decoder) -> None:
    rng = random.Random(0)
    tokens = [rng.randrange(VOCABULARY) for _ in range(CONTEXT)]
    paths = [rng.choice(["slim", "full"]) for _ in tokens]
    assert decoder.rule("slim", "full") == decoder.rule("full", "slim") == "keep"
    expected = mixed_logits(net, tokens, paths)
    for token, path, logits in zip(tokens, paths, expected, strict=True):
        decoder.append([token])
        np.testing.assert_allclose(decoder.logits(path), logits, atol=TOLERANCE)
    assert decoder.state().recomputed == 0


@pytest.mark.parametrize(("small", "large"), [("tiny", "full"), ("tiny", "slim"), ("slim", "full")])
def test_recomputing_is_exact(net: ElasticLlama, decoder: Decoder, small: str, large: str) -> None:
    rng = random.Random(1)
    tokens = [rng.randrange(VOCABULARY) for _ in range(CONTEXT)]
    decoder.set_rule(small, large, "recompute")
    expected = full_sequence_logits(net, tokens, large)
    for index, token in enumerate(tokens):
        decoder.append([token])
        if index % 7 == 6:
            np.testing.assert_allclose(decoder.logits(large), expected[index], atol=TOLERANCE)
        else:
            decoder.logits(small)
    assert decoder.state().recomputed > 20


def test_propagating_fills_the_layers_that_are_left_out(
    net: ElasticLlama, decoder: Decoder
) -> None:
    rng = random.Random(2)
    tokens = [rng.randrange(VOCABULARY) for _ in range(CONTEXT)]
    paths = [rng.choice(["tiny", "full", "tiny"]) for _ in tokens]
    decoder.set_rule("tiny", "full", "propagate")
    expected = mixed_logits(net, tokens, paths, propagate=True)
    for token, path, logits in zip(tokens, paths, expected, strict=True):
        decoder.append([token])
        np.testing.assert_allclose(decoder.logits(path), logits, atol=TOLERANCE)
    assert decoder.state().recomputed == 0


def test_rules_that_are_not_possible(decoder: Decoder) -> None:
    assert decoder.rule("tiny", "full") == "recompute"
    assert decoder.rule("full", "tiny") == "keep"
    with pytest.raises(PathError, match="not possible"):
        decoder.set_rule("tiny", "full", "keep")
    with pytest.raises(PathError, match="not possible"):
        decoder.set_rule("full", "tiny", "propagate")
    with pytest.raises(PathError, match="no path 'huge'"):
        decoder.set_rule("tiny", "huge", "keep")


@pytest.mark.parametrize("draft", ["tiny", "slim", "full"])
@pytest.mark.parametrize("confidence", [0.0, 0.5])
def test_speculation_gives_what_the_large_path_gives(
    net: ElasticLlama, decoder: Decoder, draft: str, confidence: float
) -> None:
    prompt = PROMPTS[1]
    decoder.append(prompt)
    policy = SelfSpeculation(draft, "full", confidence=confidence)
    made = decoder.generate(policy, max_tokens=CONTEXT - len(prompt))
    assert made.token_ids == generate(net, prompt, "full", CONTEXT - len(prompt))
    assert made.drafted > 0 and made.accepted <= made.drafted
    assert made.accepted == sum(token.drafted for token in made.tokens)
    if draft == "full":
        assert made.accepted == made.drafted
    if draft == "tiny":  # the first layer is not computed again for what it drafted
        assert decoder.state().resumed == made.drafted
    follow = decoder.tokens
    decoder.rewind(len(follow) - 5)
    assert decoder.generate("full", max_tokens=5).token_ids == follow[-5:]


def test_exit_takes_the_first_path_that_is_sure(net: ElasticLlama, decoder: Decoder) -> None:
    prompt, count, threshold = PROMPTS[1], 20, 0.6
    decoder.append(prompt)
    made = decoder.generate(ConfidenceExit(("tiny", "full"), threshold), max_tokens=count)
    tokens, expected, paths = list(prompt), [], []
    for _ in range(count):
        sure = float(torch.softmax(full_sequence_logits(net, tokens, "tiny")[-1], 0).max())
        paths.append("tiny" if sure >= threshold else "full")
        expected.append(int(full_sequence_logits(net, tokens, paths[-1])[-1].argmax()))
        tokens.append(expected[-1])
    assert [token.path for token in made.tokens] == paths
    assert made.token_ids == expected
    assert set(paths) == {"tiny", "full"}
    assert made.second_runs == paths.count("full")


@pytest.mark.parametrize("ahead", [False, True])
def test_entropy_switch_follows_the_paper(net: ElasticLlama, decoder: Decoder, ahead: bool) -> None:
    prompt, count = PROMPTS[1], 24
    decoder.append(prompt)
    policy = EntropySwitch(
        "tiny", "full", threshold_bits=3.7, window=3, minimum_stay=2, ahead=ahead
    )
    made = decoder.generate(policy, max_tokens=count)
    large, stay, previous = not ahead, 2, None
    seen: list[float] = []
    tokens = list(prompt)
    for token in made.tokens:
        path = "tiny" if ahead else previous
        if path is not None:
            logits = full_sequence_logits(net, tokens if ahead else tokens[:-1], path)[-1]
            p = torch.softmax(logits.double(), 0)
            seen.append(float(-(p * p.log2()).sum()))
            if (np.mean(seen[-3:]) > 3.7) != large and stay >= 2:
                large, stay = not large, 0
            stay += 1
        assert token.path == ("full" if large else "tiny")
        assert token.token == int(full_sequence_logits(net, tokens, token.path)[-1].argmax())
        tokens.append(token.token)
        previous = token.path
    assert made.switches > 1


class EveryThird(CustomPolicy):
    """The large path for every third token, and where the small one is not sure."""

    def choose(self, last: Signals) -> str:
        return "full" if last.generated % 3 == 0 else "tiny"

    def accept(self, now: Signals) -> str | None:
        return "slim" if now.path == "tiny" and now.margin < 0.1 else None


def test_a_policy_of_ones_own(decoder: Decoder) -> None:
    decoder.append(PROMPTS[1])
    made = decoder.generate(EveryThird(), max_tokens=12)
    assert [token.path for token in made.tokens[::3]] == ["full"] * 4
    for token in made.tokens:
        assert token.path != "tiny" or token.margin >= 0.1


def test_a_rate_that_is_out_of_reach_takes_the_smallest_path(decoder: Decoder) -> None:
    decoder.append(PROMPTS[0])
    made = decoder.generate(TokenRate(1e8), max_tokens=20)
    assert made.share("tiny") == 1.0
    decoder.rewind(1)
    assert decoder.generate(TokenRate(0.01), max_tokens=36).share("full") > 0


def test_sampling_repeats_by_seed(decoder: Decoder) -> None:
    def draw(seed: int) -> list[int]:
        decoder.rewind(0)
        decoder.append(PROMPTS[1])
        how = Sampling(temperature=2.0, top_k=40, top_p=0.95, seed=seed)
        return decoder.generate(max_tokens=20, sampling=how).token_ids

    first = draw(5)
    assert draw(5) == first
    assert draw(6) != first


def test_conversations_on_one_model_do_not_mix(net: ElasticLlama, model: Model) -> None:
    rng = random.Random(3)
    prompts = [[rng.randrange(VOCABULARY) for _ in range(rng.randint(1, 9))] for _ in range(4)]
    decoders = [model.decoder() for _ in prompts]
    made: list[list[int]] = [[] for _ in prompts]
    for decoder, prompt in zip(decoders, prompts, strict=True):
        decoder.append(prompt)
    for _ in range(5):
        for index, decoder in enumerate(decoders):
            made[index] += decoder.generate("full", max_tokens=3).token_ids
    for decoder, prompt, tokens in zip(decoders, prompts, made, strict=True):
        assert tokens == generate(net, prompt, "full", 15)
        decoder.close()


def test_stop_tokens_and_texts(net: ElasticLlama, decoder: Decoder) -> None:
    expected = generate(net, PROMPTS[1], "full", 12)
    decoder.append(PROMPTS[1])
    made = decoder.generate("full", max_tokens=12, stop_tokens=[expected[4]])
    assert made.reason == "token"
    assert made.token_ids == expected[: expected.index(expected[4]) + 1]
    decoder.rewind(len(PROMPTS[1]))
    text = bytes(expected)
    stop = text[5:8]
    made = decoder.generate("full", max_tokens=12, stop_texts=[b"\xff", stop])
    assert made.reason == "text"
    assert bytes(made.token_ids) == text[: text.index(stop) + len(stop)]
    with pytest.raises(EngineError, match="64 bytes"):
        decoder.generate(stop_texts=[b""])


def test_a_callback_stops_and_its_error_comes_through(net: ElasticLlama, decoder: Decoder) -> None:
    expected = generate(net, PROMPTS[1], "full", 8)
    decoder.append(PROMPTS[1])
    seen: list[Token] = []

    def two(token: Token) -> bool:
        seen.append(token)
        return len(seen) == 2

    assert decoder.generate("full", on_token=two).reason == "caller"
    assert [token.token for token in seen] == expected[:2]

    def fail(token: Token) -> None:
        raise KeyError(token.token)

    with pytest.raises(KeyError):
        decoder.generate("full", on_token=fail)
    assert decoder.generate("full", max_tokens=5).token_ids == expected[3:]


def test_cancelling_leaves_what_was_made(net: ElasticLlama, decoder: Decoder) -> None:
    expected = generate(net, PROMPTS[1], "full", 12)
    for policy in ("full", SelfSpeculation("tiny", "full")):
        decoder.rewind(0)
        decoder.append(PROMPTS[1])

        def at_three(token: Token) -> None:
            if len(decoder.tokens) - len(PROMPTS[1]) == 3:
                thread = threading.Thread(target=decoder.cancel)
                thread.start()
                thread.join()

        with pytest.raises(CancelledError):
            decoder.generate(policy, max_tokens=12, on_token=at_three)
        made = decoder.tokens[len(PROMPTS[1]) :]
        assert len(made) >= 3
        assert made == expected[: len(made)]
        rest = decoder.generate("full", max_tokens=12 - len(made)).token_ids
        assert made + rest == expected


def test_a_full_context_is_a_clear_error(net: ElasticLlama, decoder: Decoder) -> None:
    with pytest.raises(ContextError, match=f"at most {CONTEXT} tokens"):
        decoder.append([1] * (CONTEXT + 1))
    assert decoder.tokens == []
    decoder.append(PROMPTS[2])
    expected = generate(net, PROMPTS[2], "full", CONTEXT - len(PROMPTS[2]))
    for policy in ("full", SelfSpeculation("tiny", "full")):
        with pytest.raises(ContextError, match="context is full"):
            decoder.generate(policy, max_tokens=100)
        assert decoder.tokens == PROMPTS[2] + expected
        decoder.rewind(len(PROMPTS[2]))
    assert decoder.generate("full", max_tokens=4).token_ids == expected[:4]


def test_mistakes_are_errors_and_change_nothing(decoder: Decoder) -> None:
    with pytest.raises(EngineError, match="no prompt"):
        decoder.generate()
    decoder.append(PROMPTS[1])
    with pytest.raises(EngineError, match="vocabulary"):
        decoder.append([VOCABULARY])
    with pytest.raises(PathError, match="no path 'huge'"):
        decoder.generate("huge")
    with pytest.raises(EngineError, match="temperature"):
        decoder.generate(SelfSpeculation("tiny", "full"), sampling=Sampling(temperature=1.0))
    with pytest.raises(EngineError, match="makes no sense"):
        decoder.generate(sampling=Sampling(temperature=-1.0))
    with pytest.raises(EngineError, match="fewer tokens"):
        decoder.rewind(100)

    class Lost(CustomPolicy):
        def choose(self, last: Signals) -> str:
            return "huge"

    with pytest.raises(PathError, match="no path 'huge'"):
        decoder.generate(Lost())
    assert decoder.tokens == PROMPTS[1]
