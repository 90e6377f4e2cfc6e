"""Devices and bundles for the tests of the simulator: round numbers, so that results are known."""

from __future__ import annotations

from bundle.samples import written

from nestling.bundle import BundleBuilder
from nestling_devices import ClockLevel, Compute, DeviceProfile, FlashGeometry, Power, Thermal
from nestling_runtime.bundle import Bundle

QUALITY = {"tiny": 0.90, "small": 0.95, "base": 0.97, "full": 0.98}
_MACS = {"tiny": 25_000, "small": 50_000, "base": 80_000, "full": 100_000}


def bundle_bytes(*, quality: bool = True, target: str = "xnnpack", bits: int = 32) -> bytes:
    """Four paths, each a stem and a block of its own width; no program could be run."""
    builder = BundleBuilder(name="sim", target=target)
    image = builder.add_slot("image", "f32", (1, 4), "input")
    x = builder.add_slot("x", "f32", (1, 4))
    logits = builder.add_slot("logits", "f32", (1, 2), "output")
    core = builder.add_constant("core", "w.core", b"\x01" * 4_000, level=1)
    levels = [core]
    for index in range(1, len(_MACS)):
        key = f"w.{index + 1}"
        levels.append(builder.add_constant(f"level{index + 1}", key, bytes([index]) * 1_000))
    for layer, name in enumerate(("stem", "block")):
        builder.add_position(name, layer, True)
    program = builder.add_program(b"program" * 8)
    stem = builder.add_stage(
        "stem",
        program=program,
        first=0,
        inputs=[image],
        outputs=[x],
        bindings=[("w", core)],
        bits=bits,
    )
    for index, (name, macs) in enumerate(_MACS.items()):
        block = builder.add_stage(
            f"block.w{index + 1}",
            program=program,
            first=1,
            inputs=[x],
            outputs=[logits],
            bindings=[(f"w{k}", constant) for k, constant in enumerate(levels[: index + 1])],
            level=index + 1,
            macs=macs,
            bits=bits,
        )
        builder.add_path(
            name,
            [stem, block],
            macs=macs,
            quality={"accuracy": QUALITY[name]} if quality else {},
        )
    return written(builder)[0]


def bundle(*, quality: bool = True, bits: int = 32) -> Bundle:
    """The same, opened."""
    return Bundle.open(bundle_bytes(quality=quality, bits=bits))


def device(
    *,
    levels: tuple[ClockLevel, ...] = (ClockLevel(1_000_000_000, 1.0),),
    thermal: Thermal | None = None,
    battery_wh: float | None = None,
    idle_w: float = 0.0,
    awake_w: float = 1.0,
    flash: FlashGeometry | None = None,
) -> DeviceProfile:
    """A device that does a thousand million MACs a second for a joule."""
    return DeviceProfile(
        name="round",
        title="Round numbers",
        transport="sim",
        architecture="aarch64",
        targets=("xnnpack",),
        cores=4,
        clock_hz=levels[0].clock_hz,
        flash=flash,
        compute=Compute(1e9, 4e9, 1_000.0, 250.0),
        levels=levels,
        power=Power(idle_w, awake_w),
        thermal=thermal,
        battery_wh=battery_wh,
    )
