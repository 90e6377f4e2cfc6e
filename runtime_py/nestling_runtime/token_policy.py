"""Which path makes the next token: the policies of the library, and one's own.

A policy of your own derives from `CustomPolicy`; the library calls it for each token::

    class CarefulNumbers(CustomPolicy):
        def choose(self, last):
            return "full" if last.token in digits else "tiny"

and so does the C program in `firmware/core/token_policy.h`.
"""

from __future__ import annotations

import ctypes
from abc import ABC, abstractmethod
from collections.abc import Sequence
from ctypes import byref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from nestling_runtime import abi, decoder_abi, native
from nestling_runtime.errors import EngineError, PathError

if TYPE_CHECKING:
    from nestling_runtime.decoder import Decoder

ExitSignal = Literal["confidence", "margin", "entropy"]


@dataclass
class NativePolicy:
    """A policy as the library takes it.

    Attributes:
        raw: the functions.
        keep: what they point into.
        failure: what a function of Python's raised, to be raised again.
        inner: the policies that this one stands around.
    """

    raw: decoder_abi.TokenPolicy
    keep: list[object] = field(default_factory=list)
    failure: BaseException | None = None
    inner: tuple[NativePolicy, ...] = ()

    def raised(self) -> BaseException | None:
        """Return what a function of this policy, or of one inside it, raised."""
        failures = (self.failure, *(policy.raised() for policy in self.inner))
        return next((failure for failure in failures if failure is not None), None)


class TokenPolicy(ABC):
    """Picks the path of each token. One object may serve any number of generations."""

    def prepare(self, decoder: Decoder) -> None:
        """Tell the decoder what the policy needs of it before a generation; nothing as a rule."""
        return

    @abstractmethod
    def bind(self, decoder: Decoder) -> NativePolicy:
        """Return it for one generation, with the memory of none before.

        Raises:
            PathError: The decoder has no path of a name that the policy uses.
            EngineError: A parameter is out of its range.
        """


@dataclass(frozen=True)
class FixedPath(TokenPolicy):
    """Every token by one path.

    Args:
        path: Its name.
    """

    path: str

    def bind(self, decoder: Decoder) -> NativePolicy:
        """See `TokenPolicy`."""
        return use("nst_fixed_policy_use", decoder_abi.FixedPolicy(decoder.path_index(self.path)))


@dataclass(frozen=True)
class EntropySwitch(TokenPolicy):
    """Entropy Adaptive Decoding (arXiv:2502.06833).

    The large path while the mean entropy of the last tokens is above a threshold, the small one
    otherwise. The first token takes the large one, with `ahead` the small one.

    Args:
        small: Name of a path.
        large: Name of a path.
        threshold_bits: Of the mean entropy.
        window: Tokens that it is the mean of, 1 to 64.
        minimum_stay: Tokens on a path before it may change.
        ahead: Whether a token starts on the small path, whose entropy enters the mean, and goes on
            to the large one if that is too high.
    """

    small: str
    large: str
    threshold_bits: float
    window: int = 5
    minimum_stay: int = 1
    ahead: bool = False

    def bind(self, decoder: Decoder) -> NativePolicy:
        """See `TokenPolicy`."""
        raw = decoder_abi.EntropyPolicy()
        small, large = decoder.path_index(self.small), decoder.path_index(self.large)
        accepted = native.library().nst_entropy_policy_init(
            byref(raw),
            small,
            large,
            self.threshold_bits,
            self.window,
            self.minimum_stay,
            self.ahead,
        )
        return use("nst_entropy_policy_use", raw, accepted)


@dataclass(frozen=True)
class ConfidenceExit(TokenPolicy):
    """Try paths from small to large until one is sure (Sorted LLaMA, arXiv:2309.08968).

    Args:
        paths: Their names, at most 16. Where a path goes on from the one before, it computes only
            the layers behind.
        thresholds: A path is sure with a confidence or margin of at least this, or an entropy of at
            most this many bits: one for each path but the last, or one for all.
        signal: Largest probability, the same less the second largest, or entropy.
    """

    paths: tuple[str, ...]
    thresholds: tuple[float, ...] | float
    signal: ExitSignal = "confidence"

    def bind(self, decoder: Decoder) -> NativePolicy:
        """See `TokenPolicy`."""
        raw = decoder_abi.ExitPolicy()
        numbers = [decoder.path_index(path) for path in self.paths]
        given = self.thresholds
        each = given if isinstance(given, tuple) else (given,) * (len(numbers) - 1)
        accepted = len(each) == len(numbers) - 1 and native.library().nst_exit_policy_init(
            byref(raw),
            (ctypes.c_uint32 * len(numbers))(*numbers),
            (ctypes.c_float * len(each))(*each),
            len(numbers),
            decoder_abi.EXIT_SIGNALS.index(self.signal),
        )
        return use("nst_exit_policy_use", raw, accepted)


