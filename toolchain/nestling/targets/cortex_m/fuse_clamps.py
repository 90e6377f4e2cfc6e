"""Activations as output ranges of the operator before them, whatever the grid behind them."""

from __future__ import annotations

from executorch.backends.arm._passes.quant_args import QuantArgs
from executorch.backends.cortex_m.passes.activation_fusion_pass import ActivationFusionPass
from executorch.backends.cortex_m.passes.passes_utils import get_activation_bounds, quantize_val
from executorch.exir.dialects._ops import ops as exir_ops
from executorch.exir.pass_base import ExportPass
from torch.fx import GraphModule, Node
from torch.fx.passes.infra.pass_base import PassResult

_ACTIVATIONS = (
    exir_ops.edge.aten.relu.default,
    exir_ops.edge.aten.hardtanh.default,
    exir_ops.edge.aten.clamp.default,
)


class FuseClampsPass(ExportPass):  # type: ignore[misc]
    """Fuse a ReLU or clamp whose quantised bounds lie inside int8.

    ExecuTorch's own fusion wants the bounds at the ends of int8. On the grid of a slot they are
    not, since other stages write negative numbers there; but clamping in the grid of the output is
    what the kernels do anyway.
    """

    def call(self, graph_module: GraphModule) -> PassResult:
        """Rewrite the graph; runs behind the pass that folds quantisation parameters."""
        modified = False
        for node in list(graph_module.graph.nodes):
            if node.op == "call_function" and node.target in _ACTIVATIONS and _fuse(node):
                node.replace_all_uses_with(node.args[0])
                graph_module.graph.erase_node(node)
                modified = True
        if modified:
            graph_module.recompile()
        return PassResult(graph_module, modified)


def _fuse(node: Node) -> bool:
    source = node.args[0]
    bounds = get_activation_bounds(node)
    outputs = node.meta.get("output_qparams", {})
    if (
        not isinstance(source, Node)
        or source.target not in ActivationFusionPass.FUSE_OPS
        or len(source.users) != 1
        or "input_qparams" not in source.meta
        or bounds is None
        or not outputs
    ):
        return False
    args: QuantArgs = outputs[0]
    if not isinstance(args.scale, float) or not isinstance(args.zp, int):
        return False
    low, high = (
        None if b is None else int(quantize_val(b, args.scale, args.zp, args.qmin, args.qmax))
        for b in bounds
    )
    source.meta["output_qparams"][0] = args._replace(
        qmin=args.qmin if low is None else low, qmax=args.qmax if high is None else high
    )
    return True
