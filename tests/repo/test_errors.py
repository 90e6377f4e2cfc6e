"""The error tree: one root, context that survives, one sentence for people."""

from __future__ import annotations

import pickle

import pytest

import nestling.errors
from nestling.errors import BudgetError, BundleError, ModelError, NestlingError, SignatureError

PUBLIC = [getattr(nestling.errors, name) for name in nestling.errors.__all__]
ALL = [public for public in PUBLIC if isinstance(public, type)]


@pytest.mark.parametrize("kind", ALL)
def test_every_error_is_a_nestling_error_and_takes_a_bare_message(
    kind: type[NestlingError],
) -> None:
    assert issubclass(kind, NestlingError)
    assert str(kind("the lamp is out")) == "the lamp is out"


def test_the_sentence_carries_context_and_hint() -> None:
    error = BundleError(
        "hash mismatch", section="level2", expected="aa", actual="bb", hint="copy the file again"
    )
    assert str(error) == (
        "hash mismatch (section level2, expected aa, actual bb); copy the file again"
    )
    assert error.context()["section"] == "level2"


def test_a_bad_signature_is_a_bad_bundle() -> None:
    assert issubclass(SignatureError, BundleError)


@pytest.mark.parametrize(
    "error",
    [
        ModelError("no elastic place", module="encoder.layer", hint="name a block"),
        BudgetError("cannot load", missing_bytes=4096, stage="ffn.3"),
        *[kind("plain", stage="stem") for kind in ALL],
    ],
)
def test_an_error_crosses_processes_whole(error: NestlingError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_a_zero_expectation_is_still_said() -> None:
    assert "expected 0" in str(NestlingError("trailing bytes", expected=0, actual=3))
