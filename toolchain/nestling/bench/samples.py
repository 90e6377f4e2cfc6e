"""Real inputs: from files, from recipes, or noise where only speed is measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

from nestling.errors import ExportError

if TYPE_CHECKING:
    from torch import Tensor

    from nestling.elastic import Supernet
    from nestling.training import RecipeData

Samples = list["tuple[Tensor, ...]"]
"""Inputs of the model, each a tuple of tensors of batch 1."""

DEFAULT_COUNT = 32


def read_samples(file: Path, supernet: Supernet) -> Samples:
    """Read inputs from an `.npz` file: one array an input, its first axis the sample.

    Arrays are named as the model's inputs are (`pixels`) or `input0`, `input1`, ... in their order.
    A model with one input takes any single array, also from an `.npy` file.

    Raises:
        ExportError: The file is no such archive, or does not fit the model's inputs.
    """
    import numpy as np
    import torch

    try:
        loaded = np.load(file)
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise ExportError("the calibration file cannot be read", actual=str(file)) from error
    arrays = {"input0": loaded} if isinstance(loaded, np.ndarray) else dict(loaded.items())
    columns = []
    for index, (name, example) in enumerate(
        zip(supernet.input_names, supernet.example_inputs(), strict=True)
    ):
        array = arrays.get(name, arrays.get(f"input{index}"))
        if array is None and len(supernet.input_names) == len(arrays) == 1:
            (array,) = arrays.values()
        if array is None:
            raise ExportError(
                "the calibration file lacks an input", expected=name, actual=sorted(arrays)
            )
        if array.shape[1:] == tuple(example.shape):  # written with the batch axis of one
            array = array[:, 0]
        if array.shape[1:] != tuple(example.shape[1:]) or not len(array):
            raise ExportError(
                f"the calibration data of {name!r} has the wrong shape",
                expected=("samples", *example.shape[1:]),
                actual=array.shape,
            )
        columns.append(torch.from_numpy(array.copy()).to(example.dtype))
    count = min(len(column) for column in columns)
    return [tuple(column[at : at + 1] for column in columns) for at in range(count)]


def recipe_samples(data: RecipeData, count: int = DEFAULT_COUNT) -> Samples:
    """Return training samples of a recipe, spread over its data; never held-out ones."""
    total = len(data.train)  # type: ignore[arg-type]
    step = max(1, total // count)
    chosen = [data.train[at] for at in range(0, total, step)][:count]
    return [tuple(part[None] for part in sample[:-1]) for sample in chosen]


def noise_samples(supernet: Supernet, count: int = DEFAULT_COUNT, seed: int = 0) -> Samples:
    """Return normal noise for float inputs; other inputs are the model's own examples."""
    import torch

    random = torch.Generator().manual_seed(seed)
    return [
        tuple(
            torch.randn(t.shape, generator=random) if t.is_floating_point() else t
            for t in supernet.example_inputs()
        )
        for _ in range(count)
    ]
