"""One tiny decoder for all tests of generating."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from language_native.tiny_decoder import PATHS, SHAPE, make_net

import nestling_runtime
from nestling.decoder_export import export_decoder
from nestling.elastic.families.llama import ElasticLlama
from nestling_runtime import Decoder, Model


@pytest.fixture(scope="session")
def net() -> ElasticLlama:
    """The decoder in eager torch: the oracle."""
    torch.set_num_threads(1)
    return make_net()


@pytest.fixture(scope="session")
def bundle(net: ElasticLlama, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a bundle."""
    path = tmp_path_factory.mktemp("decoder") / "tiny.nest"
    export_decoder(net, path, shape=SHAPE, paths=PATHS, jobs=1)
    return path


@pytest.fixture(scope="session")
def model(bundle: Path) -> Iterator[Model]:
    """The bundle, opened with one thread."""
    with nestling_runtime.open(bundle, threads=1) as opened:
        yield opened


@pytest.fixture
def decoder(model: Model) -> Iterator[Decoder]:
    """A conversation with nothing in it."""
    with model.decoder() as made:
        yield made
