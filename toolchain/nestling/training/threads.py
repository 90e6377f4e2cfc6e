"""How many threads torch computes with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use `count` threads inside the block; 0 leaves them as they are.

    Threads of small operators mostly wait for each other, and they wait by spinning: with two of
    them on two busy cores, a net of half a million multiplications ran twenty times slower than
    with one.
    """
    before = torch.get_num_threads()
    try:
        if count:
            torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)
