"""Arm Cortex-M: int8 stages lowered by ExecuTorch, compiled ahead of time into plans.

From a stage to a plan, one module an arrow::

    module --quantize--> exported program --lower--> .pte --program--> calls and tensors
    calls --operators--> kernel numbers, parameter records, packed constants --compiler--> plan

``grids`` fixes the numbers that int8 slots between stages stand for, ``cores`` says which
processors there are, ``planner`` places activations, ``plan`` is the format, ``reference`` runs a
program with ExecuTorch's reference operators, and ``fit`` tells what a device must have.
"""
