"""Routers: small feed-forward, big feed-forward or no layer at all, for each layer and token.

Source: Alizadeh et al., "Duo-LLM: a framework for studying adaptive computation", arXiv:2410.10846.
A router sees the residual stream while the token runs. Layers that it leaves out get keys and
values of the stream that passes them (PROPAGATE).
"""

from __future__ import annotations

import ctypes
import zipfile
from collections.abc import Sequence
from ctypes import byref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nestling_runtime import decoder_abi, native
from nestling_runtime.errors import EngineError
from nestling_runtime.token_policy import NativePolicy, TokenPolicy, use

if TYPE_CHECKING:
    from nestling_runtime.decoder import Decoder

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class RouteChoice(TokenPolicy):
    """One router for all layers behind the core: the route of the least predicted loss and cost.

    It predicts `output(silu(hidden(x / rms(x))))` from the stream at the first layer that a route
    names, and takes the route of the least `loss + price * cost`; as `nestling.language.router`
    trains it and `nestling.language.router.export_router` writes it.

    Args:
        hidden_weight: float32 (hidden, dim).
        hidden_bias: float32 (hidden,).
        output_weight: float32 (routes, hidden).
        output_bias: float32 (routes,).
        costs: Of each route, float32 (routes,), in any unit.
        levels: uint8 (routes, layers): of the model's last layers, 0 to leave one out, or the level
            of its feed-forward.
        price: Loss that a unit of cost is worth.
        path: Name of the path whose layers are routed; None: the largest.
    """

    hidden_weight: npt.ArrayLike
    hidden_bias: npt.ArrayLike
    output_weight: npt.ArrayLike
    output_bias: npt.ArrayLike
    costs: npt.ArrayLike
    levels: npt.ArrayLike
    price: float = 0.0
    path: str | None = None

    @classmethod
    def load(cls, file: Path, price: float | None = None, path: str | None = None) -> RouteChoice:
        """Read a router that `nestling.language.router.export_router` wrote.

        Args:
            file: An .npz file.
            price: Another one than the file's.
            path: See the class.

        Raises:
            EngineError: The file is none of a router, or cannot be read.
        """
        names = ("hidden_weight", "hidden_bias", "output_weight", "output_bias", "costs", "levels")
        try:
            with np.load(file, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in names}
                own_price = float(stored["price"])
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise EngineError(f"{file} holds no router", hint=str(error)) from error
        return cls(**arrays, price=own_price if price is None else price, path=path)

    def bind(self, decoder: Decoder) -> NativePolicy:
        """See `TokenPolicy`."""
        if np.ndim(self.hidden_weight) != 2 or np.ndim(self.levels) != 2:
            raise EngineError("the router does not match the model", expected="matrices")
        hidden, dim = np.shape(self.hidden_weight)
        routes, layers = np.shape(self.levels)
        shapes = {
            "hidden_weight": (hidden, decoder.stream_dim),
            "hidden_bias": (hidden,),
            "output_weight": (routes, hidden),
            "output_bias": (routes,),
            "costs": (routes,),
        }
        arrays = [_floats(name, getattr(self, name), shape) for name, shape in shapes.items()]
        levels = np.ascontiguousarray(self.levels, dtype=np.uint8)
        scratch = np.zeros(hidden, dtype=np.float32)
        if layers > decoder.layers:
            raise EngineError(
                "the router does not match the model", expected=decoder.layers, actual=layers
            )
        raw = decoder_abi.RoutePolicy(
            decoder.path_index(self.path or decoder.path_names[-1]),
            dim,
            hidden,
            routes,
            layers,
            self.price,
            *(_pointer(array) for array in arrays),
            levels.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8)),
            _pointer(scratch),
        )
        bound = use("nst_route_policy_use", raw, native.library().nst_route_policy_init(byref(raw)))
        bound.keep += [*arrays, levels, scratch]
        return bound


@dataclass(frozen=True, eq=False)
class LayerRouting(TokenPolicy):
    """A linear router at each layer: the level of the largest `weight @ x / rms(x) + bias`.

    Args:
        weights: Of each layer, float32 (levels, dim), where level 0 leaves the layer out and counts
            only where that may be; None: the path's own level.
        biases: Of each layer, float32 (levels,); None where there is no weight.
        path: Name of the path whose layers are routed; None: the largest.
    """

    weights: Sequence[npt.ArrayLike | None]
    biases: Sequence[npt.ArrayLike | None]
    path: str | None = None

    def bind(self, decoder: Decoder) -> NativePolicy:
        """See `TokenPolicy`."""
        layers = decoder.layers
        if not len(self.weights) == len(self.biases) == layers <= decoder_abi.ROUTE_LAYERS_MAX:
            raise EngineError(
                "the routers do not match the model",
                expected=f"{layers} layers, of {decoder_abi.ROUTE_LAYERS_MAX} at most",
                actual=len(self.weights),
            )
        raw = decoder_abi.LayerRoutePolicy(
            decoder.path_index(self.path or decoder.path_names[-1]), decoder.stream_dim, layers
        )
        arrays: list[Array] = []
        for router, weight, bias in zip(raw.routers, self.weights, self.biases, strict=False):
            if weight is None or bias is None:
                continue
            levels = len(np.asarray(bias))
            arrays.append(_floats("weight", weight, (levels, decoder.stream_dim)))
            router.weight = _pointer(arrays[-1])
            arrays.append(_floats("bias", bias, (levels,)))
            router.bias = _pointer(arrays[-1])
            router.levels = levels
        accepted = native.library().nst_layer_route_policy_init(byref(raw))
        bound = use("nst_layer_route_policy_use", raw, accepted)
        bound.keep += arrays
        return bound


def _floats(name: str, values: npt.ArrayLike, shape: tuple[int, ...]) -> Array:
    array = np.ascontiguousarray(values, dtype=np.float32)
    if array.shape != shape:
        raise EngineError(
            f"the router's {name} does not match the model", expected=shape, actual=array.shape
        )
    return array


def _pointer(array: Array) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
