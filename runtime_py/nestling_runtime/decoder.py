"""Generating tokens: a conversation whose every token any path may make.

with nestling_runtime.open("model.nest") as model, model.decoder() as decoder:
    decoder.append(tokens)
    generation = decoder.generate(EntropySwitch("tiny", "full", threshold_bits=2.0))
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from ctypes import POINTER, byref, c_float, c_uint8, c_uint32, c_void_p
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from nestling_runtime import abi, decoder_abi, native
from nestling_runtime.closing import Handle
from nestling_runtime.errors import ContextError, EngineError
from nestling_runtime.token_policy import TokenPolicy, as_policy, mask, path_of

if TYPE_CHECKING:
    from nestling_runtime.engine import Model

Rule = Literal["keep", "recompute", "propagate"]


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn from logits.

    Attributes:
        temperature: 0 takes the most probable token.
        top_k: Only the k most probable tokens; 0: all.
        top_p: Only the most probable ones that together reach p; 0 or 1: all.
        seed: The same seed, prompt and policy give the same tokens.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Token:
    """A token that was made.

    Attributes:
        token: Its number.
        path: Name of the path whose logits it was drawn from.
        drafted: Whether it is a draft that was verified.
        entropy_bits: Of the distribution that it was drawn from.
        confidence: The largest probability.
        margin: The same less the second largest.
        token_ns: Time that it took.
        soft_tokens: Tokens whose mean was fed before it, in the place of the token before; 0: that
            token itself.
    """

    token: int
    path: str
    drafted: bool
    entropy_bits: float
    confidence: float
    margin: float
    token_ns: int
    soft_tokens: int = 0


@dataclass(frozen=True)
class Generation:
    """What a generation gave.

    Attributes:
        tokens: What was made, in order.
        reason: "length", "token" (a stop token), "text" (a stop text) or "caller" (`on_token`).
        prompt_tokens: Tokens that had to be computed before the first one.
        prompt_ns: Time that they took.
        generate_ns: Time of all the rest.
        switches: Tokens made by another path than the one before.
        drafted: Tokens that were drafted.
        accepted: Drafts that were right.
        second_runs: Times that a path was tried that was not sure.
    """

    tokens: tuple[Token, ...]
    reason: str
    prompt_tokens: int
    prompt_ns: int
    generate_ns: int
    switches: int
    drafted: int
    accepted: int
    second_runs: int

    @property
    def token_ids(self) -> list[int]:
        """Numbers of the tokens."""
        return [token.token for token in self.tokens]

    @property
    def tokens_per_second(self) -> float:
        """Of the generation alone; 0 where nothing was made."""
        return len(self.tokens) * 1e9 / self.generate_ns if self.generate_ns else 0.0

    def share(self, path: str) -> float:
        """Return the share of tokens that a path has made."""
        return sum(t.path == path for t in self.tokens) / max(1, len(self.tokens))


@dataclass(frozen=True)
class DecoderState:
    """What a decoder holds.

    Attributes:
        tokens: Of the conversation.
        computed_tokens: Whose keys and values are there.
        cache_bytes: Of all caches when full; memory is taken as they fill.
        token_bytes: Of one token's keys and values.
        computed: Tokens that runs have computed so far.
        recomputed: Those among them that another path had computed before.
        resumed: Those that went on from what an exit had kept.
        macs: Multiply-accumulates of all stages that have run.
    """

    tokens: int
    computed_tokens: int
    cache_bytes: int
    token_bytes: int
    computed: int
    recomputed: int
    resumed: int
    macs: int


@dataclass
class _StopText:
    """Stop texts as the library takes them, with the memory that they point into."""

    raw: decoder_abi.StopText
    keep: list[object] = field(default_factory=list)


class Decoder(Handle):
    """One conversation; made by `Model.decoder`. A context manager.

    Calls from several threads take turns. `cancel` may be called from any thread at any time.

    Args:
        model: An open model.
        vocabulary: The text of every token, for stop texts; default: token n is byte n.
    """

    _kind = "decoder"

    def __init__(self, model: Model, vocabulary: Sequence[bytes] | None = None) -> None:
        self._model = model
        self._lock = threading.RLock()
        self._handle = handle = self._create()
        info = decoder_abi.DecoderInfo()
        native.call("nst_decoder_describe", handle, byref(info))
        self.vocabulary_size: int = info.vocabulary
        self.context_tokens: int = info.context_tokens
        self.verify_tokens: int = info.verify_tokens
        self.layers: int = info.layers
        self.stream_dim: int = info.stream_dim
        name = native.library().nst_decoder_path_name
        self.path_names: tuple[str, ...] = tuple(
            name(handle, index).decode() for index in range(info.paths)
        )
        self._vocabulary = [bytes([i % 256]) for i in range(self.vocabulary_size)]
        if vocabulary is not None:
            self._vocabulary = [*vocabulary, *[b""] * (self.vocabulary_size - len(vocabulary))]
        if len(self._vocabulary) > self.vocabulary_size:
            native.library().nst_decoder_destroy(handle)
            self._handle = None
            raise EngineError(
                "the tokenizer does not match the model",
                expected=f"at most {self.vocabulary_size} tokens",
                actual=len(self._vocabulary),
            )

    def _create(self) -> int | None:
        """Return the native decoder."""
        handle = c_void_p()
        native.call("nst_decoder_create", self._model.handle, byref(handle))
        return handle.value

    def path_index(self, name: str) -> int:
        """Return the number of a path.

        Raises:
            PathError: There is none of that name.
        """
        return path_of(name, self.path_names)

    def load(self, *paths: str) -> None:
        """Load every stage of these paths (default: all), so that no token waits for one.

        Raises:
            PathError: No such path.
            BudgetError: They do not fit into the memory budget.
        """
        with self._lock:
            for path in paths or self.path_names:
                native.call("nst_decoder_load", self.handle, self.path_index(path))

    def append(self, tokens: Sequence[int] | npt.NDArray[Any]) -> None:
        """Put tokens at the end of the conversation; they are computed when they are needed.

        Raises:
            ContextError: There is no room for all of them; none was taken.
            EngineError: A token is not of the vocabulary.
        """
        values = np.asarray(tokens, dtype=np.int64).reshape(-1)
        if values.size and (values.min() < 0 or values.max() >= self.vocabulary_size):
            raise EngineError(
                "the prompt has a token that the vocabulary has not",
                expected=f"0..{self.vocabulary_size - 1}",
                actual=int(values.max() if values.min() >= 0 else values.min()),
            )
        array = (c_uint32 * len(values))(*values.tolist())
        with self._lock:
            self._call("nst_decoder_append", array, len(array))

    def rewind(self, count: int) -> None:
        """Forget all but the first `count` tokens; what is computed of those stays.

        Raises:
            EngineError: There are fewer tokens.
        """
        with self._lock:
            self._call("nst_decoder_rewind", count)

    @property
    def tokens(self) -> list[int]:
        """The conversation."""
        count = c_uint32()
        array = (c_uint32 * self.context_tokens)()
        with self._lock:
            self._call("nst_decoder_tokens", array, len(array), byref(count))
        return list(array[: count.value])

    def logits(self, path: str) -> npt.NDArray[np.float32]:
        """Return what a path says about the next token, (vocabulary,).

        Raises:
            PathError: No such path.
            EngineError: There are no tokens yet.
        """
        out = POINTER(c_float)()
        with self._lock:
            self._call("nst_decoder_logits", self.path_index(path), byref(out))
            return np.ctypeslib.as_array(out, shape=(self.vocabulary_size,)).copy()

    def set_rule(self, source: str, target: str, rule: Rule) -> None:
        """Say what becomes of the state that one path has written when another goes on from there.

        Args:
            source: Name of the path that wrote it.
            target: Name of the path that goes on.
            rule: "keep": it stays, for paths of the same layers. "recompute": the other path
                computes it anew, in few runs, when it runs next; exact. "propagate": `source` also
                fills the layers that it leaves out, from its last stream.

        Raises:
            PathError: The rule is not possible for this pair, or there is no such path.
        """
        numbers = self.path_index(source), self.path_index(target)
        with self._lock:
            self._call("nst_decoder_set_rule", *numbers, decoder_abi.RULES.index(rule))

    def rule(self, source: str, target: str) -> Rule:
        """Return the rule of a pair of paths; see `set_rule`."""
        out = c_uint32()
        numbers = self.path_index(source), self.path_index(target)
        with self._lock:
            self._call("nst_decoder_rule", *numbers, byref(out))
        return decoder_abi.RULES[out.value]  # type: ignore[return-value]

    def set_steering(self, index: int, layer: int, vector: npt.ArrayLike | None) -> None:
        """Say what a vector of steering is, or take it away.

        Args:
            index: Its number, 0 to 31, by which policies name it.
            layer: At whose input it is added to the residual stream, from 0.
            vector: (stream_dim,), copied; None: there is none any more.

        Raises:
            PathError: There is no such layer.
            EngineError: Another number of numbers, or one that is not finite.
        """
        mask([index])
        values = np.ascontiguousarray(() if vector is None else vector, dtype=np.float32)
        data = None if vector is None else values.ctypes.data_as(POINTER(c_float))
        with self._lock:
            self._call("nst_decoder_set_steering", index, layer, data, values.size)

    def generate(
        self,
        policy: TokenPolicy | str | None = None,
        *,
        max_tokens: int = 128,
        sampling: Sampling | None = None,
        prompt_path: str | None = None,
        prompt_steering: Sequence[int] = (),
        stop_tokens: Sequence[int] = (),
        stop_texts: Sequence[bytes | str] = (),
        on_token: Callable[[Token], object] | None = None,
    ) -> Generation:
        """Make tokens behind the conversation, which they become part of.

        After an error, a stop or a cancel the conversation holds what was made and can go on.

        Args:
            policy: Which path makes which token; a name: always that path; default: the largest.
            max_tokens: Stop behind so many.
            sampling: How to draw; default: the most probable token.
            prompt_path: Path that computes the prompt; default: the largest.
            prompt_steering: Vectors that are added to the prompt's stream, but for its last token.
            stop_tokens: Stop behind any of these.
            stop_texts: Stop when the text ends with one of these, each 1 to 64 bytes.
            on_token: Called with each token; a true result stops.

        Raises:
            ContextError: The context is full; the tokens that fit were made.
            PathError: The policy named a path that is not there.
            CancelledError: `cancel` was called.
            EngineError: There is no prompt, a parameter is out of its range, drafts with a
                temperature, or the engine failed.
        """
        chosen = as_policy(policy, self)
        chosen.prepare(self)
        bound = chosen.bind(self)
        text = self._stop_text(stop_texts)
        stops = (c_uint32 * len(stop_tokens))(*stop_tokens)
        how = sampling or Sampling()
        prompt = decoder_abi.NO_PATH if prompt_path is None else self.path_index(prompt_path)
        options = decoder_abi.GenerateOptions(
            max_tokens,
            prompt,
            decoder_abi.Sampling(how.temperature, how.top_k, how.top_p, 0, how.seed),
            stops,
            len(stops),
            mask(prompt_steering),
            ctypes.pointer(text.raw) if stop_texts else None,
        )
        made: list[Token] = []

        def take(_: object, raw: Any) -> int:
            token = self._token(raw[0])
            made.append(token)
            try:
                return 1 if on_token is not None and on_token(token) else 0
            except BaseException as error:  # cannot pass through C
                bound.failure = error
                return 1

        stats = decoder_abi.GenerateStats()
        callback = decoder_abi.OnToken(take)
        error = abi.Error()
        with self._lock:
            code = native.library().nst_decoder_generate(
                self.handle,
                byref(options),
                byref(bound.raw),
                callback,
                None,
                byref(stats),
                byref(error),
            )
        if (failure := bound.raised()) is not None:
            raise failure
        self._check(code, error)
        return Generation(
            tuple(made),
            decoder_abi.STOP_REASONS[stats.reason],
            stats.prompt_tokens,
            stats.prompt_ns,
            stats.generate_ns,
            stats.switches,
            stats.drafted,
            stats.accepted,
            stats.second_runs,
        )

    def cancel(self) -> None:
        """End the generation in progress, or the next one; the tokens that were made stay."""
        handle = self._handle
        if handle is not None:
            native.library().nst_decoder_cancel(handle)

    def state(self) -> DecoderState:
        """Return what the decoder holds."""
        raw = decoder_abi.DecoderState()
        with self._lock:
            self._call("nst_decoder_get_state", byref(raw))
        return DecoderState(
            raw.tokens,
            raw.computed_tokens,
            raw.cache_bytes,
            raw.token_bytes,
            raw.computed,
            raw.recomputed,
            raw.resumed,
            raw.macs,
        )

    def _token(self, raw: decoder_abi.Token) -> Token:
        signals = raw.logits
        return Token(
            raw.token,
            self.path_names[raw.path],
            bool(raw.drafted),
            signals.entropy_bits,
            signals.confidence,
            signals.margin,
            raw.token_ns,
            raw.soft_tokens,
        )

    def _stop_text(self, texts: Sequence[bytes | str]) -> _StopText:
        if not texts:
            return _StopText(decoder_abi.StopText())
        strings = [text.encode() if isinstance(text, str) else bytes(text) for text in texts]
        if not all(1 <= len(string) <= 64 for string in strings):
            raise EngineError("a stop text has 1 to 64 bytes")
        words, word_ends = _joined(self._vocabulary)
        data, ends = _joined(strings)
        raw = decoder_abi.StopText(words, word_ends, len(word_ends), len(ends), data, ends)
        return _StopText(raw, [words, word_ends, data, ends])

    def _call(self, name: str, *arguments: object) -> None:
        error = abi.Error()
        self._check(getattr(native.library(), name)(self.handle, *arguments, byref(error)), error)

    def _check(self, code: int, error: abi.Error) -> None:
        if code == abi.E_LIMIT:
            raise ContextError(
                error.message.decode(errors="replace"),
                expected=f"at most {error.expected} tokens",
                actual=error.actual,
                hint="rewind, or start another conversation",
            )
        native.check(code, error)

    def close(self) -> None:
        """Release the memory. Waits for a generation of another thread; may be called twice."""
        with self._lock:
            if self._handle is not None:
                handle, self._handle = self._handle, None
                native.library().nst_decoder_destroy(handle)
                self._model.child_closed()


def _joined(texts: Sequence[bytes]) -> tuple[Any, Any]:
    """Return texts one after the other, and where each ends."""
    joined = b"".join(texts)
    ends = np.cumsum([len(text) for text in texts]).tolist()
    return (c_uint8 * max(1, len(joined))).from_buffer_copy(joined or b"\0"), (
        c_uint32 * len(ends)
    )(*ends)
