"""Each file is exported once a session, when a test first asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from onnx_in.networks import BUILDERS, Network, write_onnx

Files = Callable[[str, str], tuple[Network, Path]]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A network and its file, by network and exporter."""
    folder = tmp_path_factory.mktemp("onnx")
    networks: dict[str, Network] = {}

    def find(name: str, exporter: str) -> tuple[Network, Path]:
        if name not in networks:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                networks[name] = BUILDERS[name]()
        path = folder / f"{name}-{exporter}.onnx"
        if not path.exists():
            write_onnx(networks[name], path, exporter)
        return networks[name], path

    return find
