"""Routes through the layers, chosen while a token runs: natively as in eager torch."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from language_native.tiny_decoder import PATHS

from nestling.elastic.families.llama import ElasticLlama
from nestling.language.costs import TokenCosts
from nestling.language.decoder import EagerDecoder
from nestling.language.router import Routed, Router, export_router, list_routes
from nestling.language.running import write_greedily
from nestling_runtime import CancelledError, Decoder, EngineError, PathError
from nestling_runtime.routing import LayerRouting, RouteChoice
from nestling_runtime.soft_thinking import SoftThinking
from nestling_runtime.steering import Steering, SteeringVector
from nestling_runtime.token_policy import CustomPolicy, LayerInput, SelfSpeculation, Signals

PROMPT = [3, 1, 4, 1, 5, 9, 2, 6, 5]
DIM, LAYERS = 128, 3


def subnet(levels: list[int]) -> torch.Tensor:
    """A route as eager torch takes it, of the level of each layer."""
    return torch.tensor([part for level in levels for part in (int(level > 0), level)])[None, None]


def feed(eager: EagerDecoder, token: int, levels: list[int]) -> torch.Tensor:
    """Feed one token; return its logits."""
    return eager.feed(torch.tensor([[token]]), subnet(levels))[0, -1]


class Drawn(CustomPolicy):
    """Routes drawn at random, and remembered."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.routes: list[list[int]] = []
        self.streams: list[npt.NDArray[np.float32]] = []

    def choose(self, last: Signals) -> str:
        self.routes.append([])
        return "full"

    def route(self, at: LayerInput) -> int:
        assert (at.layers, at.layer) == (LAYERS, len(self.routes[-1]))
        assert at.skippable == (at.layer > 0) and at.path_level == at.levels == 1 + int(
            at.layer > 0
        )
        level = self.random.randint(0 if at.skippable else 1, at.levels)
        self.routes[-1].append(level)
        self.streams.append(at.stream)
        return level


def test_any_route_is_that_of_eager_torch(net: ElasticLlama, decoder: Decoder) -> None:
    """Logits, tokens and streams; layers that are left out propagate, whatever comes behind."""
    policy = Drawn(3)
    decoder.append(PROMPT)
    made = decoder.generate(policy, max_tokens=24).token_ids
    eager = EagerDecoder(net)
    eager.feed(torch.tensor([PROMPT[:-1]]), PATHS["full"])
    streams = iter(policy.streams)
    for token, route, following in zip([PROMPT[-1], *made], policy.routes, made, strict=False):
        assert int(feed(eager, token, route).argmax()) == following
        for layer in range(LAYERS):
            expected = eager._streams[layer][0, 0]
            np.testing.assert_allclose(next(streams), expected, atol=5e-4)
    assert len({tuple(route) for route in policy.routes}) > 5
    # To what comes next, a routed token is one of its path's: nothing is computed anew.
    logits = feed(eager, made[-1], [1, 2, 2])
    np.testing.assert_allclose(decoder.logits("full"), logits, atol=5e-4)
    assert decoder.state().recomputed == 0


def test_a_route_costs_what_its_stages_do(decoder: Decoder) -> None:
    class Core(CustomPolicy):
        def choose(self, last: Signals) -> str:
            return "full"

        def route(self, at: LayerInput) -> int:
            return 0 if at.skippable else at.path_level

    def macs(policy: str | CustomPolicy) -> int:
        before = decoder.state().macs
        decoder.generate(policy, max_tokens=4)
        return decoder.state().macs - before

    decoder.append(PROMPT)
    decoder.generate("full", max_tokens=1)
    # A path that ends behind the core, and fills the caches of what it leaves out.
    decoder.set_rule("tiny", "full", "propagate")
    assert macs(Core()) == macs("tiny") < 0.5 * macs("full")


@pytest.mark.parametrize("price", [0.0, 0.3, 4.0])
def test_the_trained_router_takes_the_same_routes(
    net: ElasticLlama, decoder: Decoder, tmp_path: Path, price: float
) -> None:
    routes = list_routes(net)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        router = Router(DIM, len(routes), 16).eval()
    costs = TokenCosts(net).blocks(torch.tensor([route.levels for route in routes])).float()
    costs = costs / costs.max()
    expected = list(write_greedily(net, PROMPT, routes, Routed(router, costs, price), 24))
    export_router(router, routes, costs, price, tmp_path / "router.npz")
    policy = RouteChoice.load(tmp_path / "router.npz")
    decoder.append(PROMPT)
    assert decoder.generate(policy, max_tokens=24).token_ids == [one.token for one in expected]
    if price < 1:
        assert len({one.path for one in expected}) > 1
    other = RouteChoice.load(tmp_path / "router.npz", price=1e3)
    decoder.rewind(len(PROMPT))
    cheap = write_greedily(net, PROMPT, routes, Routed(router, costs, 1e3), 8)
    assert decoder.generate(other, max_tokens=8).token_ids == [one.token for one in cheap]


