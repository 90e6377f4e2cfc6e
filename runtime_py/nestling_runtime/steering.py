"""Steering: vectors added to the residual stream, token by token.

A direction in the stream that a layer reads stands for a manner, such as thinking at length; adding
it, or its opposite, changes the manner without training (activation addition, arXiv:2308.10248;
efficiency steering of reasoning, arXiv:2506.15647)::

    briefly = SteeringVector(layer=4, vector=-0.8 * long_winded)
    decoder.generate(Steering([briefly], "full"))
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from ctypes import byref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nestling_runtime import decoder_abi, native
from nestling_runtime.errors import EngineError
from nestling_runtime.token_policy import NativePolicy, TokenPolicy, as_policy, mask, use

if TYPE_CHECKING:
    from nestling_runtime.decoder import Decoder


@dataclass(frozen=True)
class SteeringVector:
    """A vector that is added to the residual stream.

    Attributes:
        layer: At whose input, from 0. A token that leaves the layer out does not get it.
        vector: (stream_dim,), its strength included.
    """

    layer: int
    vector: npt.ArrayLike


@dataclass(frozen=True)
class Steering(TokenPolicy):
    """Another policy whose tokens are steered, all of them or those behind an uncertain one.

    Sets the decoder's vectors from number 0 on, see `Decoder.set_steering`.

    Args:
        vectors: At most 32, which are added together.
        inner: Picks the paths; a name: always that path; None: the largest.
        entropy_bits: Steer a token where the entropy that the one before it was drawn from is at
            least this; 0: every token.
    """

    vectors: Sequence[SteeringVector]
    inner: TokenPolicy | str | None = None
    entropy_bits: float = 0.0

    @classmethod
    def load(
        cls,
        file: Path,
        inner: TokenPolicy | str | None = None,
        entropy_bits: float = 0.0,
        scale: float = 1.0,
    ) -> Steering:
        """Read vectors from an .npz file, whose arrays are called `layer0`, `layer1` and so on.

        Args:
            file: What it is called.
            inner: See the class.
            entropy_bits: See the class.
            scale: By which they are multiplied.

        Raises:
            EngineError: The file holds no such vectors, or cannot be read.
        """
        try:
            with np.load(file, allow_pickle=False) as stored:
                vectors = [
                    SteeringVector(int(name.removeprefix("layer")), scale * stored[name])
                    for name in stored.files
                ]
        except (OSError, ValueError, TypeError, zipfile.BadZipFile) as error:
            raise EngineError(f"{file} holds no steering vectors", hint=str(error)) from error
        return cls(vectors, inner, entropy_bits)

    def prepare(self, decoder: Decoder) -> None:
        """See `TokenPolicy`."""
        mask(range(len(self.vectors)))
        for index, one in enumerate(self.vectors):
            decoder.set_steering(index, one.layer, one.vector)
        as_policy(self.inner, decoder).prepare(decoder)

    def bind(self, decoder: Decoder) -> NativePolicy:
        """See `TokenPolicy`."""
        inner = as_policy(self.inner, decoder).bind(decoder)
        raw = decoder_abi.SteeringPolicy()
        accepted = native.library().nst_steering_policy_init(
            byref(raw), byref(inner.raw), mask(range(len(self.vectors))), self.entropy_bits
        )
        return use("nst_steering_policy_use", raw, accepted, inner)