@dataclass(frozen=True)
class SelfSpeculation(TokenPolicy):
    """Draft with a small path, verify with a large one in one run (arXiv:2309.08168).

    The output is what the large path alone gives, greedily.

    Args:
        draft: Name of a path.
        verify: Name of a path.
        tokens: Of a draft; None: as many as one run can verify.
        confidence: A draft ends early behind a token of less; 0: never.
    """

    draft: str
    verify: str
    tokens: int | None = None
    confidence: float = 0.0

    def bind(self, decoder: Decoder) -> NativePolicy:
        """See `TokenPolicy`."""
        tokens = decoder.verify_tokens if self.tokens is None else self.tokens
        if not 0 <= tokens <= decoder.verify_tokens:
            raise EngineError(
                "a draft cannot have so many tokens",
                expected=f"0..{decoder.verify_tokens}",
                actual=tokens,
            )
        raw = decoder_abi.SpeculativePolicy(
            decoder.path_index(self.draft), decoder.path_index(self.verify), tokens, self.confidence
        )
        return use("nst_speculative_policy_use", raw)


@dataclass(frozen=True)
class TokenRate(TokenPolicy):
    """The largest path that keeps a rate, by costs that are measured on the way.

    Args:
        tokens_per_second: The rate.
        horizon: Time that is left over may be spent within so many tokens.
    """

    tokens_per_second: float
    horizon: int = 16

    def bind(self, decoder: Decoder) -> NativePolicy:
        """See `TokenPolicy`."""
        raw = decoder_abi.RatePolicy()
        costs = (abi.PolicyCost * len(decoder.path_names))()
        accepted = native.library().nst_rate_policy_init(
            byref(raw), costs, len(costs), self.tokens_per_second, self.horizon
        )
        bound = use("nst_rate_policy_use", raw, accepted)
        bound.keep.append(costs)
        return bound


@dataclass(frozen=True)
class Signals:
    """What a policy of one's own is told of a token.

    Attributes:
        generated: Tokens of this generation so far.
        token: The last one; that of the prompt at first.
        path: Name of the path that made it, or whose logits are looked at; None: the prompt.
        entropy_bits: Of the distribution that it was drawn from.
        confidence: The largest probability.
        margin: The same less the second largest.
        token_ns: Time that it took.
        elapsed_ns: Since the generation began.
    """

    generated: int
    token: int
    path: str | None
    entropy_bits: float
    confidence: float
    margin: float
    token_ns: int
    elapsed_ns: int


@dataclass(frozen=True)
class Choice:
    """How the next token is made.

    Attributes:
        path: Name of the path.
        steering: Vectors that are added to its stream, by their numbers; see
            `Decoder.set_steering`.
        soft_tokens: Not 0: the mean of so many likeliest tokens is fed in the place of the last
            one; at most 16, and not for the first token of a generation.
        token: The token that it is, whatever the logits say; None: it is drawn.
    """

    path: str
    steering: tuple[int, ...] = ()
    soft_tokens: int = 0
    token: int | None = None


@dataclass(frozen=True)
class LayerInput:
    """What `CustomPolicy.route` is told where a token comes to a layer.

    Attributes:
        layer: Its number, from 0.
        layers: Of the model.
        levels: Of its feed-forward: widths from 1 up.
        path_level: That the path has here.
        skippable: Whether it may be left out.
        stream: The residual stream, float32 (dim,), a copy.
    """

    layer: int
    layers: int
    levels: int
    path_level: int
    skippable: bool
    stream: npt.NDArray[np.float32]