def test_a_linear_router_at_each_layer(net: ElasticLlama, decoder: Decoder) -> None:
    generator = torch.Generator().manual_seed(11)
    weights = torch.randn(LAYERS, 3, DIM, generator=generator).unbind()
    biases = torch.randn(LAYERS, 3, generator=generator).unbind()
    policy = LayerRouting([None, *weights[1:]], [None, *biases[1:]])
    decoder.append(PROMPT)
    made = decoder.generate(policy, max_tokens=24).token_ids
    eager = EagerDecoder(net)
    eager.feed(torch.tensor([PROMPT[:-1]]), PATHS["full"])
    token, routes = PROMPT[-1], set()
    for following in made:
        levels = [1, 2, 2]
        for layer in (1, 2):
            feed(eager, token, levels)
            x = eager._streams[layer][0, 0]
            scores = weights[layer] @ torch.rms_norm(x, (DIM,)) + biases[layer]
            levels[layer] = int(scores.argmax())
            eager.rewind(eager.position - 1)
        routes.add(tuple(levels))
        token = int(feed(eager, token, levels).argmax())
        assert token == following
    assert len(routes) > 2


def test_routes_steering_and_soft_steps_together(net: ElasticLlama, decoder: Decoder) -> None:
    vector = torch.randn(DIM, generator=torch.Generator().manual_seed(2))
    inner = Drawn(4)
    policy = Steering([SteeringVector(1, vector)], SoftThinking(inner, confidence=2.0))
    decoder.append(PROMPT)
    made = decoder.generate(policy, max_tokens=16).token_ids
    eager = EagerDecoder(net)
    eager.feed(torch.tensor([PROMPT[:-1]]), PATHS["full"])
    eager.steering = {1: vector}
    for token, route, following in zip([PROMPT[-1], *made], inner.routes, made, strict=False):
        assert int(feed(eager, token, route).argmax()) == following


def test_a_cancel_within_a_route_leaves_the_session_whole(
    net: ElasticLlama, decoder: Decoder
) -> None:
    class Cancelling(Drawn):
        def route(self, at: LayerInput) -> int:
            if len(self.routes) == 5 and at.layer == 2:
                decoder.cancel()
            return super().route(at)

    class Failing(Drawn):
        def route(self, at: LayerInput) -> int:
            if len(self.routes) == 2 and at.layer == 1:
                raise KeyError("here")
            return super().route(at)

    decoder.append(PROMPT)
    policy, failing = Cancelling(8), Failing(9)
    with pytest.raises(CancelledError):
        decoder.generate(policy, max_tokens=12)
    with pytest.raises(KeyError):
        decoder.generate(failing, max_tokens=12)
    made = decoder.tokens[len(PROMPT) :]
    assert len(made) == 5
    eager = EagerDecoder(net)
    eager.feed(torch.tensor([PROMPT[:-1]]), PATHS["full"])
    routes = [*policy.routes[:4], failing.routes[0]]
    for token, route, following in zip([PROMPT[-1], *made], routes, made, strict=False):
        assert int(feed(eager, token, route).argmax()) == following
    logits = feed(eager, made[-1], [1, 2, 2])
    np.testing.assert_allclose(decoder.logits("full"), logits, atol=5e-4)


def test_routes_that_cannot_be_are_errors(decoder: Decoder, tmp_path: Path) -> None:
    class Always(CustomPolicy):
        def __init__(self, level: int, path: str = "full") -> None:
            self.level, self.path = level, path

        def choose(self, last: Signals) -> str:
            return self.path

        def route(self, at: LayerInput) -> int:
            return self.level

    decoder.append(PROMPT)
    with pytest.raises(PathError, match="leaves out layer 0"):
        decoder.generate(Always(0))
    with pytest.raises(PathError, match="a level that layer 0 has not"):
        decoder.generate(Always(2))
    assert decoder.tokens == PROMPT
    # Layers that the path has not are not asked about.
    assert len(decoder.generate(Always(1, "tiny"), max_tokens=3).tokens) == 3

    class Drafts(Always):
        def bind(self, of: Decoder):  # type: ignore[no-untyped-def]
            bound, drafts = super().bind(of), SelfSpeculation("tiny", "full").bind(of)
            bound.raw.choose, bound.inner = drafts.raw.choose, (drafts,)
            bound.raw.self = drafts.raw.self
            return bound

    with pytest.raises(EngineError, match="neither soft nor forced nor routed"):
        decoder.generate(Drafts(1))
    with pytest.raises(EngineError, match="holds no router"):
        RouteChoice.load(tmp_path / "none.npz")
    zeros = np.zeros((4, DIM - 1))
    wrong = RouteChoice(
        zeros, np.zeros(4), np.zeros((9, 4)), np.zeros(9), np.zeros(9), np.ones((9, 2))
    )
    with pytest.raises(EngineError, match="hidden_weight does not match"):
        decoder.generate(wrong)
    with pytest.raises(EngineError, match="do not match the model"):
        decoder.generate(LayerRouting([None], [None]))
