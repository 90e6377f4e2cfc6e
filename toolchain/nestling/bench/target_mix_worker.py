"""Runs a path of a bundle over two targets, and over each alone. Started by `bench.target_mix`.

    python target_mix_worker.py BUNDLE INPUTS.npz OUTPUTS.npz

A process of its own, because an accelerator's simulator may not share one with its compiler, and
wants variables that are set before it starts. Prints one JSON object: what ran where.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np

import nestling_runtime

PATH = "full"


def run(bundle_file: str, inputs_file: str, outputs_file: str) -> dict[str, Any]:
    """Run every sample three ways, and keep the outputs by way.

    Args:
        bundle_file: For two targets.
        inputs_file: One array `[samples, ...]` an input, in the order of the model's.
        outputs_file: Gets one array `[samples, ...]` a way.
    """
    samples = list(np.load(inputs_file).values())
    with nestling_runtime.open(bundle_file, threads=1) as model, model.session() as session:
        bundle = model.bundle
        chain = bundle.paths[bundle.path_index(PATH)].chain
        own, other = bundle.targets
        ways = {
            "own": [bundle.stand_in(stage, own) for stage in chain],
            "other": [bundle.stand_in(stage, other) for stage in chain],
            "mixed": [
                bundle.stand_in(stage, (own, other)[step % 2]) for step, stage in enumerate(chain)
            ],
        }
        outputs, selected = {}, {}
        for way, stages in ways.items():
            session.select_stages([stage for stage in stages if stage is not None])
            selected[way] = session.stages
            found = []
            for at in range(len(samples[0])):
                arrays = {
                    name: array[at]
                    for name, array in zip(session.input_names, samples, strict=True)
                }
                (output,) = session.run(**arrays).values()
                found.append(output.copy())
            outputs[way] = np.stack(found)
        np.savez(outputs_file, **outputs)
        return {
            "stages": selected,
            "switches": sum(a != b for a, b in zip(ways["mixed"], ways["own"], strict=True)),
            "fallbacks": [f"{f.stage}: {f.reason}" for f in model.fallbacks()],
        }


if __name__ == "__main__":
    print(json.dumps(run(*sys.argv[1:])))
