"""`nestling generate` with policies that look between the layers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from language_native.tiny_decoder import generate

from nestling.cli import main
from nestling.elastic.families.llama import ElasticLlama
from nestling.language.costs import TokenCosts
from nestling.language.router import Router, export_router, list_routes
from nestling_runtime import Model, RouteChoice, SoftThinking, Steering

PROMPT = "12(7"


def run(bundle: Path, policy: str) -> Any:
    """Generate with the command; return its JSON, or its output where it fails."""
    arguments = ["generate", str(bundle), "--prompt", PROMPT, "--max-tokens", "8", "--json"]
    result = CliRunner().invoke(main, [*arguments, "--policy", policy])
    return json.loads(result.output) if result.exit_code == 0 else result.output


def test_policies_of_the_command_line(
    net: ElasticLlama, bundle: Path, model: Model, tmp_path: Path
) -> None:
    routes = list_routes(net)
    costs = TokenCosts(net).blocks(torch.tensor([route.levels for route in routes])).float()
    torch.manual_seed(3)
    router, vectors = tmp_path / "router.npz", tmp_path / "vectors.npz"
    export_router(Router(128, len(routes), 8), routes, costs / costs.max(), 0.1, router)
    np.savez(vectors, layer1=np.linspace(-1, 1, 128), layer2=np.ones(128))
    policies = {
        "soft:confidence=0.2,top=4,large=slim": SoftThinking("slim", confidence=0.2, top=4),
        "soft:trend=1,dwell=1,switches=2": SoftThinking(trend=True, dwell=1, most_switches=2),
        f"route:router={router},price=0.5": RouteChoice.load(router, 0.5),
        f"steer:vectors={vectors},scale=-2": Steering.load(vectors, scale=-2.0),
    }
    texts = [run(bundle, "full")["tokens"]]
    for text, policy in policies.items():
        with model.decoder() as decoder:
            decoder.append(list(PROMPT.encode()))
            expected = decoder.generate(policy, max_tokens=8).token_ids
        texts.append(run(bundle, text)["tokens"])
        assert texts[-1] == expected
    assert texts[0] == generate(net, list(PROMPT.encode()), "full", 8)
    assert all(text != texts[0] for text in texts[1:])


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ("route", "needs a file for router"),
        ("route:router=none.npz", "holds no router"),
        ("steer:vectors=none.npz", "holds no steering vectors"),
        ("soft:top=99", "so many tokens (expected 1..16, actual 99)"),
        ("soft:confidence=-1", "not negative (expected at least 0, actual -1.0)"),
        ("soft:speed=1", "no parameter speed; soft[:confidence=0.5,top=10] or soft:trend=1"),
    ],
)
def test_policies_that_are_none(bundle: Path, policy: str, says: str) -> None:
    output = run(bundle, policy)
    assert says in output and output.startswith("error: ")
