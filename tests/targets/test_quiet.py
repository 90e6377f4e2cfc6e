"""What compilers say is kept from the user, and nothing else is."""

from __future__ import annotations

import os

import pytest

from nestling.targets.quiet import quiet, quiet_library


def test_remarks_of_python_are_lost(capfd: pytest.CaptureFixture[str]) -> None:
    print("before")
    with quiet():
        print("during")
    print("after")
    assert capfd.readouterr().out == "before\nafter\n"


@pytest.mark.parametrize("number", [1, 2])
def test_remarks_of_a_library_are_lost(capfd: pytest.CaptureFixture[str], number: int) -> None:
    os.write(number, b"before ")
    with pytest.raises(ValueError, match="fault"), quiet_library():
        os.write(number, b"during ")
        raise ValueError("fault")
    os.write(number, b"after")
    assert capfd.readouterr()[number - 1] == "before after"
