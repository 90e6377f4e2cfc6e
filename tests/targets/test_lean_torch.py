"""What is spared while lowering does not show in what is lowered."""

from __future__ import annotations

import pytest
import torch
import torch.fx.traceback
from export.oracle import Mlp, seeded
from torch.export import decomp_utils, exported_program

from nestling.targets.lean_torch import lean_torch
from nestling.targets.xnnpack.lower import lower_program, trace

INPUTS = (seeded(1, 5, 32),)


def test_a_program_is_the_same_to_the_byte() -> None:
    torch.manual_seed(0)
    module = Mlp().eval()
    plain = lower_program(trace(module, INPUTS))
    with lean_torch():
        lean = lower_program(trace(module, INPUTS))
    assert lean == plain


def test_histories_do_not_grow_and_operators_are_listed_once() -> None:
    with lean_torch():
        program = trace(Mlp().eval(), INPUTS).run_decompositions()
        steps = [node.meta["from_node"] for node in program.graph.nodes if "from_node" in node.meta]
        assert steps and all(not source.from_node for step in steps for source in step)
        listed = exported_program._collect_all_valid_cia_ops()
        assert decomp_utils._collect_all_valid_cia_ops() is listed
    assert exported_program._collect_all_valid_cia_ops() == listed


def test_torch_is_left_as_it_was() -> None:
    before = (torch.fx.traceback.copy, exported_program._collect_all_valid_cia_ops)
    with pytest.raises(ValueError, match="broken"), lean_torch():
        raise ValueError("broken")
    assert (torch.fx.traceback.copy, exported_program._collect_all_valid_cia_ops) == before