class CustomPolicy(TokenPolicy):
    """A policy written in Python; override `choose`, and `accept` or `route` where it matters."""

    @abstractmethod
    def choose(self, last: Signals) -> str | Choice:
        """Return the name of the path that makes the next token, or more about it."""

    def accept(self, now: Signals) -> str | None:
        """Return None to draw from these logits, or a path to compute the token with instead."""
        return None

    def route(self, at: LayerInput) -> int:
        """Return the level of a layer's feed-forward, 0: the layer is left out (PROPAGATE).

        Only a class that overrides it has its tokens routed.
        """
        return at.path_level

    def bind(self, decoder: Decoder) -> NativePolicy:
        """See `TokenPolicy`."""
        names = decoder.path_names
        bound = NativePolicy(decoder_abi.TokenPolicy())

        def told(raw: decoder_abi.TokenSignals) -> Signals:
            return Signals(
                raw.generated,
                raw.token,
                None if raw.path == decoder_abi.NO_PATH else names[raw.path],
                raw.logits.entropy_bits,
                raw.logits.confidence,
                raw.logits.margin,
                raw.token_ns,
                raw.elapsed_ns,
            )

        # An exception cannot pass through C: a path that does not exist ends the generation.
        def choose(_: object, last: Sequence[decoder_abi.TokenSignals], out: object) -> None:
            choice = out[0]  # type: ignore[index]
            try:
                chosen = self.choose(told(last[0]))
                if isinstance(chosen, Choice):
                    choice.steering = mask(chosen.steering)
                    choice.soft_tokens = chosen.soft_tokens
                    choice.forced = chosen.token is not None
                    choice.token = chosen.token or 0
                choice.path = decoder.path_index(
                    chosen.path if isinstance(chosen, Choice) else chosen
                )
            except BaseException as error:
                bound.failure = error
                choice.path = decoder_abi.NO_PATH

        def accept(_: object, now: Sequence[decoder_abi.TokenSignals]) -> int:
            try:
                name = self.accept(told(now[0]))
                return decoder_abi.NO_PATH if name is None else decoder.path_index(name)
            except BaseException as error:
                bound.failure = error
                return len(names)

        def route(_: object, raw: Sequence[decoder_abi.LayerInput]) -> int:
            at = raw[0]
            try:
                stream = np.ctypeslib.as_array(at.stream, shape=(at.dim,)).copy()
                level = self.route(
                    LayerInput(
                        at.layer, at.layers, at.levels, at.path_level, bool(at.skippable), stream
                    )
                )
                return level if 0 <= level <= at.levels else decoder_abi.NO_PATH
            except BaseException as error:
                bound.failure = error
                return decoder_abi.NO_PATH

        bound.raw.choose = decoder_abi.Choose(choose)
        bound.raw.accept = decoder_abi.Accept(accept)
        if type(self).route is not CustomPolicy.route:
            bound.raw.route = decoder_abi.Route(route)
        return bound


class Changeable(TokenPolicy):
    """Another policy, which may be replaced while a generation goes on, from any thread.

    Args:
        policy: The first one.

    Attributes:
        policy: The one that chooses the next token; set it to change.
    """

    def __init__(self, policy: TokenPolicy) -> None:
        self.policy = policy

    def bind(self, decoder: Decoder) -> NativePolicy:
        """See `TokenPolicy`; a policy that replaces another one is bound when it is first used."""
        bound = NativePolicy(decoder_abi.TokenPolicy())
        self.policy.prepare(decoder)
        current = [(self.policy, self.policy.bind(decoder))]

        def now() -> NativePolicy:
            if current[0][0] is not self.policy:
                policy = self.policy
                policy.prepare(decoder)
                current[0] = policy, policy.bind(decoder)
            return current[0][1]

        # As in `CustomPolicy`: an exception cannot pass through C.
        def choose(_: object, last: object, out: object) -> None:
            try:
                inner = now()
                inner.raw.choose(inner.raw.self, last, out)
                bound.failure = inner.raised()
            except BaseException as error:
                bound.failure = error
                out[0].path = decoder_abi.NO_PATH  # type: ignore[index]

        def accept(_: object, signals: object) -> int:
            inner = current[0][1]
            if not inner.raw.accept:
                return decoder_abi.NO_PATH
            path: int = inner.raw.accept(inner.raw.self, signals)
            bound.failure = inner.raised()
            return path

        def route(_: object, at: Any) -> int:
            inner = current[0][1]
            if not inner.raw.route:
                return int(at[0].path_level)
            level: int = inner.raw.route(inner.raw.self, at)
            bound.failure = inner.raised()
            return level

        bound.raw.choose = decoder_abi.Choose(choose)
        bound.raw.accept = decoder_abi.Accept(accept)
        if current[0][1].raw.route:
            bound.raw.route = decoder_abi.Route(route)
        return bound


def use(
    function: str,
    state: ctypes.Structure,
    accepted: bool = True,
    *inner: NativePolicy,
) -> NativePolicy:
    """Return the policy whose memory is `state`, which may stand around others.

    Raises:
        EngineError: The library has not accepted its parameters.
    """
    if not accepted:
        raise EngineError("a parameter of the policy is out of its range")
    raw = getattr(native.library(), function)(byref(state))
    return NativePolicy(raw, [state], inner=inner)


def mask(vectors: Sequence[int]) -> int:
    """Return steering vectors as bits.

    Raises:
        EngineError: One is none of 0 to 31.
    """
    if not all(0 <= vector < decoder_abi.STEERING_MAX for vector in vectors):
        raise EngineError(
            "there is no such steering vector",
            expected=f"0..{decoder_abi.STEERING_MAX - 1}",
            actual=list(vectors),
        )
    return sum(1 << vector for vector in set(vectors))


def as_policy(policy: TokenPolicy | str | None, decoder: Decoder) -> TokenPolicy:
    """Return a policy; a name stands for always that path, None for always the largest."""
    if isinstance(policy, TokenPolicy):
        return policy
    return FixedPath(policy or decoder.path_names[-1])


def path_of(name: str, names: Sequence[str]) -> int:
    """Return the number of a path.

    Raises:
        PathError: There is none of that name.
    """
    try:
        return list(names).index(name)
    except ValueError:
        raise PathError(
            f"the decoder has no path {name!r}", hint=f"it has {', '.join(names)}"
        ) from None
