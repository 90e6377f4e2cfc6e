"""A folder of ONNX models that share one file of weights.

::

    paths.json      what there is: paths, stages, inputs, outputs, figures
    tiny.onnx       a path in one piece, one file each
    full.onnx
    stem.onnx       with stages: one file for every stage, to be chained as one likes
    weights.bin     the weights of all models, each tensor once by its bytes

A folder and not a bundle: nestling's runtime runs ExecuTorch programs, and everything that runs
ONNX wants a file to open, with external data beside it in the same folder. A bundle of ONNX models
would be a file that nothing opens. What makes a bundle small carries over: the blocks of a supernet
are tensors of their own, so wider models refer to the same bytes as narrower ones, and processes
that map the file share its pages.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nestling.bundle.atomic import replacing
from nestling.errors import ExportError
from nestling.targets.lowered import LoweredProgram
from nestling.targets.onnx.convert import WEIGHTS_NAME, place_weights

if TYPE_CHECKING:
    from torch import Tensor

    from nestling.elastic import Subnet, Supernet
    from nestling.targets.pool import Progress

INDEX_NAME = "paths.json"
FORMAT = "nestling-onnx"
VERSION = 1
ALIGNMENT = 64
"""Of a weight in the file, in bytes: a cache line. Whoever maps the file aligns to pages."""


@dataclass(frozen=True)
class FolderSize:
    """Bytes of a folder of models.

    Attributes:
        models: file of each model -> bytes of its graph.
        weights: bytes of the weights' file.
        unshared: file of each model -> bytes of the weights it refers to.
    """

    models: dict[str, int]
    weights: int
    unshared: dict[str, int]

    @property
    def total(self) -> int:
        """Bytes of all models and their weights."""
        return sum(self.models.values()) + self.weights

    def alone(self, file: str) -> int:
        """Bytes that one model would take with weights of its own."""
        return self.models[file] + self.unshared[file]


@dataclass(frozen=True)
class OnnxReport:
    """What an export made.

    Attributes:
        path: the folder.
        scheme: the quantisation scheme.
        paths: names of the paths, small to large.
        stages: number of stages with models of their own.
        size: bytes of everything.
    """

    path: Path
    scheme: str
    paths: tuple[str, ...]
    stages: int
    size: FolderSize

    @property
    def ratio(self) -> float:
        """Bytes of the folder against those of its largest path alone."""
        return self.size.total / self.size.alone(f"{self.paths[-1]}.onnx")


def write_models(folder: Path, programs: Mapping[str, LoweredProgram]) -> FolderSize:
    """Write models and the weights they share.

    Args:
        folder: made if it is not there.
        programs: name of each file -> what :func:`nestling.targets.onnx.convert.lower` gave.
    """
    folder.mkdir(parents=True, exist_ok=True)
    offsets: dict[bytes, int] = {}
    blob = bytearray()

    def place(data: bytes) -> int:
        digest = hashlib.sha256(data).digest()
        if digest not in offsets:
            blob.extend(bytes(-len(blob) % ALIGNMENT))
            offsets[digest] = len(blob)
            blob.extend(data)
        return offsets[digest]

    models, unshared = {}, {}
    for file, program in programs.items():
        sizes = {hashlib.sha256(c.data).digest(): len(c.data) for c in program.constants.values()}
        unshared[file] = sum(sizes.values())
        models[file] = place_weights(program, place)
    for file, content in {WEIGHTS_NAME: bytes(blob), **models}.items():
        _write(folder / file, content)
    return FolderSize({file: len(model) for file, model in models.items()}, len(blob), unshared)


def export_onnx(
    supernet: Supernet,
    folder: Path,
    *,
    scheme: str = "fp32",
    calibration: Sequence[tuple[Tensor, ...]] | None = None,
    paths: Mapping[str, Subnet] | None = None,
    stages: bool = False,
    jobs: int = 2,
    cache_dir: Path | None = None,
    quality: Mapping[str, Mapping[str, float]] | None = None,
    progress: Progress | None = None,
    name: str | None = None,
) -> OnnxReport:
    """Export the named paths of a supernet as ONNX models that share one file of weights.

    Args:
        supernet: trained; left unchanged.
        folder: made if it is not there; models of an earlier export into it are replaced.
        scheme: `fp32` or `int8-static`.
        calibration: real inputs, each a tuple of tensors `[batch, ...]`, for `int8-static`.
        paths: named paths, small to large; default `supernet.space.named`.
        stages: also write a model for every stage, so that any mix can be chained.
        jobs: processes that lower at once.
        cache_dir: of lowered models; default :func:`nestling.targets.cache.default_cache_dir`.
        quality: figures of each path, kept in `paths.json`.
        progress: told about each finished step.
        name: of the model in `paths.json`; default the folder's name.

    Raises:
        ModelError: the model cannot be cut as asked; names the module.
        PathError: a path does not exist in the supernet.
        ExportError: no such scheme, missing calibration, a model that cannot be lowered, or a
            folder that holds something else.
        TargetError: onnxscript is not installed.
    """
    from nestling.partition.cut import cut
    from nestling.quantize.schemes import get_scheme
    from nestling.targets.onnx.stages import OnnxTarget
    from nestling.targets.registry import get_target
    from nestling.targets.target import Work

    chosen = get_scheme(scheme)
    compiler = get_target("onnx")
    assert isinstance(compiler, OnnxTarget)
    compiler.check(chosen)
    if chosen.needs_calibration and not calibration:
        raise ExportError(
            f"scheme {scheme} needs calibration data", hint="pass real inputs as calibration"
        )
    old = _files_of_earlier_export(folder)
    pieces = cut(supernet, chosen)
    subnets = dict(paths or supernet.space.named)
    chains = {}
    for path, subnet in subnets.items():
        supernet.space.check(subnet)
        chains[path] = pieces.chain(subnet, chosen.full_bits)
    work = Work(
        supernet=supernet,
        pieces=pieces,
        scheme=chosen,
        calibration=calibration or (),
        chains=chains,
        fused=True,
        jobs=jobs,
        cache_dir=cache_dir,
        progress=progress,
    )
    programs = compiler.lower(work).programs if stages else compiler.lower_paths(work)
    models = {f"{path}.onnx": programs[path] for path in chains}
    if stages:
        models |= {f"{stage.name}.onnx": programs[key] for key, stage in pieces.stages.items()}
    size = write_models(folder, models)
    for file in old - {WEIGHTS_NAME, INDEX_NAME, *models}:
        (folder / file).unlink(missing_ok=True)
    index = {
        "format": FORMAT,
        "version": VERSION,
        "name": name or folder.resolve().name,
        "scheme": scheme,
        "family": supernet.family,
        "weights": WEIGHTS_NAME,
        "inputs": [
            _describe(input_name, value)
            for input_name, value in zip(
                supernet.input_names, supernet.example_inputs(), strict=True
            )
        ],
        "output": _describe(supernet.output_name, pieces.output),
        "paths": [
            {
                "name": path,
                "file": f"{path}.onnx",
                "stages": [pieces.stages[key].name for key in chains[path]],
                "parameters": supernet.count_parameters(subnet),
                "macs": supernet.macs(subnet),
                "quality": dict((quality or {}).get(path, {})),
            }
            for path, subnet in subnets.items()
        ],
        "stages": [stage.name for stage in pieces.stages.values()] if stages else [],
    }
    _write(folder / INDEX_NAME, (json.dumps(index, indent=1) + "\n").encode())
    return OnnxReport(folder, scheme, tuple(chains), len(pieces.stages) if stages else 0, size)


def _describe(name: str, value: Tensor) -> dict[str, object]:
    from nestling.targets.dtypes import TORCH_DTYPES

    return {"name": name, "dtype": TORCH_DTYPES[value.dtype], "shape": list(value.shape)}


def _files_of_earlier_export(folder: Path) -> set[str]:
    """Return the files that are ours; refuse a folder that holds something else."""
    if folder.exists() and not folder.is_dir():
        raise ExportError("ONNX models go into a folder", actual=str(folder))
    if not folder.exists() or not any(folder.iterdir()):
        return set()
    try:
        index = json.loads((folder / INDEX_NAME).read_text(encoding="utf-8"))
        files = {path["file"] for path in index["paths"]}
        files |= {f"{stage}.onnx" for stage in index["stages"]}
        if index["format"] == FORMAT and all(Path(file).name == file for file in files):
            return files
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise ExportError(
        "the folder holds something else than an earlier export",
        actual=str(folder),
        hint="name a new folder",
    )


def _write(file: Path, content: bytes) -> None:
    with replacing(file) as stream:
        stream.write(content)
