"""What a bundle is compared with, kept in a folder beside it: `digits.nest` -> `digits.bench/`.

A bundle holds nothing that it does not need on a device, so the dense programs of its named
subnets, the supernet in torch and an input to run them all on are written apart, when somebody is
going to measure (`nestling export --bench`, the demo, `make bench`):

    sidecar.json         model, scheme, recipe, levels of the named paths, digest of its sources
    supernet.pt          for eager torch, retention and the peers' exports
    inputs/0.bin, ...    the bytes of one example input each
    calibration.npz      arrays `input0`, ...: what static quantisation saw, first axis the sample
    dense/<path>.pte     the same subnet as one plain ExecuTorch program
    peers/               the same subnets as other runtimes take them
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nestling.bench.native import Effort
from nestling.bench.samples import noise_samples
from nestling.bench.subject import Subject
from nestling.errors import NestlingError

if TYPE_CHECKING:
    from torch import Tensor

    from nestling.elastic import Supernet

Progress = Callable[[int, int, str], None]

_SIDECAR = "sidecar.json"


@dataclass(frozen=True)
class Sidecar:
    """The folder's content.

    Attributes:
        folder: Where it is.
        model: Name of the network.
        scheme: Of quantisation.
        recipe: Name of the recipe that trained it; None for random weights.
        paths: Levels of every named path, small to large.
    """

    folder: Path
    model: str
    scheme: str
    recipe: str | None
    paths: dict[str, tuple[int, ...]]

    @property
    def plain(self) -> dict[str, Path]:
        """The dense program of each named path."""
        return {name: self.folder / "dense" / f"{name}.pte" for name in self.paths}

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Raw bytes of each input."""
        files = (self.folder / "inputs").glob("*.bin")
        return tuple(sorted(files, key=lambda file: int(file.stem)))

    @property
    def supernet(self) -> Path:
        """The checkpoint."""
        return self.folder / "supernet.pt"

    @property
    def calibration(self) -> Path:
        """The samples of static quantisation; may be missing."""
        return self.folder / "calibration.npz"

    def subject(
        self, bundle: Path, *, paths: tuple[str, ...], threads: int, effort: Effort
    ) -> Subject:
        """Return the bundle, with these named paths, with everything here beside it."""
        return Subject(
            bundle=bundle,
            model=self.model,
            scheme=self.scheme,
            paths=paths,
            plain={name: file for name, file in self.plain.items() if name in paths},
            inputs=self.inputs,
            supernet=self.supernet,
            recipe=self.recipe,
            threads=threads,
            effort=effort,
        )


def sidecar_folder(bundle: Path) -> Path:
    """Return where the sidecar of a bundle is."""
    return bundle.with_suffix(".bench")


def read_sidecar(bundle: Path) -> Sidecar | None:
    """Return the sidecar of a bundle, or None when it has none.

    Raises:
        NestlingError: The folder is there, but not what `write_sidecar` left.
    """
    folder = sidecar_folder(bundle)
    try:
        fields = json.loads((folder / _SIDECAR).read_text(encoding="utf-8"))
        return Sidecar(
            folder,
            fields["model"],
            fields["scheme"],
            fields["recipe"],
            {name: tuple(levels) for name, levels in fields["paths"].items()},
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NestlingError(
            "the folder beside the bundle is damaged", actual=str(folder), hint="delete it"
        ) from error


def write_sidecar(
    bundle: Path,
    supernet: Supernet,
    *,
    model: str,
    scheme: str,
    calibration: Sequence[tuple[Tensor, ...]] | None = None,
    recipe: str | None = None,
    jobs: int = 2,
    progress: Progress | None = None,
) -> Sidecar:
    """Write the sidecar; files that an earlier call made from the same supernet are kept.

    Args:
        bundle: The `.nest` file that was, or will be, exported from the supernet.
        supernet: In eval mode, on the CPU.
        model: Name of the network.
        scheme: Of quantisation.
        calibration: Real inputs, each a tuple of tensors of batch 1; `int8-static` needs them.
        recipe: Name of the recipe that trained it.
        jobs: Processes that lower dense programs.
        progress: Is told (done, in all, name) after each program.

    Raises:
        ExportError: A subnet cannot be lowered as one dense program.
    """
    from nestling.elastic import save
    from nestling.export import lower_dense

    folder = sidecar_folder(bundle)
    (folder / "dense").mkdir(parents=True, exist_ok=True)
    (folder / "inputs").mkdir(exist_ok=True)
    named = {name: subnet.levels for name, subnet in supernet.space.named.items()}
    sidecar = Sidecar(folder, model, scheme, recipe, named)
    save(supernet, sidecar.supernet)
    first = (calibration or noise_samples(supernet, 1))[0]
    for index, tensor in enumerate(first):
        (folder / "inputs" / f"{index}.bin").write_bytes(tensor.contiguous().numpy().tobytes())
    _write_calibration(sidecar.calibration, calibration)
    digest = _digest(supernet, scheme, calibration)
    if _old_digest(folder) != digest:
        for stale in ("dense", "peers"):
            for file in (folder / stale).glob("*"):
                file.unlink()
    missing = {
        name: subnet
        for name, subnet in supernet.space.named.items()
        if not sidecar.plain[name].exists()
    }
    programs = lower_dense(
        supernet, missing, scheme=scheme, calibration=calibration, jobs=jobs, progress=progress
    )
    for name, program in programs.items():
        sidecar.plain[name].write_bytes(program)
    fields = {
        "model": model,
        "scheme": scheme,
        "recipe": recipe,
        "paths": {name: list(levels) for name, levels in named.items()},
        "digest": digest,
    }
    (folder / _SIDECAR).write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")
    return sidecar


def _digest(
    supernet: Supernet, scheme: str, calibration: Sequence[tuple[Tensor, ...]] | None
) -> str:
    """Return what changes whenever a dense program would."""
    digest = hashlib.sha256(repr((scheme, supernet.space)).encode())
    tensors = list(supernet.state_dict().values())
    tensors += [tensor for sample in calibration or () for tensor in sample]
    for tensor in tensors:
        digest.update(tensor.detach().contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()


def _old_digest(folder: Path) -> str | None:
    try:
        digest = json.loads((folder / _SIDECAR).read_text(encoding="utf-8")).get("digest")
    except (OSError, ValueError):
        return None
    return digest if isinstance(digest, str) else None


def _write_calibration(file: Path, calibration: Sequence[tuple[Tensor, ...]] | None) -> None:
    if not calibration:
        file.unlink(missing_ok=True)
        return
    import numpy as np

    columns = zip(*calibration, strict=True)
    arrays: dict[str, Any] = {
        f"input{index}": np.stack([tensor.numpy() for tensor in column])
        for index, column in enumerate(columns)
    }
    np.savez(file, **arrays)
