"""One tiny bundle for all tests of the runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from runtime.expert_cases import TOKENS, Case
from runtime.expert_samples import Floats
from runtime.tiny_bundle import Artifacts, artifacts, tiny_builder
from runtime.tiny_model import INPUT_UNITS, Image, TinyNet

import nestling_runtime
from nestling_runtime import Model, Session


@pytest.fixture(scope="session")
def made() -> Artifacts:
    """The lowered stages, and plain programs of the same nets."""
    torch.set_num_threads(1)
    return artifacts()


@pytest.fixture(scope="session")
def tiny_path(made: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the tiny net. Tests that change it copy it first."""
    path = tmp_path_factory.mktemp("bundles") / "tiny.nest"
    tiny_builder(made).write(path)
    return path


@pytest.fixture(scope="session")
def net() -> TinyNet:
    """The same net in eager torch."""
    return TinyNet().eval()


@pytest.fixture(scope="session")
def eager(net: TinyNet) -> Callable[[Image, tuple[int, ...]], Image]:
    """The oracle: the logits of a subnet, by eager torch."""

    def run(image: Image, levels: tuple[int, ...]) -> Image:
        with torch.no_grad():
            result: Image = net(torch.from_numpy(image), levels).numpy()
            return result

    return run


@pytest.fixture
def model(tiny_path: Path) -> Iterator[Model]:
    """The bundle, opened with one thread."""
    with nestling_runtime.open(tiny_path, threads=1) as opened:
        yield opened


@pytest.fixture
def session(model: Model) -> Iterator[Session]:
    """A session on it, with nothing selected."""
    with model.session() as created:
        yield created


@pytest.fixture
def image() -> Image:
    """Some input, (1, 16) f32."""
    return np.random.default_rng(7).standard_normal((1, INPUT_UNITS)).astype(np.float32)


@pytest.fixture(scope="session")
def expert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("experts")


@pytest.fixture(scope="session")
def floats(expert_folder: Path) -> Case:
    """Experts in f32."""
    return Case(expert_folder, 0)


@pytest.fixture(scope="session")
def nibbles(expert_folder: Path) -> Case:
    """Experts whose bits nest. Tests that change the file copy it first."""
    return Case(expert_folder, 16)


@pytest.fixture(scope="session")
def wanted(nibbles: Case) -> dict[tuple[int, int], Floats]:
    """The answers of a model that never forgets."""
    with nestling_runtime.open(nibbles.path, threads=1) as model, model.session() as session:
        return {(t, s): nibbles.run(session, t, s) for t in TOKENS for s in range(3)}
