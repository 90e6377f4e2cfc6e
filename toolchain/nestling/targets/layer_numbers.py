"""Numbers of expert layers in programs: put in when a template is filled, as weights are.

The operator `nestling::experts` names its layer by a number. Layers of equal shape would otherwise
be different programs, each of which has to be lowered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch.export import ExportedProgram
from torch.fx import Node

_MARK = 0x4E53_5458_1AE7_0000
"""The first layer of a program has this number in its template, the second the next one."""
_ARGUMENT = 2


def layer_numbers(program: ExportedProgram) -> list[int]:
    """Return the layers whose experts a program calls, in order."""
    return [int(node.args[_ARGUMENT]) for node in _calls(program)]  # type: ignore[arg-type]


@contextmanager
def marked_layers(program: ExportedProgram) -> Iterator[None]:
    """Give the layers of a program the numbers that a template has, while the context lasts."""
    calls = _calls(program)
    numbers = layer_numbers(program)
    _renumber(program, calls, [_MARK + place for place in range(len(calls))])
    try:
        yield
    finally:
        _renumber(program, calls, numbers)


def can_be_numbered(lowered: bytes, count: int) -> bool:
    """Whether a lowered program has each of its marks in one place alone."""
    return all(lowered.count(_bytes(_MARK + place)) == 1 for place in range(count))


def put_numbers(lowered: bytes, numbers: Sequence[int]) -> bytes:
    """Return a lowered program whose marks are replaced by numbers."""
    for place, number in enumerate(numbers):
        lowered = lowered.replace(_bytes(_MARK + place), _bytes(number))
    return lowered


def _calls(program: ExportedProgram) -> list[Node]:
    return [
        node
        for node in program.graph.nodes
        if node.op == "call_function" and str(node.target) == "nestling.experts.default"
    ]


def _renumber(program: ExportedProgram, calls: Sequence[Node], numbers: Sequence[int]) -> None:
    for node, number in zip(calls, numbers, strict=True):
        node.update_arg(_ARGUMENT, number)
    if calls:
        program.graph_module.recompile()


def _bytes(number: int) -> bytes:
    """As a program stores an integer."""
    return number.to_bytes(8, "little")
