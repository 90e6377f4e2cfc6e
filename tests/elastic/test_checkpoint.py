from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from elastic.samples import DIM, FAMILIES, randomise, supernets
from torch import nn

from nestling.elastic import ElasticFeedForward, Supernet, load, save
from nestling.errors import ModelError


def custom(hidden: int = 8) -> Supernet:
    block = ElasticFeedForward(DIM, hidden)
    return Supernet(nn.Identity(), [block], nn.Identity(), inputs={"x": torch.zeros(1, DIM)})


@pytest.mark.parametrize("family", FAMILIES)
def test_a_supernet_comes_back(family: str, tmp_path: Path) -> None:
    supernet, inputs = supernets()[family]
    save(supernet, tmp_path / "net.pt")
    loaded = load(tmp_path / "net.pt")
    assert type(loaded) is type(supernet)
    assert loaded.space == supernet.space
    assert loaded.config == supernet.config
    assert not loaded.training
    for name in ("input_names", "context_names", "output_name", "family"):
        assert getattr(loaded, name) == getattr(supernet, name)
    with torch.no_grad():
        assert torch.equal(loaded(*inputs), supernet(*inputs))
    assert list(tmp_path.iterdir()) == [tmp_path / "net.pt"]


def test_a_tied_embedding_stays_tied(tmp_path: Path) -> None:
    from nestling.elastic import ElasticLlama

    options = {"vocabulary": 9, "dim": 8, "depth": 1, "heads": 4, "hidden": 8, "positions": 3}
    save(randomise(ElasticLlama(tied=True, **options)), tmp_path / "net.pt")  # type: ignore[arg-type]
    loaded = load(tmp_path / "net.pt")
    assert loaded.head.classifier.weight is loaded.stem.embedding.weight


def test_a_custom_supernet_needs_one_to_load_into(tmp_path: Path) -> None:
    supernet = randomise(custom())
    save(supernet, tmp_path / "net.pt")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="into"):
        load(tmp_path / "net.pt")
    other = load(tmp_path / "net.pt", into=custom())
    x = torch.randn(2, DIM)
    assert torch.equal(other(x), supernet(x))
    with pytest.raises(ModelError, match="does not fit"):
        load(tmp_path / "net.pt", into=custom(16))


def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    with pytest.raises(ModelError, match="no such file"):
        load(path)
    for content in (b"", b"hello", b"PK\x03\x04" + bytes(50)):
        path.write_bytes(content)
        with pytest.raises(ModelError, match="not a supernet"):
            load(path)
    torch.save({"weights": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match="not a supernet"):
        load(path)
    torch.save([1], path)
    with pytest.raises(ModelError, match="not a supernet"):
        load(path)


def test_a_cut_checkpoint(tmp_path: Path) -> None:
    supernet, _ = supernets()["vit"]
    path = tmp_path / "net.pt"
    save(supernet, path)
    whole = path.read_bytes()
    for size in range(0, len(whole), len(whole) // 7):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelError, match="not a supernet"):
            load(path)


class Hostile:
    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, ("owned",))


def test_code_in_a_checkpoint_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.pt").write_bytes(pickle.dumps(Hostile(), protocol=2))
    with pytest.raises(ModelError, match="not a supernet"):
        load(tmp_path / "net.pt")
    torch.save({"format": "nestling-supernet", "x": Hostile()}, tmp_path / "net.pt")
    with pytest.raises(ModelError, match="not a supernet"):
        load(tmp_path / "net.pt")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"version": 2}, "another version"),
        ({"config": {"family": "resnet"}}, "unknown family"),
        ({"config": {"family": "vit", "colour": 1}}, "not valid"),
        ({"state": {}}, "does not fit"),
    ],
)
def test_checkpoints_that_say_something_else(
    change: dict[str, object], word: str, tmp_path: Path
) -> None:
    supernet, _ = supernets()["vit"]
    path = tmp_path / "net.pt"
    save(supernet, path)
    torch.save({**torch.load(path), **change}, path)
    with pytest.raises(ModelError, match=word):
        load(path)


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supernet, _ = supernets()["vit"]
    path = tmp_path / "net.pt"
    path.write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="space"):
        save(supernet, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
