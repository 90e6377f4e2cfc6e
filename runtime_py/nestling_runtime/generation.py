"""Generating text: a decoder with the tokenizer that its bundle carries.

    with nestling_runtime.open("model.nest") as model, TextGenerator(model) as generator:
        for piece in generator.write("Once upon a time", policy="full"):
            print(piece.text, end="")

The tokenizer is one of the package `tokenizers`, which is imported only for bundles that have one;
without, tokens are bytes.
"""

from __future__ import annotations

import codecs
import ctypes
import json
import queue
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from nestling_runtime import native
from nestling_runtime.closing import Closing
from nestling_runtime.decoder import Decoder, Generation, Sampling, Token
from nestling_runtime.errors import BundleError, EngineError, PathError

if TYPE_CHECKING:
    from nestling_runtime.decoder_pool import DecoderPool
    from nestling_runtime.engine import Model
    from nestling_runtime.token_policy import TokenPolicy

TOKENIZER_SECTION = "tokenizer.json"


class Tokenizer(Protocol):
    """Text to tokens, and tokens to bytes."""

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text."""

    def vocabulary(self) -> list[bytes]:
        """Return the bytes of every token."""


class ByteTokenizer:
    """Token n is byte n.

    Args:
        size: Tokens of the model.
    """

    def __init__(self, size: int = 256) -> None:
        self._size = min(size, 256)

    def encode(self, text: str) -> list[int]:
        """See `Tokenizer`."""
        return list(text.encode())

    def vocabulary(self) -> list[bytes]:
        """See `Tokenizer`."""
        return [bytes([value]) for value in range(self._size)]


class JsonTokenizer:
    """A `tokenizer.json`.

    Tokens of a byte-level one are the bytes that they stand for; those of other kinds are what they
    decode to alone.

    Args:
        data: The file's bytes.

    Raises:
        BundleError: The package `tokenizers` cannot read it.
    """

    def __init__(self, data: bytes) -> None:
        try:
            from tokenizers import Tokenizer as Loaded
        except ImportError as error:
            raise EngineError(
                "the bundle's tokenizer needs the package tokenizers",
                hint="install tokenizers, or give tokens instead of text",
            ) from error
        try:
            self._loaded: Any = Loaded.from_str(data.decode())
            decoder = json.loads(data).get("decoder") or {}
        except Exception as error:  # what the package raises has no class of its own
            raise BundleError(
                "the tokenizer cannot be read", section=TOKENIZER_SECTION, actual=str(error)
            ) from error
        self._bytes = _byte_alphabet() if decoder.get("type") == "ByteLevel" else None

    def encode(self, text: str) -> list[int]:
        """See `Tokenizer`."""
        return list(self._loaded.encode(text).ids)

    def vocabulary(self) -> list[bytes]:
        """See `Tokenizer`."""
        special = {t.content for t in self._loaded.get_added_tokens_decoder().values()}
        return [self._text(number, special) for number in range(self._loaded.get_vocab_size())]

    def _text(self, number: int, special: set[str]) -> bytes:
        name = self._loaded.id_to_token(number)
        if name is None:
            return b""
        if name in special:
            return str(name).encode()
        if self._bytes is not None and all(letter in self._bytes for letter in name):
            return bytes(self._bytes[letter] for letter in name)
        return str(self._loaded.decode([number])).encode()


def bundle_tokenizer(model: Model) -> Tokenizer:
    """Return the tokenizer that a bundle carries; bytes where it carries none.

    Raises:
        BundleError: The section is damaged, or not a tokenizer.
        EngineError: The package `tokenizers` is missing.
    """
    for index, section in enumerate(model.bundle.sections):
        if section.name == TOKENIZER_SECTION:
            handle = model.bundle.handle
            hash_ops = native.library().nst_platform_hash()
            native.call("nst_bundle_check_section", handle, index, hash_ops)
            start = handle.contents.data + section.offset_bytes
            return JsonTokenizer(ctypes.string_at(start, section.size_bytes))
    logits = next(slot for slot in model.bundle.slots if slot.name == "logits")
    return ByteTokenizer(logits.shape[-1])


@dataclass(frozen=True)
class Piece:
    """What one token adds to the text.

    Attributes:
        text: Whole characters; those of a token that ends within one come with the next token.
        token: The token; None for what is left at the end.
    """

    text: str
    token: Token | None


class TextGenerator(Closing):
    """A conversation in text. A context manager.

    Args:
        model: An open model whose bundle holds a decoder.
        pool: Of the same model, that has the conversation's caches; default: none.

    Attributes:
        decoder: The conversation in tokens.
        last: What the last finished generation gave; None while one goes on, or when it was left.
        unread: What was made of a generation that was left, and not yielded.
    """

    def __init__(self, model: Model, pool: DecoderPool | None = None) -> None:
        if not any(slot.name == "logits" for slot in model.bundle.slots):
            raise PathError("the bundle holds no decoder")
        self.tokenizer = bundle_tokenizer(model)
        self._words = self.tokenizer.vocabulary()
        self.decoder: Decoder = (model if pool is None else pool).decoder(self._words)
        self.last: Generation | None = None
        self.unread: list[Piece] = []

    def append(self, text: str) -> None:
        """Put a text at the end of the conversation.

        Raises:
            ContextError: It does not fit.
        """
        self.decoder.append(self.tokenizer.encode(text))

    def write(
        self,
        prompt: str = "",
        *,
        policy: TokenPolicy | str | None = None,
        max_tokens: int = 128,
        sampling: Sampling | None = None,
        stop: Sequence[str] = (),
        stop_tokens: Sequence[int] = (),
        stop_when: Callable[[Token], object] | None = None,
    ) -> Generator[Piece, None, None]:
        """Append a prompt and yield what the model writes behind it, as it is made.

        Leaving the loop early, or an exception in it, ends the generation behind the token that is
        being made; what was made stays in the conversation, see `unread`.

        Args:
            prompt: A text.
            policy: See `Decoder.generate`.
            max_tokens: Stop behind so many.
            sampling: How to draw; default: the most probable token.
            stop: Texts to stop at.
            stop_tokens: Tokens to stop behind.
            stop_when: Called with each token, on another thread; a true result stops.

        Raises:
            ContextError: The prompt does not fit, or the context is full.
            NestlingError: As `Decoder.generate`.
        """
        if prompt:
            self.append(prompt)
        made: queue.SimpleQueue[Token | BaseException | Generation] = queue.SimpleQueue()
        stopping = threading.Event()
        self.last = None
        self.unread = []

        def take(token: Token) -> bool:
            made.put(token)
            asked = stop_when is not None and bool(stop_when(token))
            return asked or stopping.is_set()

        def work() -> None:
            try:
                made.put(
                    self.decoder.generate(
                        policy,
                        max_tokens=max_tokens,
                        sampling=sampling,
                        stop_texts=stop,
                        stop_tokens=stop_tokens,
                        on_token=take,
                    )
                )
            except BaseException as error:  # raised again where the text is read
                made.put(error)

        thread = threading.Thread(target=work, name="nestling-generate")
        thread.start()
        decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        try:
            while True:
                item = made.get()
                if isinstance(item, Token):
                    yield Piece(decode(self._word(item)), item)
                    continue
                if isinstance(item, BaseException):
                    raise item
                self.last = item
                rest = decode(b"", True)
                if rest:
                    yield Piece(rest, None)
                return
        finally:
            stopping.set()
            thread.join()
            while not made.empty():
                rest_of = made.get()
                if isinstance(rest_of, Token):
                    self.unread.append(Piece(decode(self._word(rest_of)), rest_of))

    def _word(self, token: Token) -> bytes:
        return self._words[token.token] if token.token < len(self._words) else b""

    def close(self) -> None:
        """Release the memory."""
        self.decoder.close()


def _byte_alphabet() -> dict[str, int]:
    """Return the bytes that the characters of byte-level tokenizers stand for.

    Printable characters stand for themselves, those from U+0100 on for the other bytes in order.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [value for value in range(256) if value not in printable]
    alphabet = {chr(value): value for value in printable}
    alphabet.update({chr(0x100 + index): value for index, value in enumerate(others)})
    return alphabet
