"""Tiny decoders: a second thread only costs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from nestling.elastic import ElasticLlama, Supernet
from nestling.language.bits import Windows


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def make_decoder(seed: int = 0) -> Supernet:
    """Four layers, two of them the core; weights large enough that paths differ."""
    torch.manual_seed(seed)
    supernet = ElasticLlama(
        vocabulary=50,
        dim=32,
        depth=4,
        heads=4,
        groups=2,
        hidden=48,
        positions=32,
        widths=(0.25, 0.5, 1.0),
        heads_widths=(1.0,),
        depths=(2, 3, 4),
        early_exit=True,
        core_layers=2,
        core_hidden=16,
        tied=True,
    )
    with torch.no_grad():
        for parameter in supernet.parameters():
            if parameter.dim() == 2:
                parameter.normal_(std=1.2 * parameter.shape[1] ** -0.5)
    return supernet.eval()


@pytest.fixture
def decoder() -> Supernet:
    return make_decoder()


@pytest.fixture
def windows() -> Windows:
    generator = torch.Generator().manual_seed(1)
    text = torch.randint(50, (6, 17), generator=generator)
    return Windows(text[:, :-1], text[:, 1:], torch.ones(6, 16), ("prose",) * 6)
