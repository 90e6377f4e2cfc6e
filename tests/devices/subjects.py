"""What the suite pushes to a device: a small bundle, versions of it, and what it computes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cbor2
import numpy as np
import numpy.typing as npt
import torch
from export.supernets import CACHE

import nestling_runtime
from nestling.bench.reference import ReferenceChain
from nestling.elastic import ElasticMobileNet, ElasticViT, Supernet
from nestling.export import export_bundle
from nestling_devices import Device, messages, open_device
from nestling_runtime.bundle import Bundle

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Subject:
    """A model, as bundles for one target.

    Attributes:
        bundle: What devices start with.
        update: The same model with other weights at its last nesting level: one section differs.
        foreign: A bundle for a target that the device does not have.
        expected: Bundle, path (name or stages) and inputs to outputs, computed by the oracle.
        tolerance: Largest difference that is allowed; 0: identical.
    """

    bundle: Path
    update: Path
    foreign: Path
    expected: Callable[[Path, str | list[int], Arrays], Arrays]
    tolerance: float

    def close(self) -> None:
        """Let go of what the oracle keeps."""
        if isinstance(self.expected, _Reference):
            self.expected.close()

    @property
    def paths(self) -> tuple[str, ...]:
        """Names of the paths, small to large."""
        with Bundle.open(self.bundle) as bundle:
            return tuple(path.name for path in bundle.paths)

    def inputs(self, seed: int) -> dict[str, npt.NDArray[Any]]:
        """Return random inputs."""
        rng = np.random.default_rng(seed)
        with Bundle.open(self.bundle) as bundle:
            slots = [slot for slot in bundle.slots if slot.role == "input"]
        return {
            slot.name: rng.integers(-128, 128, slot.shape).astype(np.int8)
            if slot.dtype == "i8"
            else rng.standard_normal(slot.shape).astype(np.float32)
            for slot in slots
        }

    def stage_lists(self) -> list[list[int]]:
        """Return legal lists of stages that are no named path: levels that change on the way."""
        with Bundle.open(self.bundle) as bundle:
            chains = [list(path.chain) for path in bundle.paths]
            small, large = chains[0], chains[-1]
            mixed = []
            for cut in range(1, len(large)):
                border = bundle.stages[large[cut]].first
                head = [s for s in small if bundle.stages[s].last < border]
                mixed.append([*head, *large[cut:]])
            return [chain for chain in mixed if chain not in chains]


def check(subject: Subject, found: Arrays, wanted: Arrays) -> None:
    """Compare outputs."""
    assert set(found) == set(wanted)
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype
        if subject.tolerance:
            np.testing.assert_allclose(found[name], array, rtol=0, atol=subject.tolerance)
        else:
            np.testing.assert_array_equal(found[name], array)


def make_subject(target: str, folder: Path, tolerance: float) -> Subject:
    """Export the bundles for a target; what was lowered once comes from the cache."""
    bundle, update, foreign = (folder / f"{n}.nest" for n in ("small", "update", "foreign"))
    if target == "xnnpack":
        export_bundle(small_vit(), bundle, jobs=1, cache_dir=CACHE, fused=False)
        export_bundle(small_vit(other=True), update, jobs=1, cache_dir=CACHE, fused=False)
        expected = _expected_of_runtime
    else:
        export_bundle(
            small_cnn(),
            bundle,
            target=target,
            scheme="int8-static",
            calibration=[(torch.from_numpy(image),) for image in images(32)],
            reference_dir=folder / "reference",
            jobs=1,
            cache_dir=CACHE,
        )
        # A model with other weights has other grids, so the change is made in the bundle itself.
        update.write_bytes(_with_other_blob(bundle))
        expected = _Reference(bundle, folder / "reference")
    foreign.write_bytes(_with_target(bundle.read_bytes(), target[:-1] + "x"))
    return Subject(bundle, update, foreign, expected, tolerance)


def images(count: int) -> list[npt.NDArray[np.float32]]:
    """Return inputs of both models."""
    rng = np.random.default_rng(99)
    return [rng.standard_normal((1, 1, 8, 8)).astype(np.float32) for _ in range(count)]


def _with_target(data: bytes, target: str) -> bytes:
    """A legal bundle that says another target, in as many letters."""
    manifest = _manifest(data)
    assert len(manifest["target"]) == len(target)
    return _with_manifest(data, manifest | {"target": target})


def _with_other_blob(bundle: Path) -> bytes:
    """A legal bundle with other weights in the last layer of its last level's last stage."""
    with Bundle.open(bundle) as opened:
        stage = max(opened.stages, key=lambda stage: (stage.level, stage.first))
        constant = opened.constants[stage.bindings[-2][1]]
        section = opened.sections[constant.section]
    data = bytearray(bundle.read_bytes())
    start = section.offset_bytes + constant.offset_bytes
    for place in range(start, start + constant.size_bytes):
        data[place] ^= 0x15
    manifest = _manifest(bytes(data))
    content = data[section.offset_bytes : section.offset_bytes + section.size_bytes]
    manifest["sections"][constant.section]["sha256"] = hashlib.sha256(content).digest()
    return _with_manifest(bytes(data), manifest)


