"""Streams of images with their channels innermost, as convolution kernels of mobile CPUs want them.

A program that takes images in torch's order begins and ends with a transposition. Between stages
nobody looks at the stream, so there it may as well stay in the kernels' order: a chain of stages
then transposes once, like a path that was lowered in one piece. What the model takes and gives is
left as it is.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from nestling.partition.cut import Cut, StageCut, StageKey

IMAGE_RANK = 4
"""Dimensions of a stream of images: batch, channels, height, width."""


class ChannelsInnermost(nn.Module):
    """A stem that gives its stream with the channels innermost.

    Args:
        stem: ``(image, ...) -> stream`` made of operators that keep their input's order.
    """

    def __init__(self, stem: nn.Module) -> None:
        super().__init__()
        self.stem = stem

    def forward(self, image: Tensor, *others: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Run the stem on the image in the other order."""
        # Not `contiguous`: that becomes a copy that no delegate takes.
        y: Tensor | tuple[Tensor, ...] = self.stem(
            image.to(memory_format=torch.channels_last), *others
        )
        return y


class ChannelsOutermost(nn.Module):
    """A head whose output is an image, given back in torch's order."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, *inputs: Tensor) -> Tensor:
        """Run the head and put its output into the other order."""
        y: Tensor = self.head(*inputs)
        return y.to(memory_format=torch.contiguous_format)


def keep_channels_innermost(pieces: Cut) -> Cut:
    """Let the stages of a network of images hand each other images with channels innermost.

    Args:
        pieces: of any network; without a stream of images they are returned as they are.

    Returns:
        Stages that compute the same; the tensors between them differ in memory order alone.
    """
    if not pieces.streams or any(stream.dim() != IMAGE_RANK for stream in pieces.streams):
        return pieces
    head = len(pieces.positions) - 1
    stages = {key: _convert(key, stage, pieces, head) for key, stage in pieces.stages.items()}
    streams = tuple(s.to(memory_format=torch.channels_last) for s in pieces.streams)
    return replace(pieces, stages=stages, streams=streams)


def _convert(key: StageKey, stage: StageCut, pieces: Cut, head: int) -> StageCut:
    if key.position == 0:
        return replace(stage, module=ChannelsInnermost(stage.module).eval())
    module = stage.module
    if key.position == head and pieces.output.dim() == IMAGE_RANK:
        module = ChannelsOutermost(module).eval()
    return replace(
        stage, module=module, example_inputs=tuple(map(_innermost, stage.example_inputs))
    )


def _innermost(tensor: Tensor) -> Tensor:
    image = tensor.dim() == IMAGE_RANK
    return tensor.to(memory_format=torch.channels_last) if image else tensor
