"""Two processes on the CPU end with the weights of one process that has the whole batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from training.ddp_worker import CASES
from training.small import build_vit, make_data

from nestling.errors import TrainError
from nestling.training import Team, Trainer, join_team


def test_two_processes_equal_one(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    worker = Path(__file__).with_name("ddp_worker.py")
    done = subprocess.run(
        [*command, str(worker), str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for name, config in CASES.items():
        alone = build_vit()
        Trainer(alone, config, F.cross_entropy, make_data(), out_dir=tmp_path / "one" / name).fit()
        together = torch.load(tmp_path / f"{name}.pt", weights_only=True)
        for key, value in alone.state_dict().items():
            # Softmax cancels the bias of the keys: its gradient is rounding noise, which AdamW
            # scales up to whole steps.
            if key.endswith("k.bias"):
                continue
            # Sums run in another order, and AdamW divides by small numbers early on.
            torch.testing.assert_close(
                together[key], value, rtol=2e-3, atol=2e-5, msg=f"{name} {key}"
            )
        logs = [
            [json.loads(line) for line in (folder / name / "train.jsonl").open()]
            for folder in (tmp_path, tmp_path / "one")
        ]
        assert [list(record["losses"]) for record in logs[0]] == [
            list(record["losses"]) for record in logs[1]
        ], "the same subnets in every step"
        losses = [[record["loss"] for record in log] for log in logs]
        assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    # A finished run may be read by any number of processes, an unfinished one only by as many.
    finished = build_vit()
    folder = tmp_path / "sorted"
    Trainer(finished, CASES["sorted"], F.cross_entropy, make_data(), out_dir=folder).fit(
        resume=True
    )
    together = torch.load(tmp_path / "sorted.pt", weights_only=True)
    assert all(torch.equal(value, together[key]) for key, value in finished.state_dict().items())
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    torch.save({**state, "step": 3}, folder / "checkpoint.pt")
    with pytest.raises(TrainError, match="another number of processes"):
        Trainer(build_vit(), CASES["sorted"], F.cross_entropy, make_data(), out_dir=folder).fit(
            resume=True
        )


def test_alone_there_is_nothing_to_join() -> None:
    with join_team("cpu") as team:
        assert team == Team(0, 1, 0) and team.leads
        assert team.gather("x") == ["x"] and team.mean([1.0, 2.0]) == [1.0, 2.0]


def test_world_without_rank_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(TrainError, match="cannot join 2"), join_team("cpu"):
        pass
