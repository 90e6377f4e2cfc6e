"""Policies as the command line spells them: `entropy:threshold=2,window=5`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nestling.errors import PathError

if TYPE_CHECKING:
    from nestling_runtime import Decoder, TokenPolicy

FORMS = (
    "entropy:threshold=BITS[,window=5,stay=1,ahead=0]",
    "confidence:threshold=P[,signal=confidence|margin|entropy,ladder=ends|all]",
    "speculative[:tokens=N,confidence=P]",
    "soft[:confidence=0.5,top=10] or soft:trend=1[,dwell=512,switches=N,top=10]",
    "route:router=FILE[,price=X]",
    "steer:vectors=FILE[,scale=1,entropy=BITS]",
    "rate:tokens_per_second=N[,horizon=16]",
)
"""How policies are spelled. All but the last take `large=PATH`, the first three `small=PATH`."""

EPILOG = (
    "\b\nPolicies; all but the last take large=PATH too, the first three small=PATH, by\n"
    "default the largest and the smallest path:\n" + "\n".join(f"  {form}" for form in FORMS)
)
"""For the help of commands that take a policy."""

_OPTIONS = (
    click.option(
        "--policy",
        "policy_text",
        help="A path's name, or one of the policies below.  [default: the largest path]",
    ),
    click.option(
        "--max-tokens",
        type=click.IntRange(min=1),
        default=128,
        show_default=True,
        help="To write at most.",
    ),
    click.option(
        "--temperature",
        type=click.FloatRange(min=0),
        default=0.0,
        help="0, the default: the most probable token.",
    ),
    click.option(
        "--top-k",
        type=click.IntRange(min=0),
        default=0,
        help="Draw from so many tokens; 0: from all.",
    ),
    click.option(
        "--top-p",
        type=click.FloatRange(0, 1),
        default=0.0,
        help="Draw from the tokens that together are so probable; 0: from all.",
    ),
    click.option(
        "--seed",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        help="Of what is drawn.",
    ),
    click.option("--stop", multiple=True, help="A text to stop at; may be given again."),
    click.option("--threads", type=click.IntRange(min=0), default=0, help="0: all processors."),
)


def generation_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what every command that generates takes: policy, budget, sampling, stops, threads."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def parse_policy(text: str, decoder: Decoder) -> TokenPolicy:
    """Return the policy that a text names.

    Args:
        text: a path's name, or one of `FORMS`; `small` and `large` are the smallest and the largest
            path by default.
        decoder: whose paths.

    Raises:
        PathError: neither a policy nor a path; or a parameter that it does not have, or whose value
            is none.
        EngineError: a file of a router or of vectors is none.
    """
    from nestling_runtime import (
        ConfidenceExit,
        EntropySwitch,
        FixedPath,
        RouteChoice,
        SelfSpeculation,
        SoftThinking,
        Steering,
        TokenRate,
    )

    name, _, rest = text.partition(":")
    form = "; ".join(form for form in FORMS if form.startswith(name)) or None
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
                f"policy {name} needs a number for {key}", actual=given, hint=form
            ) from None

    def whole(key: str, default: int) -> int:
        given = float(number(key, default))
        if not given.is_integer():
            raise PathError(f"policy {name} needs a whole number for {key}", actual=given)
        return int(given)

    def choice(key: str, choices: tuple[str, ...]) -> str:
        given = values.pop(key, choices[0])
        if given not in choices:
            raise PathError(
                f"policy {name} has no such {key}", expected=" or ".join(choices), actual=given
            )
        return given

    def file(key: str) -> Path:
        given = values.pop(key, None)
        if given is None:
            raise PathError(f"policy {name} needs a file for {key}", hint=form)
        return Path(given)

    policy: TokenPolicy
    if name == "entropy":
        window, stay = whole("window", 5), whole("stay", 1)
        ahead = bool(whole("ahead", 0))
        policy = EntropySwitch(small, large, number("threshold"), window, stay, ahead)
    elif name == "confidence":
        signal = choice("signal", ("confidence", "margin", "entropy"))
        between = decoder.path_names[decoder.path_index(small) : decoder.path_index(large) + 1]
        ladder = between if choice("ladder", ("ends", "all")) == "all" else (small, large)
        policy = ConfidenceExit(tuple(ladder), number("threshold"), signal)  # type: ignore[arg-type]
    elif name == "speculative":
        tokens = whole("tokens", decoder.verify_tokens)
        policy = SelfSpeculation(small, large, tokens, number("confidence", 0.0))
    elif name == "soft":
        trend, dwell, top = bool(whole("trend", 0)), whole("dwell", 512), whole("top", 10)
        most = whole("switches", 0) if "switches" in values else None
        policy = SoftThinking(large, trend, number("confidence", 0.5), dwell, most, top)
    elif name == "route":
        price = number("price") if "price" in values else None
        policy = RouteChoice.load(file("router"), price, large)
    elif name == "steer":
        scale, entropy_bits = number("scale", 1.0), number("entropy", 0.0)
        policy = Steering.load(file("vectors"), large, entropy_bits, scale)
    elif name == "rate":
        policy = TokenRate(number("tokens_per_second"), whole("horizon", 16))
    else:
        decoder.path_index(name)
        policy = FixedPath(name)
    if values:
        raise PathError(f"policy {name} has no parameter {', '.join(values)}", hint=form)
    return policy