def _manifest(data: bytes) -> dict[str, Any]:
    manifest: dict[str, Any] = cbor2.loads(data[64 : 64 + int.from_bytes(data[16:24], "little")])
    return manifest


def _with_manifest(data: bytes, manifest: dict[str, Any]) -> bytes:
    size = int.from_bytes(data[16:24], "little")
    encoded = cbor2.dumps(manifest, canonical=True)
    assert len(encoded) == size
    return data[:32] + hashlib.sha256(encoded).digest() + encoded + data[64 + size :]


def small_vit(*, other: bool = False) -> Supernet:
    """Return a ViT of two levels and two depths; `other` has other weights at the last level."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = ElasticViT(
            image_size=8,
            patch=4,
            channels=1,
            dim=16,
            depth=2,
            heads=2,
            classes=10,
            widths=(0.5, 1.0),
            depths=(0.5, 1.0),
        ).eval()
    if other:
        with torch.no_grad():
            for name, value in net.named_parameters():
                if name.endswith(("up.weight", "up.bias")):
                    value[len(value) // 2 :] *= -1.0
    return net


def small_cnn() -> Supernet:
    """Return a CNN of two levels and two depths."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ElasticMobileNet(
            image_size=8,
            channels=1,
            stem=8,
            stem_stride=1,
            stem_out=None,
            blocks=((8, 2, 1), (8, 2, 1)),
            head=None,
            classes=10,
            widths=(0.5, 1.0),
            depths=(1, 2),
        ).eval()


class _Reference:
    """What ExecuTorch's reference operators compute.

    They know one bundle. For any other one the oracle is a device that was given it whole, by the
    standard upload, instead of piece by piece.
    """

    def __init__(self, bundle: Path, programs: Path) -> None:
        self._bundle = bundle
        self._chain = ReferenceChain(bundle, programs)
        self._devices: dict[Path, Device] = {}

    def __call__(self, bundle: Path, path: str | list[int], inputs: Arrays) -> Arrays:
        if bundle == self._bundle:
            (image,) = inputs.values()
            return {"logits": self._chain.run(path, image)}
        if bundle not in self._devices:
            device = self._devices[bundle] = open_device("m55")
            upload_whole(device, bundle)
        self._devices[bundle].select(path)
        return self._devices[bundle].run(**inputs)

    def close(self) -> None:
        """Switch the devices off."""
        for device in self._devices.values():
            device.close()


def upload_whole(device: Device, bundle: Path) -> None:
    """Upload a bundle as smpclient does it, unchanged, and run it from then on."""
    data = bundle.read_bytes()

    async def upload() -> list[int]:
        return [off async for off in device.client.smp.upload(data, first_timeout_s=30.0)]

    offsets = device.client.call(upload())
    assert offsets == sorted(offsets)
    assert offsets[-1] == len(data)
    device.client.request(messages.PushCommitWrite(confirm=True), patience_s=60.0)


@cache
def _model(bundle: Path) -> nestling_runtime.Model:
    return nestling_runtime.open(bundle, threads=1)


def _expected_of_runtime(bundle: Path, path: str | list[int], inputs: Arrays) -> Arrays:
    """What the engine computes in this process, which other tests compare with eager torch."""
    with _model(bundle).session() as session:
        if isinstance(path, str):
            session.select(path, mode="chain")
        else:
            session.select_stages(path)
        return session.run(**inputs)
