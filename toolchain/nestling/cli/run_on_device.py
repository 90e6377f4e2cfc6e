"""What `nestling run --device` does: the same as on this computer, over the device's protocol."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nestling_devices import Device
    from nestling_runtime.bundle import Slot


def run_on_device(
    device: Device,
    *,
    path_name: str | None,
    stage_numbers: list[int] | None,
    inputs: dict[str, Any],
    digits: int | None,
    repeat: int,
    budget_bytes: int,
) -> dict[str, Any]:
    """Run what is asked for, and return what `nestling run` shows.

    Raises:
        NestlingError: The device refuses, or does not answer.
    """
    info = device.info()
    device.set_budget(budget_bytes)
    paths = device.paths()
    chosen: str | list[int] = stage_numbers or path_name or paths[-1].name
    selection = device.select(chosen)
    result: dict[str, Any] = {
        "device": info.device,
        "bundle": info.bundle,
        "path": None if selection.path is None else paths[selection.path].name,
        "mode": "chain",
        "stages": selection.stages,
        "scheme": info.target,
        "switch_cost": selection.cost,
        "clock": info.clock,
    }
    result |= _run_digits(device, digits) if digits else _run_once(device, inputs, repeat)
    return result | {"resident_bytes": device.residency().resident}


def _run_once(device: Device, inputs: dict[str, Any], repeat: int) -> dict[str, Any]:
    outputs, durations = {}, []
    for _ in range(repeat):
        outputs = device.run(**inputs)
        durations.append(_last_duration(device))
    return {
        "outputs": {name: array.tolist() for name, array in outputs.items()},
        **_describe_durations(durations),
    }


def _run_digits(device: Device, count: int) -> dict[str, Any]:
    """Run held-out scans of the demo's data."""
    from nestling.recipes.digits import load_digits_split

    _, _, images, labels = load_digits_split()
    slot = only_input(device)
    count = min(count, len(labels))
    guesses, durations = [], []
    for image in images[:count].numpy():
        outputs = device.run(**{slot.name: image.reshape(slot.shape)})
        guesses.append(int(next(iter(outputs.values())).argmax()))
        durations.append(_last_duration(device))
    truths = [int(label) for label in labels[:count]]
    hits = sum(guess == truth for guess, truth in zip(guesses, truths, strict=True))
    return {
        "digits": count,
        "guesses": guesses,
        "truths": truths,
        "accuracy": hits / count,
        **_describe_durations(durations),
    }


def only_input(device: Device) -> Slot:
    """Return the input of a model that has one.

    Raises:
        EngineError: It has several.
    """
    from nestling.errors import EngineError

    inputs = [slot for slot in device.tensors() if slot.role == "input"]
    if len(inputs) != 1:
        raise EngineError("the bundle on the device is not one of the digits models")
    return inputs[0]


def _last_duration(device: Device) -> int:
    return device.last_run.duration if device.last_run is not None else 0


def _describe_durations(durations: list[int]) -> dict[str, Any]:
    import statistics

    return {
        "runs": len(durations),
        "median_duration": statistics.median(durations),
        "min_duration": min(durations),
    }


def as_text(result: dict[str, Any]) -> str:
    """Return the result for people."""
    from nestling.cli.run import shorten

    how = result["path"] or f"{result['stages']} stages of your own"
    lines = [f"{how} of {result['bundle']} on {result['device']} ({result['scheme']})"]
    for name, values in result.get("outputs", {}).items():
        lines.append(f"{name}: {shorten(values)}")
    if "digits" in result:
        lines.append(f"accuracy on {result['digits']} held-out digits: {result['accuracy']:.4f}")
    clock = result["clock"]
    lines.append(
        f"{result['runs']} runs, median {result['median_duration']:,.0f} {clock}, "
        f"best {result['min_duration']:,} {clock}; switch {result['switch_cost']:,} {clock}; "
        f"{result['resident_bytes']:,} bytes resident"
    )
    return "\n".join(lines)


def read_arrays(device: Device, file: Path | None) -> dict[str, Any]:
    """Return the arrays of an .npy or .npz file by slot name; zeros for all inputs without one.

    Raises:
        EngineError: The file cannot be read.
    """
    import numpy as np

    from nestling.cli.run import load_arrays
    from nestling_runtime.session import NUMPY_DTYPES

    slots = {slot.name: slot for slot in device.tensors() if slot.role == "input"}
    if file is None:
        return {name: np.zeros(s.shape, NUMPY_DTYPES[s.dtype]) for name, s in slots.items()}
    return load_arrays(file, slots)
