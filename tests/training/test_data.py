"""The order of samples: complete, seeded, joinable at any step, shared alike by all ranks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Dataset, TensorDataset

from nestling.errors import TrainError
from nestling.training.data import BatchOrder, as_batch, make_loader, mix_seed, split_share


@settings(max_examples=60, deadline=None)
@given(
    samples=st.integers(1, 40),
    batch=st.integers(1, 50),
    steps=st.integers(1, 30),
    seed=st.integers(0, 10**9),
    data=st.data(),
)
def test_order(samples: int, batch: int, steps: int, seed: int, data: st.DataObject) -> None:
    whole = list(BatchOrder(samples, batch, steps, seed=seed))
    assert [len(indices) for indices in whole] == [batch] * steps
    stream = [index for indices in whole for index in indices]
    for epoch in range(len(stream) // samples):
        part = stream[epoch * samples : (epoch + 1) * samples]
        assert sorted(part) == list(range(samples)), "an epoch is every sample once"
    start = data.draw(st.integers(0, steps))
    order = BatchOrder(samples, batch, steps, seed=seed, start=start)
    assert list(order) == whole[start:]
    assert len(order) == steps - start
    world = data.draw(st.sampled_from([n for n in (1, 2, 3, 5) if batch % n == 0]))
    shares = [
        list(BatchOrder(samples, batch, steps, seed=seed, rank=rank, world=world))
        for rank in range(world)
    ]
    for step, indices in enumerate(whole):
        assert sorted(i for share in shares for i in share[step]) == sorted(indices)


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 12), world=st.integers(1, 4), shares=st.integers(1, 6))
def test_shares_of_ranks_make_up_the_share_of_one(size: int, world: int, shares: int) -> None:
    whole = (torch.arange(size * shares * world),)
    for index in range(shares):
        ours = split_share(whole, index, shares)[0].tolist()
        theirs = [
            value
            for rank in range(world)
            for value in split_share((whole[0][rank::world],), index, shares)[0].tolist()
        ]
        assert sorted(theirs) == ours


class Squares(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.tensor([float(index)]), torch.tensor(index * index)


def test_loader_of_samples_and_of_tensors_agree_and_leave_the_global_generator_alone() -> None:
    tensors = TensorDataset(torch.arange(10.0)[:, None], torch.arange(10) ** 2)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    batches = [list(make_loader(data, BatchOrder(10, 4, 6))) for data in (Squares(), tensors)]
    assert torch.equal(torch.get_rng_state(), before)
    assert len(batches[0]) == 6
    for (xs, ys), (xt, yt) in zip(*batches, strict=True):
        assert torch.equal(xs, xt) and torch.equal(ys, yt)


def test_data_that_does_not_fit_is_refused() -> None:
    with pytest.raises(TrainError, match="empty"):
        BatchOrder(0, 1, 1)
    with pytest.raises(TrainError, match="divide"):
        BatchOrder(10, 3, 1, world=2)
    with pytest.raises(TrainError, match="does not fit the model"):
        as_batch([torch.zeros(2)], inputs=1)
    with pytest.raises(TrainError, match="one entry a sample"):
        as_batch([torch.zeros(2), torch.zeros(3)], inputs=1)
    with pytest.raises(TrainError, match="one entry a sample"):
        as_batch([torch.zeros(2), "label"], inputs=1)
    with pytest.raises(TrainError, match="smaller than"):
        split_share((torch.zeros(3),), 0, 4)


def test_mix_seed_separates() -> None:
    seeds = {mix_seed(a, b) for a in range(30) for b in range(30)}
    assert len(seeds) == 900 and all(0 <= seed < 2**63 for seed in seeds)
