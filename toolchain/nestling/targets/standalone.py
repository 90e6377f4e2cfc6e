"""Programs with their weights inside, for executing a stage alone through stock ExecuTorch."""

from __future__ import annotations

import copy

from executorch.exir import EdgeProgramManager, ExecutorchBackendConfig


def standalone(edge: EdgeProgramManager, config: ExecutorchBackendConfig | None = None) -> bytes:
    """Serialise a partitioned program the ordinary way; ``edge`` can be emitted afterwards.

    Args:
        edge: partitioned, its delegates lowered.
        config: how to write it; default ExecuTorch's own.
    """
    return bytes(copy.deepcopy(edge).to_executorch(config or ExecutorchBackendConfig()).buffer)
