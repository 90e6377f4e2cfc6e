"""What each process of the DDP test runs: `torchrun ddp_worker.py FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[1]))

from training.small import CONFIG, build_vit, make_data

from nestling.training import TrainConfig, Trainer, join_team

CASES: dict[str, TrainConfig] = {
    "sorted": CONFIG.replace(strategy="sorted", strategy_options={"subnets_per_step": 3}),
    "sandwich": CONFIG.replace(strategy="sandwich", strategy_options={"subnets_per_step": 3}),
    "progressive": CONFIG.replace(strategy="progressive"),
}


def main(folder: Path) -> None:
    """Train every case, one of them in two goes; leave the first process's weights."""
    with join_team("cpu") as team:
        assert (team.world, dist.get_backend()) == (2, "gloo")
        for name, config in CASES.items():
            supernet = build_vit()
            # Different random states: what ranks must agree on does not come from there.
            torch.manual_seed(team.rank)
            trainer = Trainer(supernet, config, F.cross_entropy, make_data(), out_dir=folder / name)
            if name == "sandwich":
                trainer.fit(stop_at=3)
                supernet = build_vit()
                trainer = Trainer(
                    supernet, config, F.cross_entropy, make_data(), out_dir=folder / name
                )
            assert trainer.fit(resume=True).finished
            state = supernet.state_dict()
            for key, tensors in {key: team.gather(value) for key, value in state.items()}.items():
                assert torch.equal(tensors[0], tensors[1]), f"ranks differ in {key}"
            if team.leads:
                torch.save(state, folder / f"{name}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
