"""The same subnets in other runtimes: onnxruntime, LiteRT and plain ExecuTorch.

Every peer gets the dense subnet, quantised to the same bits by the peer's own tools, and as many
threads. Ours and the peers run in one process that has no torch in it (`peers_worker`), in bursts
that take turns; each through its own Python binding, whose cost of some microseconds is in every
sample. Plain ExecuTorch needs no binding: its figure comes from `nestling-bench`, where both sides
are C++.

LiteRT's converter does not fit into our environment, so it has one of its own
(scripts/setup_peers.sh). What cannot be measured is left out with the reason in the record.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nestling.bench import onnx_convert
from nestling.bench.latency import geomean_spread
from nestling.bench.records import Record, missing_record
from nestling.bench.sidecar import Sidecar
from nestling.bench.subject import Subject
from nestling.errors import NestlingError

if TYPE_CHECKING:
    from torch import Tensor, nn

PEER_RATIO = "peer_ratio"
ONNXRUNTIME = "onnxruntime"
LITERT = "litert"
EXECUTORCH = "executorch"

_REPO = Path(__file__).parents[3]
_LITERT_SCHEMES = ("fp32", "int8-static", "int8-dynamic")


@dataclass
class Converted:
    """What the peers will run.

    Attributes:
        models: Peer -> path name -> the file.
        missing: Peer -> why it has none.
    """

    models: dict[str, dict[str, Path]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def measure_peers(
    subject: Subject, sidecar: Sidecar | None, latency: Sequence[Record]
) -> list[Record]:
    """Measure `peer_ratio` of every peer: its time over ours, on the smallest and the full path.

    The record's `model` is the peer; `where` names the network and the ratio of each path.

    Args:
        subject: What is measured.
        sidecar: Where the supernet is and converted models are kept; None skips those that need it.
        latency: What `measure_latency` gave, for plain ExecuTorch.
    """
    records = [_executorch_record(subject, latency)]
    if sidecar is None or subject.supernet is None:
        reason = "no supernet beside the bundle"
        return records + [_missing(subject, peer, reason) for peer in (ONNXRUNTIME, LITERT)]
    paths = tuple(dict.fromkeys((subject.paths[0], subject.full)))
    converted = convert_models(subject, sidecar, paths)
    samples = run_worker(subject, converted)
    converted.missing.update(samples["missing"])
    for peer in (ONNXRUNTIME, LITERT):
        if peer in converted.missing:
            records.append(_missing(subject, peer, converted.missing[peer]))
        else:
            version = samples["versions"].get(peer, "")
            records.append(_peer_record(subject, peer, version, samples["paths"]))
    return records


def _missing(subject: Subject, peer: str, reason: str) -> Record:
    return missing_record(PEER_RATIO, "1", peer, f"{reason} ({subject.label})")


def _executorch_record(subject: Subject, latency: Sequence[Record]) -> Record:
    """Turn the steady runs of `measure_latency` round: theirs over ours."""
    ratios = {
        record.metric.removeprefix("run_us_"): 1.0 / record.ratio
        for record in latency
        if record.metric.startswith("run_us_") and record.ratio
    }
    if not ratios:
        return _missing(subject, EXECUTORCH, "no plain programs beside the bundle")
    value = statistics.geometric_mean(ratios.values())
    return Record(
        PEER_RATIO,
        value,
        "1",
        None,
        value,
        None,
        EXECUTORCH,
        f"{subject.label}, all paths: {_each(ratios)}; C++; {subject.where}",
    )


def _peer_record(subject: Subject, peer: str, version: str, paths: dict[str, Any]) -> Record:
    medians = {
        path: {who: [statistics.median(burst) for burst in bursts] for who, bursts in sides.items()}
        for path, sides in paths.items()
    }
    ratios = {
        path: [t / o for t, o in zip(sides[peer], sides["nestling"], strict=True)]
        for path, sides in medians.items()
    }
    value = statistics.geometric_mean([statistics.median(values) for values in ratios.values()])
    ours = statistics.geometric_mean(
        [statistics.median(sides["nestling"]) / 1e3 for sides in medians.values()]
    )
    each = _each({path: statistics.median(values) for path, values in ratios.items()})
    return Record(
        PEER_RATIO,
        value,
        "1",
        ours,
        value,
        geomean_spread(list(ratios.values())),
        peer,
        f"{subject.label}, {each}; {peer} {version}; Python bindings; {subject.where}; "
        "baseline: us, ours",
    )


def _each(ratios: dict[str, float]) -> str:
    return ", ".join(f"{path} {ratio:.3f}" for path, ratio in ratios.items())


def convert_models(subject: Subject, sidecar: Sidecar, paths: Sequence[str]) -> Converted:
    """Convert the dense subnets for each peer; what was converted before is kept."""
    folder = sidecar.folder / "peers"
    folder.mkdir(exist_ok=True)
    converted = Converted()
    wanted = {
        ONNXRUNTIME: {path: folder / f"{path}.onnx" for path in paths},
        LITERT: {path: folder / f"{path}.tflite" for path in paths},
    }
    convert: dict[str, Callable[[Path, Path], None]] = {
        ONNXRUNTIME: lambda program, target: _to_onnx(program, target, sidecar),
        LITERT: lambda program, target: _to_litert(program, target, sidecar),
    }
    for peer, files in wanted.items():
        try:
            _check_available(peer, subject.scheme)
            for path, file in files.items():
                if not file.exists():
                    convert[peer](_exported_program(sidecar, path), file)
            converted.models[peer] = files
        except NestlingError as error:
            converted.missing[peer] = str(error)
    return converted


def _check_available(peer: str, scheme: str) -> None:
    """Raise when a peer is not installed or has nothing of these bits."""
    import importlib.util

    schemes = onnx_convert.SCHEMES if peer == ONNXRUNTIME else _LITERT_SCHEMES
    if scheme not in schemes:
        raise NestlingError(f"{peer} has nothing to compare {scheme} with")
    if peer == ONNXRUNTIME and importlib.util.find_spec("onnxruntime") is None:
        raise NestlingError("onnxruntime is not installed")
    if peer == LITERT and litert_python() is None:
        raise NestlingError("no LiteRT environment", hint="run scripts/setup_peers.sh")


def litert_python() -> Path | None:
    """Return the Python of the environment that scripts/setup_peers.sh made, or None."""
    folder = Path(os.environ.get("NESTLING_LITERT_ENV", _REPO / "build" / "peers" / "litert"))
    python = folder / "bin" / "python"
    return python if python.exists() and (folder / "complete").exists() else None


def _exported_program(sidecar: Sidecar, path: str) -> Path:
    """Return the file of the dense subnet as torch exports it."""
    file = sidecar.folder / "peers" / f"{path}.pt2"
    if not file.exists():
        import torch

        module, inputs = _dense(sidecar, path)
        with torch.no_grad():
            torch.export.save(torch.export.export(module, inputs), file)
    return file


def _dense(sidecar: Sidecar, path: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    from nestling.elastic import Subnet, load

    supernet = load(sidecar.supernet).eval()
    return supernet.dense(Subnet(sidecar.paths[path])), supernet.example_inputs()


def _to_onnx(program: Path, target: Path, sidecar: Sidecar) -> None:
    module, inputs = _dense(sidecar, program.stem)
    onnx_convert.convert(module, inputs, target, sidecar.scheme, sidecar.calibration)


def _to_litert(program: Path, target: Path, sidecar: Sidecar) -> None:
    part = target.with_suffix(".part.tflite")
    words = [str(Path(__file__).with_name("litert_convert.py")), str(program), str(part)]
    words.append(sidecar.scheme)
    if sidecar.calibration.exists():
        words.append(str(sidecar.calibration))
    done = subprocess.run([str(litert_python()), *words], capture_output=True, text=True)
    if done.returncode != 0:
        raise NestlingError("the conversion to LiteRT failed", actual=_last_line(done.stderr))
    part.replace(target)


def run_worker(subject: Subject, converted: Converted) -> dict[str, Any]:
    """Run `peers_worker` in a fresh process and return what it printed."""
    job = {
        "bundle": str(subject.bundle.resolve()),
        "threads": subject.threads,
        "seconds": subject.effort.seconds,
        "rounds": subject.effort.rounds,
        "inputs": [str(file.resolve()) for file in subject.inputs],
        "paths": {
            path: {peer: str(files[path].resolve()) for peer, files in converted.models.items()}
            for path in dict.fromkeys(p for files in converted.models.values() for p in files)
        },
    }
    if not job["paths"]:
        return {"paths": {}, "versions": {}, "missing": {}}
    environment = dict(os.environ, OMP_NUM_THREADS=str(subject.threads))
    packages = _REPO / "runtime_py"
    if packages.is_dir():
        environment["PYTHONPATH"] = str(packages)
    python = litert_python() if LITERT in converted.models else None
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(job, file)
        file.flush()
        worker = str(Path(__file__).with_name("peers_worker.py"))
        done = subprocess.run(
            [str(python or sys.executable), worker, file.name],
            capture_output=True,
            text=True,
            env=environment,
        )
    if done.returncode != 0:
        reason = f"the measuring process failed: {_last_line(done.stderr)}"
        return {"paths": {}, "versions": {}, "missing": dict.fromkeys(converted.models, reason)}
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][:200] if lines else "no message"
