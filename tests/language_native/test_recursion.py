"""Paths that visit stages again give natively what eager torch gives, token by token."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pytest
import torch

import nestling_runtime
from nestling.decoder_export import export_decoder
from nestling.elastic.families.llama import ElasticLlama
from nestling.elastic.families.recursive import RecursiveLlama
from nestling.elastic.families.recursive_versatile import VersatileLlama
from nestling.elastic.subnet import Subnet
from nestling.language.decoder import EagerDecoder, StateRule
from nestling.language.recursion import ChosenVisits, native_routes, visit_streams
from nestling.language.running import write_greedily
from nestling.partition.decoder import DecoderShape
from nestling_runtime import (
    ConfidenceExit,
    EntropySwitch,
    Model,
    PathError,
    RouteChoice,
    SelfSpeculation,
)
from nestling_runtime.decoder import Rule

CACHE = Path(__file__).resolve().parents[2] / "build" / "cache" / "lowering"
CONTEXT, VOCABULARY, TOLERANCE = 40, 61, 2e-4
SHAPE = DecoderShape(context=CONTEXT, chunks=(4,), verify=4)
PROMPT = [3, 1, 4, 1, 5, 9, 2, 6, 5]
SIZES: dict[str, Any] = {"dim": 128, "heads": 4, "groups": 2, "hidden": 64, "widths": (1.0,)}
Net = TypeVar("Net", bound=ElasticLlama)
Logits = npt.NDArray[np.float32]


def _enlarge(net: Net) -> Net:
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() > 1:
                parameter.mul_(10.0)
    return net.eval().requires_grad_(False)


class Exported:
    """A network and its bundle.

    Attributes:
        net: in eager torch: the oracle.
        paths: by name, small to large.
        model: the bundle, opened.
        path: the bundle.
    """

    def __init__(
        self, net: ElasticLlama, paths: dict[str, Subnet], model: Model, path: Path
    ) -> None:
        self.net, self.paths, self.model, self.path = net, paths, model, path

    def logits(self, tokens: Sequence[int], path: str) -> torch.Tensor:
        """The model's own forward over the whole sequence, (tokens, vocabulary)."""
        logits: torch.Tensor = self.net(torch.tensor([list(tokens)]), subnet=self.paths[path])[0]
        return logits

    def generate(self, path: str, count: int) -> list[int]:
        """Greedy tokens behind the prompt, each by a forward over everything before it."""
        tokens = list(PROMPT)
        for _ in range(count):
            tokens.append(int(self.logits(tokens, path)[-1].argmax()))
        return tokens[len(PROMPT) :]

    def follow(self, tokens: Sequence[int], paths: Sequence[str], rule: StateRule) -> Logits:
        """Eager logits of tokens with a path each, (tokens, vocabulary)."""
        decoder = EagerDecoder(self.net, rule=rule)
        fed = [
            decoder.feed(torch.tensor([[token]]), self.paths[path])[0, 0]
            for token, path in zip(tokens, paths, strict=True)
        ]
        return torch.stack(fed).numpy()


@contextmanager
def exported(net: ElasticLlama, paths: dict[str, Subnet], folder: Path) -> Iterator[Exported]:
    torch.set_num_threads(1)
    path = folder / "net.nest"
    export_decoder(net, path, shape=SHAPE, paths=paths, jobs=1, cache_dir=CACHE)
    with nestling_runtime.open(path, threads=1) as model:
        yield Exported(net, paths, model, path)


@pytest.fixture(scope="module", params=["own", "shared"])
def recursive(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Exported]:
    """A layer, then one that is visited up to three times, with caches of its own or one."""
    torch.manual_seed(1)
    net = _enlarge(
        RecursiveLlama(
            vocabulary=VOCABULARY,
            positions=CONTEXT,
            shares_state=request.param == "shared",
            **SIZES,
        )
    )
    with exported(net, net.visit_paths(), tmp_path_factory.mktemp("recursive")) as made:
        yield made


