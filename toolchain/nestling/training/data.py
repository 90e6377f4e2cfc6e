"""The order in which samples are trained on: a pure function of the seed and the step.

So "where was the loader when it stopped" is just the step number, and a distributed run sees, step
for step, the samples that one process would see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, TensorDataset

from nestling.errors import TrainError

Batch = tuple[Tensor, ...]
"""The model's inputs in order, then the target: first dimension the sample."""

Augment = Callable[[Batch, torch.Generator], Batch]
"""Changes a training batch; draws random numbers from the generator only."""


class BatchOrder(Sampler[list[int]]):
    """The sample indices of every step from `start` on.

    The data set is shuffled anew every epoch and the epochs are joined end to end, so no sample is
    dropped at the end of one. Of a step's `batch_size` indices, this rank takes every `world`-th.
    """

    def __init__(
        self,
        samples: int,
        batch_size: int,
        steps: int,
        *,
        seed: int = 0,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if samples < 1:
            raise TrainError("the training data set is empty")
        if batch_size % world:
            raise TrainError(
                "the batch does not divide among the processes",
                expected=f"a multiple of {world}",
                actual=batch_size,
            )
        self._samples = samples
        self._batch_size = batch_size
        self._steps = steps
        self._seed = seed
        self._start = start
        self._rank = rank
        self._world = world

    def __len__(self) -> int:
        """Return the number of steps that are left."""
        return max(0, self._steps - self._start)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield this rank's indices, one list a step."""
        epoch, order = -1, torch.empty(0, dtype=torch.int64)
        for step in range(self._start, self._steps):
            batch: list[int] = []
            position = step * self._batch_size
            while len(batch) < self._batch_size:
                if position // self._samples != epoch:
                    epoch = position // self._samples
                    order = self._shuffle(epoch)
                offset = position % self._samples
                taken = order[offset : offset + self._batch_size - len(batch)].tolist()
                batch += taken
                position += len(taken)
            yield batch[self._rank :: self._world]

    def epoch(self, step: int) -> float:
        """Return how many times the data has been seen when `step` begins."""
        return step * self._batch_size / self._samples

    def _shuffle(self, epoch: int) -> Tensor:
        generator = torch.Generator().manual_seed(mix_seed(self._seed, epoch))
        return torch.randperm(self._samples, generator=generator)


def mix_seed(*numbers: int) -> int:
    """Return one 63-bit seed made of several numbers, so that (1, 2) and (2, 1) differ."""
    mixed = 0x9E3779B97F4A7C15
    for number in numbers:
        # splitmix64's finaliser: neighbours in, unrelated numbers out.
        mixed = (mixed ^ (number & 0xFFFFFFFFFFFFFFFF)) * 0xBF58476D1CE4E5B9 % 2**64
        mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB % 2**64
        mixed ^= mixed >> 31
    return mixed >> 1


def make_loader(dataset: Dataset[Any], order: BatchOrder, workers: int = 0) -> DataLoader[Any]:
    """Return a loader of the batches that `order` names.

    Its generator is its own: starting a loader draws one number from it, and drawing that from
    torch's global one would make a resumed run differ from an uninterrupted one.
    """
    generator = torch.Generator().manual_seed(0)
    if isinstance(dataset, TensorDataset):
        # It takes a whole list of indices at once; stacking samples one by one costs more than a
        # small model.
        return DataLoader(
            cast("Dataset[Any]", dataset),
            sampler=cast("Any", order),
            batch_size=None,
            num_workers=workers,
            generator=generator,
        )
    return DataLoader(dataset, batch_sampler=order, num_workers=workers, generator=generator)


def as_batch(sample: Any, inputs: int) -> Batch:
    """Return what a loader yielded as a batch of tensors.

    Raises:
        TrainError: It is not `inputs` tensors and one target, all with the same first dimension.
    """
    if not isinstance(sample, Sequence) or len(sample) != inputs + 1:
        raise TrainError(
            "the data set does not fit the model",
            expected=f"{inputs} input(s) and a target per sample",
            actual=f"{len(sample)} values"
            if isinstance(sample, Sequence)
            else type(sample).__name__,
        )
    batch = tuple(sample)
    sizes = {len(part) if isinstance(part, Tensor) and part.dim() else None for part in batch}
    if len(sizes) != 1 or None in sizes:
        raise TrainError(
            "inputs and target must be tensors with one entry a sample",
            actual=", ".join(
                str(tuple(part.shape)) if isinstance(part, Tensor) else type(part).__name__
                for part in batch
            ),
        )
    return batch


def split_share(batch: Batch, index: int, shares: int) -> Batch:
    """Return the `index`-th of `shares` consecutive parts of a batch.

    Consecutive, because ranks take every n-th sample: their i-th parts together are then one
    process's.

    Raises:
        TrainError: There are more parts than samples.
    """
    size = len(batch[0])
    if size < shares:
        raise TrainError(
            "the batch is smaller than the number of subnets that share it",
            expected=f"at least {shares} samples on each process",
            actual=size,
        )
    first, last = size * index // shares, size * (index + 1) // shares
    return tuple(part[first:last] for part in batch)
