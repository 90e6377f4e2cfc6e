"""All measurements of one bundle, and of all the networks of `make bench`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from nestling.bench.bytes import measure_bytes
from nestling.bench.latency import measure_latency
from nestling.bench.memory import measure_memory
from nestling.bench.models import BENCH_MODELS, BenchModel
from nestling.bench.native import Effort
from nestling.bench.parity import measure_parity
from nestling.bench.peers import measure_peers
from nestling.bench.records import Record
from nestling.bench.retention import measure_retention
from nestling.bench.sidecar import Sidecar, read_sidecar
from nestling.bench.subject import Subject
from nestling.errors import NestlingError

Say = Callable[[str], None]
Advance = Callable[[int, int, str], None]
Bar = Callable[[str], AbstractContextManager[Advance]]
"""Shows progress while it is open: nothing of the kind may run beside a measurement."""


@contextlib.contextmanager
def no_bar(title: str) -> Iterator[Advance]:
    """Show nothing."""
    yield lambda done, total, name: None


def make_subject(bundle: Path, *, threads: int, effort: Effort) -> tuple[Subject, Sidecar | None]:
    """Return the bundle as a subject, and the sidecar that it has or not.

    Raises:
        BundleError: The bundle cannot be opened.
    """
    from nestling_runtime.bundle import Bundle

    sidecar = read_sidecar(bundle)
    with Bundle.open(bundle) as opened:
        names = tuple(path.name for path in opened.paths)
        if sidecar is None:
            return (
                Subject(bundle, opened.name, opened.scheme, names, threads=threads, effort=effort),
                None,
            )
    return sidecar.subject(bundle, paths=names, threads=threads, effort=effort), sidecar


def measure_bundle(
    bundle: Path,
    *,
    threads: int = 1,
    effort: Effort | None = None,
    separate: bool = False,
    peers: bool = True,
    say: Say = lambda text: None,
) -> list[Record]:
    """Take every figure of a bundle.

    A figure that needs a sidecar which the bundle does not have gives a record that says so.

    Args:
        bundle: The `.nest` file.
        threads: On every side of every comparison.
        effort: How long to measure; default `Effort()`.
        separate: Also train the named subnets alone, for `retention_separate`; takes minutes.
        peers: Also measure other runtimes.
        say: Is told what is measured next.

    Raises:
        NestlingError: The bundle cannot be opened, or the native programs were not built.
    """
    subject, sidecar = make_subject(bundle, threads=threads, effort=effort or Effort())
    say(f"{subject.label}: bytes")
    records = measure_bytes(subject)
    say(f"{subject.label}: memory")
    records += measure_memory(subject)
    say(f"{subject.label}: latency")
    latency = measure_latency(subject)
    records += latency
    say(f"{subject.label}: parity")
    records += measure_parity(subject)
    say(f"{subject.label}: retention")
    records += measure_retention(subject, separate=separate)
    if peers:
        say(f"{subject.label}: peers")
        records += measure_peers(subject, sidecar, latency)
    return records


def measure_all(
    folder: Path,
    *,
    threads: int = 1,
    effort: Effort | None = None,
    only: Iterable[str] = (),
    jobs: int = 2,
    say: Say = lambda text: None,
    bar: Bar = no_bar,
) -> Iterator[list[Record]]:
    """Build, export and measure every network of `make bench`, yielding the records of each bundle.

    Bundles, sidecars and trained supernets are kept in `folder`, so that measuring again does not
    export again.

    Args:
        folder: For what is built on the way.
        threads: On every side of every comparison.
        effort: How long to measure.
        only: Names of networks; empty: all.
        jobs: Processes that lower.
        say: Is told what is measured next.
        bar: Shows the progress of exports.

    Raises:
        NestlingError: `only` names a network that does not exist, or see `measure_bundle`.
    """
    chosen = {model.name: model for model in BENCH_MODELS}
    for name in only:
        if name not in chosen:
            raise NestlingError("no such network", expected=" or ".join(chosen), actual=name)
    for name in tuple(only) or tuple(chosen):
        model = chosen[name]
        for scheme in model.schemes:
            with bar(f"{name} {scheme}: export") as advance:
                bundle = build_bundle(model, scheme, folder, jobs=jobs, advance=advance)
            # Training does not depend on the scheme: once a network is enough.
            separate = model.recipe is not None and scheme == model.schemes[0]
            measured = measure_bundle(
                bundle, threads=threads, effort=effort, separate=separate, say=say
            )
            if scheme != model.schemes[0]:
                measured = [r for r in measured if not r.metric.startswith("retention_")]
            yield measured


def build_bundle(
    model: BenchModel,
    scheme: str,
    folder: Path,
    *,
    jobs: int = 2,
    advance: Advance | None = None,
) -> Path:
    """Export a network of `make bench` with its sidecar, training it first if it is a recipe's."""
    from nestling.bench.samples import noise_samples, recipe_samples
    from nestling.bench.sidecar import write_sidecar
    from nestling.elastic import Supernet, load
    from nestling.export import export_bundle

    supernet: Supernet
    if model.recipe is not None:
        from nestling.recipes import find_recipe
        from nestling.training import run_recipe

        trained = folder / model.name / "supernet.pt"
        if not trained.exists():
            run_recipe(model.recipe, out_dir=trained.parent)
        supernet = load(trained)
        samples = recipe_samples(find_recipe(model.recipe).data())
    else:
        assert model.build is not None
        supernet = model.build()
        samples = noise_samples(supernet)
    bundle = folder / f"{model.name}-{scheme}.nest"
    bundle.parent.mkdir(parents=True, exist_ok=True)
    # Lowered stages are cached by content, so exporting the same network again is quick.
    export_bundle(
        supernet,
        bundle,
        scheme=scheme,
        calibration=samples,
        jobs=jobs,
        progress=advance,
        name=model.name,
    )
    write_sidecar(
        bundle,
        supernet,
        model=model.name,
        scheme=scheme,
        calibration=samples,
        recipe=model.recipe,
        jobs=jobs,
        progress=advance,
    )
    return bundle
