"""`nestling run`: run a path of a bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nestling.cli.device_options import device_option, flash_option, open_named

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nestling_runtime import Model, Session
    from nestling_runtime.bundle import Slot

_SHOWN_VALUES = 10


@click.command("run")
@click.argument("bundle", type=click.Path(path_type=Path), required=False)
@device_option(required=False)
@flash_option
@click.option("--path", "path_name", help="Named path; default: the largest.")
@click.option("--stages", "stage_names", metavar="A,B,...", help="A list of stages instead.")
@click.option("--chain", is_flag=True, help="Run a named path stage by stage, not fused.")
@click.option(
    "--place",
    metavar="auto|TARGET",
    help="Run a named path's stages on this target of the bundle, or (auto) each where it was "
    "measured to be cheapest. Default: as the bundle has them.",
)
@click.option(
    "--input",
    "input_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="An .npy file, or an .npz file with one array an input, by name.",
)
@click.option("--digits", type=click.IntRange(min=1), help="Run N held-out digits; counts hits.")
@click.option("--repeat", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--threads", type=click.IntRange(min=0), default=0, help="0: all processors.")
@click.option("--budget", type=click.IntRange(min=0), default=0, help="Memory limit, bytes.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    bundle: Path | None,
    device_name: str | None,
    flash_folder: Path | None,
    path_name: str | None,
    stage_names: str | None,
    chain: bool,
    place: str | None,
    input_file: Path | None,
    digits: int | None,
    repeat: int,
    threads: int,
    budget: int,
    as_json: bool,
) -> None:
    """Run a path of BUNDLE on an input, on scanned digits, or on zeros, and show what comes out.

    With --device it runs there: BUNDLE is pushed first, or left out to run what is on the device.
    """
    if path_name is not None and stage_names is not None:
        raise click.UsageError("--path and --stages exclude each other")
    if input_file is not None and digits is not None:
        raise click.UsageError("--input and --digits exclude each other")
    if place is not None and (stage_names is not None or chain):
        raise click.UsageError("--place chooses the stages itself: no --stages, no --chain")
    if device_name is not None:
        if chain or threads or place:
            raise click.UsageError("--chain, --place and --threads are not for devices")
        with open_named(device_name, flash_folder) as device:
            from nestling.cli import run_on_device

            if bundle is not None:
                device.push(bundle, confirm=True)
            stages = None if stage_names is None else _stage_numbers(bundle, stage_names)
            result = run_on_device.run_on_device(
                device,
                path_name=path_name,
                stage_numbers=stages,
                inputs={} if digits else run_on_device.read_arrays(device, input_file),
                digits=digits,
                repeat=repeat,
                budget_bytes=budget,
            )
        text = json.dumps(result, indent=1) if as_json else run_on_device.as_text(result)
        click.echo(text)
        return
    if bundle is None:
        raise click.UsageError("name a BUNDLE, or a --device that has one")
    import nestling_runtime
    from nestling.targets.registry import prepare_process
    from nestling_runtime.bundle import Bundle

    with Bundle.open(bundle) as described:
        prepare_process(described.targets)
    with (
        nestling_runtime.open(bundle, threads=threads, budget_bytes=budget) as model,
        model.session() as session,
    ):
        inputs = {} if digits is not None else _read_inputs(model, input_file)
        name = path_name or model.path_names[-1]
        placement: dict[str, Any] = {}
        if stage_names is not None:
            session.select_stages([name.strip() for name in stage_names.split(",")])
        elif place is not None:
            placement = _place(model, session, name, place, inputs)
        else:
            session.select(name, mode="chain" if chain else "default")
        result = _describe_selection(model, session) | placement
        if digits is not None:
            result |= _run_digits(session, digits)
        else:
            result |= _run_once(session, inputs, repeat)
        result["resident_bytes"] = model.memory().resident_bytes
    click.echo(json.dumps(result, indent=1) if as_json else _as_text(result))


def _stage_numbers(bundle: Path | None, text: str) -> list[int]:
    """Return the numbers of stages; names need the bundle at hand, numbers do not."""
    from nestling.errors import PathError
    from nestling_runtime.bundle import Bundle

    names = [name.strip() for name in text.split(",")]
    if bundle is None:
        if not all(name.isdecimal() for name in names):
            raise PathError("a device knows stages by number", hint="or name the BUNDLE as well")
        return [int(name) for name in names]
    with Bundle.open(bundle) as opened:
        return [opened.stage_index(int(name) if name.isdecimal() else name) for name in names]


def _describe_selection(model: Model, session: Session) -> dict[str, Any]:
    name, mode, stages = session.selection()
    targets = [model.bundle.stage_target(stage) for stage in session.stages]
    return {
        "path": name,
        "mode": mode,
        "stages": stages,
        "scheme": model.bundle.scheme,
        "bundle_targets": list(model.bundle.targets),
        "targets": {target: targets.count(target) for target in dict.fromkeys(targets)},
        "fallbacks": [
            {"stage": f.stage, "replacement": f.replacement, "reason": f.reason}
            for f in model.fallbacks()
        ],
    }


def _place(
    model: Model, session: Session, path: str, place: str, inputs: dict[str, Any]
) -> dict[str, Any]:
    """Select a named path with its stages on a target, or each where it is cheapest."""
    from nestling.errors import TargetError

    bundle = model.bundle
    if place == "auto":
        placed = model.place(path, inputs=inputs)
        session.select_stages(placed.stages)
        return {
            "path": placed.path,
            "placement": dict(zip(placed.stages, placed.targets, strict=True)),
            "predicted_us": round(placed.predicted_us, 3),
            "single_us": {name: round(us, 3) for name, us in placed.single_us.items()},
            "switch_us": round(placed.switch_us, 3),
        }
    if place not in bundle.targets:
        raise TargetError(
            "the bundle has no such target", expected=" or ".join(bundle.targets), actual=place
        )
    stages = []
    for stage in bundle.paths[bundle.path_index(path)].chain:
        other = bundle.stand_in(stage, place)
        if other is None:
            raise TargetError(
                f"the bundle has no stage for {place} in this place",
                stage=bundle.stages[stage].name,
                hint="--place auto takes the targets that there are",
            )
        stages.append(other)
    session.select_stages(stages)
    return {"path": path}


def _read_inputs(model: Model, file: Path | None) -> dict[str, Any]:
    """Return the arrays by name; without a file, none: inputs are zeros then."""
    if file is None:
        return {}
    slots = {slot.name: slot for slot in model.bundle.slots if slot.role == "input"}
    return load_arrays(file, slots)


def load_arrays(file: Path, slots: Mapping[str, Slot]) -> dict[str, Any]:
    """Return the arrays of an .npy or .npz file by slot name.

    Args:
        file: The file.
        slots: The inputs of the model, by name.

    Raises:
        EngineError: The file cannot be read, or does not say which array is for which input.
    """
    import numpy as np

    from nestling.errors import EngineError

    try:
        loaded = np.load(file)
    except (OSError, ValueError, EOFError) as error:
        raise EngineError("the input file cannot be read", actual=str(file)) from error
    if not isinstance(loaded, np.ndarray):
        return dict(loaded.items())
    (name, *others) = slots
    if others:
        raise EngineError(
            "the model has several inputs", hint=f"give an .npz file with {', '.join(slots)}"
        )
    # One sample without its batch axis is what people have.
    return {name: loaded[None] if (1, *loaded.shape) == slots[name].shape else loaded}


def _run_once(session: Session, inputs: dict[str, Any], repeat: int) -> dict[str, Any]:
    outputs = session.run(**inputs)
    times = [session.last_run_ns / 1e3]
    for _ in range(repeat - 1):
        session.run_bound()
        times.append(session.last_run_ns / 1e3)
    return {
        "outputs": {name: array.tolist() for name, array in outputs.items()},
        **_describe_times(times),
    }


def _run_digits(session: Session, count: int) -> dict[str, Any]:
    """Run held-out scans of the demo's data."""
    from nestling.errors import EngineError
    from nestling.recipes.digits import load_digits_split

    _, _, images, labels = load_digits_split()
    if len(session.input_names) != 1:
        raise EngineError("the bundle is not one of the digits models")
    count = min(count, len(labels))
    guesses, times = [], []
    for image in images[:count].numpy():
        outputs = session.run(**{session.input_names[0]: image[None]})
        guesses.append(int(next(iter(outputs.values())).argmax()))
        times.append(session.last_run_ns / 1e3)
    truths = labels[:count].tolist()
    hits = sum(guess == truth for guess, truth in zip(guesses, truths, strict=True))
    return {
        "digits": count,
        "guesses": guesses,
        "truths": truths,
        "accuracy": hits / count,
        **_describe_times(times),
    }


