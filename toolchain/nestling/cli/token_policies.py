"""Policies as the command line spells them: `entropy:threshold=2,window=5`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nestling.errors import PathError

if TYPE_CHECKING:
    from nestling_runtime import Decoder, TokenPolicy

HELP = (
    "A path's name; or entropy:threshold=BITS[,window=5,stay=1,ahead=0]; "
    "confidence:threshold=P[,signal=confidence|margin|entropy,ladder=ends|all]; "
    "speculative[:tokens=N,confidence=P]; rate:tokens_per_second=N[,horizon=16]. "
    "small=PATH and large=PATH say which paths, the smallest and the largest by default."
)


def parse_policy(text: str, decoder: Decoder) -> TokenPolicy:
    """Return the policy that a text names.

    Raises:
        PathError: Neither a policy nor a path; or a parameter that it has not, or no number.
    """
    from nestling_runtime import (
        ConfidenceExit,
        EntropySwitch,
        FixedPath,
        SelfSpeculation,
        TokenRate,
    )

    name, _, rest = text.partition(":")
    values = dict(part.partition("=")[::2] for part in rest.split(",") if part)
    small = values.pop("small", decoder.path_names[0])
    large = values.pop("large", decoder.path_names[-1])

    def number(key: str, default: float | None = None) -> float:
        given = values.pop(key, None)
        if given is None and default is not None:
            return default
        try:
            return float(given if given is not None else "")
        except ValueError:
            raise PathError(
                f"policy {name} needs a number for {key}", actual=given, hint=HELP
            ) from None

    policy: TokenPolicy
    if name == "entropy":
        window, stay = int(number("window", 5)), int(number("stay", 1))
        ahead = bool(number("ahead", 0))
        policy = EntropySwitch(small, large, number("threshold"), window, stay, ahead)
    elif name == "confidence":
        signal = values.pop("signal", "confidence")
        if signal not in ("confidence", "margin", "entropy"):
            raise PathError("policy confidence has no such signal", actual=signal, hint=HELP)
        between = decoder.path_names[decoder.path_index(small) : decoder.path_index(large) + 1]
        ladder = between if values.pop("ladder", "") == "all" else (small, large)
        policy = ConfidenceExit(tuple(ladder), number("threshold"), signal)  # type: ignore[arg-type]
    elif name == "speculative":
        tokens = int(number("tokens", decoder.verify_tokens))
        policy = SelfSpeculation(small, large, tokens, number("confidence", 0.0))
    elif name == "rate":
        policy = TokenRate(number("tokens_per_second"), int(number("horizon", 16)))
    else:
        decoder.path_index(name)
        policy = FixedPath(name)
    if values:
        raise PathError(f"policy {name} has no parameter {', '.join(values)}", hint=HELP)
    return policy