def shares(made: Exported) -> bool:
    assert isinstance(made.net, RecursiveLlama) and made.net.config is not None
    return bool(made.net.config["shares_state"])


def test_greedy_tokens_are_those_of_eager_torch(recursive: Exported) -> None:
    for path in recursive.paths:
        with recursive.model.decoder() as decoder:
            decoder.append(PROMPT)
            made = decoder.generate(path, max_tokens=20, prompt_path=path)
            assert made.token_ids == recursive.generate(path, 20)


@pytest.mark.parametrize("rule", ["recompute", "propagate", "keep"])
def test_every_token_makes_visits_of_its_own(recursive: Exported, rule: Rule) -> None:
    rng = random.Random(0)
    names = list(recursive.paths)
    tokens = [rng.randrange(VOCABULARY) for _ in range(CONTEXT)]
    paths = [rng.choice(names) for _ in tokens]
    with recursive.model.decoder() as decoder:
        smaller = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
        assert all(decoder.rule(b, a) == "keep" for a, b in smaller)
        if rule == ("propagate" if shares(recursive) else "keep"):
            with pytest.raises(PathError, match="not possible"):
                decoder.set_rule(*smaller[0], rule)
            return
        for pair in smaller:
            decoder.set_rule(*pair, rule)
        # One cache holds the same rows whatever path has written them: nothing to propagate.
        eager = StateRule.RECOMPUTE if rule == "recompute" else StateRule.PROPAGATE
        expected = recursive.follow(tokens, paths, eager)
        for token, path, logits in zip(tokens, paths, expected, strict=True):
            decoder.append([token])
            np.testing.assert_allclose(decoder.logits(path), logits, atol=TOLERANCE)
        assert (decoder.state().recomputed > 0) == (rule == "recompute")


def test_the_default_rule_is_exact(recursive: Exported) -> None:
    with recursive.model.decoder() as decoder:
        expected = "keep" if shares(recursive) else "recompute"
        assert decoder.rule("once", "thrice") == expected
        state = decoder.state()
        # Keys and values of two layers or of four, and the streams of two exits.
        caches = 2 if shares(recursive) else 4
        assert state.token_bytes == 4 * (caches * 2 * 64 + 2 * 128)


def test_policies_choose_visits(recursive: Exported) -> None:
    expected = recursive.generate("thrice", 20)
    with recursive.model.decoder() as decoder:
        decoder.append(PROMPT)
        made = decoder.generate(SelfSpeculation("once", "thrice"), max_tokens=20)
        assert made.token_ids == expected
        assert made.drafted > 0 and decoder.state().resumed >= made.drafted
    # A token goes on to more visits of the same stages from where it stopped.
    ladder = ConfidenceExit(("once", "twice", "thrice"), (0.4, 0.4))
    for policy in (ladder, EntropySwitch("once", "thrice", 3.0, window=1, ahead=True)):
        with recursive.model.decoder() as decoder:
            decoder.append(PROMPT)
            made = decoder.generate(policy, max_tokens=20, prompt_path="thrice")
            assert len({token.path for token in made.tokens}) > 1
            assert decoder.state().resumed > 0
            paths = ["thrice"] * (len(PROMPT) - 1) + [token.path for token in made.tokens]
            tokens = [*PROMPT, *made.token_ids]
            logits = recursive.follow(tokens[:-1], paths, StateRule.RECOMPUTE)
            assert logits[len(PROMPT) - 1 :].argmax(axis=-1).tolist() == made.token_ids


def test_a_router_chooses_visits(recursive: Exported) -> None:
    net = recursive.net
    assert isinstance(net, RecursiveLlama)
    with torch.no_grad():
        # Differences between tokens, not a mean over them, are to decide.
        streams = visit_streams(net, torch.arange(VOCABULARY)[None, :CONTEXT])
        net.router.output.bias.sub_(net.router(streams[0]).mean(dim=(0, 1)))
    paths = list(recursive.paths.values())
    expected = list(write_greedily(net, PROMPT, paths, ChosenVisits(net.router), 20))
    assert len({token.path for token in expected}) > 1
    with recursive.model.decoder() as decoder:
        decoder.append(PROMPT)
        made = decoder.generate(RouteChoice(**native_routes(net)), max_tokens=20)
        assert made.token_ids == [token.token for token in expected]
        assert decoder.state().recomputed == 0


