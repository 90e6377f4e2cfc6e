"""From a decoder to a bundle that generates: cut, quantise, lower, pack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from nestling.bundle.manifest import Note
from nestling.chain_export import ChainExportReport, export_chain
from nestling.elastic.families.llama import ElasticLlama
from nestling.elastic.subnet import Subnet
from nestling.experts.index import Predictor
from nestling.experts.predictor import fit_predictors
from nestling.experts.routing import record_routing
from nestling.experts.slices import F32, ExpertFormat
from nestling.partition.decoder import DecoderCut, DecoderShape, cut_decoder
from nestling.quantize.schemes import get_scheme
from nestling.targets.pool import Progress

TOKENIZER_SECTION = "tokenizer.json"
"""Data section that holds a tokenizer of the `tokenizers` package; absent: tokens are bytes."""


def export_decoder(
    supernet: ElasticLlama,
    out_path: Path,
    *,
    scheme: str = "fp32",
    shape: DecoderShape | None = None,
    paths: Mapping[str, Subnet] | None = None,
    tokenizer: bytes | None = None,
    meta: Mapping[str, Note] | None = None,
    quality: Mapping[str, Mapping[str, float]] | None = None,
    experts: ExpertFormat = F32,
    calibration: Tensor | None = None,
    jobs: int = 2,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
    name: str | None = None,
) -> ChainExportReport:
    """Export a decoder that generates token by token, any path at each.

    Args:
        supernet: trained; left unchanged.
        out_path: the bundle to write.
        scheme: `fp32`, `int8-dynamic` or `int4-group32`.
        shape: tokens of a session and of a run; default `DecoderShape()`.
        paths: named subnets, small to large; default `supernet.space.named`.
        tokenizer: `tokenizer.json`; without one, tokens are bytes.
        meta: notes to add.
        quality: figures of each path.
        experts: how routed experts are stored, whatever the scheme.
        calibration: int64 (windows, tokens), real text on which predictors of experts are fitted,
            in windows of the supernet's positions at most; without it there are none.
        jobs: processes that lower at once.
        cache_dir: of lowered programs.
        progress: told about each finished stage.
        name: of the model; default the file's stem.

    Raises:
        ModelError: the model cannot be cut so.
        ExportError: unknown scheme, or a stage cannot be lowered.
    """
    chosen = get_scheme(scheme)
    named = dict(paths or supernet.space.named)
    pieces = cut_decoder(supernet, chosen, shape, named)
    report = export_chain(
        pieces,
        out_path,
        family=supernet.family,
        experts=experts,
        predictors=() if calibration is None else _fit_predictors(supernet, pieces, calibration),
        meta={"decoder.context": pieces.shape.context, **(meta or {})},
        quality=quality,
        data=None if tokenizer is None else {TOKENIZER_SECTION: tokenizer},
        jobs=jobs,
        cache_dir=cache_dir,
        progress=progress,
        name=name,
    )
    return replace(report, paths=tuple(named))


def _fit_predictors(
    supernet: ElasticLlama, pieces: DecoderCut, text: Tensor
) -> list[Predictor | None]:
    """Run the full network over text, and fit on what its expert layers did."""
    before, training = supernet.active, supernet.training
    supernet.eval()
    try:
        with torch.no_grad(), record_routing(supernet) as calls:
            for window in text:
                supernet(window[None], subnet=supernet.space.full())
    finally:
        supernet.select(before)
        supernet.train(training)
    return fit_predictors(pieces.experts, calls)