def _describe_times(times: list[float]) -> dict[str, Any]:
    import statistics

    return {
        "runs": len(times),
        "median_us": round(statistics.median(times), 3),
        "min_us": round(min(times), 3),
    }


def _as_text(result: dict[str, Any]) -> str:
    how = result["path"] or f"{result['stages']} stages of your own"
    where = f", on {', '.join(result['targets'])}" if len(result["bundle_targets"]) > 1 else ""
    lines = [f"{how} ({result['mode']}, {result['scheme']}{where})"]
    if "placement" in result:
        alone = ", ".join(f"{name} alone {us} us" for name, us in result["single_us"].items())
        lines.append(
            f"placed: {result['predicted_us']} us expected; {alone}; "
            f"a change of the target {result['switch_us']} us"
        )
        lines += [f"  {stage}: {target}" for stage, target in result["placement"].items()]
    for name, values in result.get("outputs", {}).items():
        lines.append(f"{name}: {shorten(values)}")
    if "digits" in result:
        lines.append(f"accuracy on {result['digits']} held-out digits: {result['accuracy']:.4f}")
    lines.append(
        f"{result['runs']} runs, median {result['median_us']} us, best {result['min_us']} us; "
        f"{result['resident_bytes']:,} bytes resident"
    )
    return "\n".join(lines)


def shorten(values: Any) -> str:
    """Return an array's shape and its first values."""
    import numpy as np

    array = np.asarray(values)
    shown = " ".join(f"{value:.4g}" for value in array.reshape(-1)[:_SHOWN_VALUES])
    more = " ..." if array.size > _SHOWN_VALUES else ""
    return f"shape {array.shape}: {shown}{more}"