def test_visits_are_the_same_program_and_weights(recursive: Exported) -> None:
    bundle = recursive.model.bundle
    visits = {
        stage.name: (stage.program, tuple(stage.bindings), tuple(stage.inputs))
        for stage in bundle.stages
        if ".visit" in stage.name or stage.name.startswith("layer1.")
    }
    assert len(visits) == (12 if shares(recursive) else 16)
    for end in ("", ".t4"):
        again = [visits[f"layer1.ffn{visit}.w1{end}"] for visit in ("", ".visit2", ".visit3")]
        assert again[0] == again[1] == again[2]
        first, second, third = (
            visits[f"layer1.attention{visit}.w1{end}"] for visit in ("", ".visit2", ".visit3")
        )
        assert second[:2] == third[:2]
        if shares(recursive):
            assert second == third
            # No keys and values to make; in their place, which rows of the cache are the run's.
            weights, more = {index for _, index in first[1]}, {index for _, index in second[1]}
            assert len(more - weights) == 1 and len(weights - more) == 2
        else:
            assert first[:2] == second[:2] and len({first[2], second[2], third[2]}) == 3
    # Weights: those of the network, each once, and small tables.
    assert isinstance(recursive.net, RecursiveLlama)
    router = sum(p.numel() for p in recursive.net.router.parameters())
    weight_bytes = 4 * (sum(p.numel() for p in recursive.net.parameters()) - router)
    stored = sum(constant.size_bytes for constant in bundle.constants)
    assert weight_bytes <= stored < 1.05 * weight_bytes
    by_path = [bundle.paths[bundle.path_index(name)] for name in recursive.paths]
    assert len({path.parameters for path in by_path}) == 1
    assert by_path[0].weight_bytes == by_path[2].weight_bytes


def test_visits_are_loaded_once(recursive: Exported) -> None:
    with nestling_runtime.open(recursive.path, threads=1) as model, model.session() as session:
        session.select("thrice")
        assert len(session.stages) == 10
        # Stem, two layers and head; what borrows its keys and values is another program.
        loaded = 7 if shares(recursive) else 6
        assert model.memory().loads == model.memory().stages_resident == loaded
        session.select("once")
        assert model.memory().loads == loaded + 1  # the exit
        model.evict()
        assert model.memory().stages_resident == 7


@pytest.fixture(scope="module")
def versatile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exported]:
    """A core layer, then one whose feed-forward is a slice of four, whole, or visited again."""
    torch.manual_seed(1)
    net = _enlarge(
        VersatileLlama(
            vocabulary=VOCABULARY,
            positions=CONTEXT,
            depth=2,
            core_layers=1,
            ffn_visits=3,
            slices=4,
            **SIZES,
        )
    )
    folder = tmp_path_factory.mktemp("versatile")
    with exported(net, net.space.named, folder) as made:
        yield made


def test_wide_and_deep_feed_forwards(versatile: Exported) -> None:
    rng = random.Random(0)
    names = list(versatile.paths)
    assert names == ["wide", "once", "visits2", "full"]
    tokens = [rng.randrange(VOCABULARY) for _ in range(CONTEXT)]
    paths = [rng.choice(names) for _ in tokens]
    expected = versatile.follow(tokens, paths, StateRule.PROPAGATE)
    with versatile.model.decoder() as decoder:
        for token, path, logits in zip(tokens, paths, expected, strict=True):
            decoder.append([token])
            np.testing.assert_allclose(decoder.logits(path), logits, atol=TOLERANCE)
        assert decoder.state().recomputed == 0
    for path in names:
        with versatile.model.decoder() as decoder:
            decoder.append(PROMPT)
            made = decoder.generate(path, max_tokens=12, prompt_path=path)
            assert made.token_ids == versatile.generate(path, 12)
