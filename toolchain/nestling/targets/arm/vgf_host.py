"""Where stages for VGF are executed here: a software Vulkan with Arm's emulation layers.

ExecuTorch's newer wheels have no runtime for VGF; `scripts/setup_vgf.sh` makes a side environment
with the last one that has, 1.4.1.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nestling.errors import TargetError
from nestling.targets.description import environment_python
from nestling.targets.stage_process import StageProcess, open_stage_process

ENVIRONMENT = "vgf"
"""Name of the side environment."""

LAYERS = {
    "VkLayer_Graph.json": "VK_LAYER_ML_Graph_Emulation",
    "VkLayer_Tensor.json": "VK_LAYER_ML_Tensor_Emulation",
}
"""Manifest -> layer, in the order in which the loader must find them: graphs need tensors."""


@contextmanager
def open_vgf(folder: Path) -> Iterator[StageProcess]:
    """Start the side environment's process on a folder of programs.

    Raises:
        TargetError: the emulation layers are not installed.
    """
    with tempfile.TemporaryDirectory() as manifests:
        where = "ExecuTorch 1.4.1 on a software Vulkan with Arm's emulation layers"
        python = environment_python(ENVIRONMENT)
        variables = _layer_variables(Path(manifests))
        # What emulation takes says nothing of a GPU.
        with open_stage_process(
            folder, where, python=python, environment=variables, timed=False
        ) as process:
            yield process


def _layer_variables(folder: Path) -> dict[str, str]:
    """What the Vulkan loader must be told.

    Loaders before 1.3.234 take layers in the order in which they find manifests, not in the one
    that is asked for, so each manifest gets a folder of its own.
    """
    site = environment_python(ENVIRONMENT).parent.parent
    libraries = next(iter(site.glob("lib/python*/site-packages/emulation_layer/deploy/lib")), None)
    if libraries is None:
        raise TargetError(
            "Arm's emulation layers for Vulkan are not installed", hint="run scripts/setup_vgf.sh"
        )
    places = []
    for number, name in enumerate(LAYERS):
        (found,) = libraries.parent.rglob(name)
        manifest = json.loads(found.read_text())
        library = Path(manifest["layer"]["library_path"]).name
        manifest["layer"]["library_path"] = str(libraries / library)
        place = folder / str(number)
        place.mkdir()
        (place / name).write_text(json.dumps(manifest))
        places.append(str(place))
    return {
        "VK_LAYER_PATH": ":".join(places),
        "VK_INSTANCE_LAYERS": ":".join(LAYERS.values()),
        "LD_LIBRARY_PATH": str(libraries),
    }
