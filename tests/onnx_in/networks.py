"""Networks in plain torch as other people write them, and their ONNX files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from elastic.samples import randomise
from torch import Tensor, nn

from nestling.targets.onnx.convert import convert
from nestling.targets.quiet import quiet


@dataclass(frozen=True)
class Network:
    """A network and inputs, two examples."""

    module: nn.Module
    inputs: tuple[Tensor, ...]
    names: tuple[str, ...]

    @property
    def example(self) -> tuple[Tensor, ...]:
        return tuple(value[:1] for value in self.inputs)

    @torch.no_grad()
    def outputs(self) -> Tensor:
        return self.module(*self.inputs)


class InvertedResidual(nn.Module):
    """As in MobileNetV2; `same` pads unevenly, as TensorFlow does."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, *, same: bool = False) -> None:
        super().__init__()
        hidden = 3 * inputs
        pad = nn.ZeroPad2d((0, 1, 0, 1)) if same else nn.Identity()
        self.adds = stride == 1 and inputs == outputs
        self.body = nn.Sequential(
            nn.Conv2d(inputs, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(),
            pad,
            nn.Conv2d(hidden, hidden, 3, stride, 0 if same else 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return x + y if self.adds else y


class Residual(nn.Module):
    """As in ResNet: two convolutions, or three with the middle one narrower."""

    def __init__(self, channels: int, *, bottleneck: bool) -> None:
        super().__init__()
        inner = channels // 2 if bottleneck else channels
        layers: list[nn.Module] = []
        if bottleneck:
            layers += [nn.Conv2d(channels, inner, 1), nn.BatchNorm2d(inner), nn.ReLU()]
        layers += [nn.Conv2d(inner, 2 * inner, 3, padding=1), nn.BatchNorm2d(2 * inner), nn.ReLU()]
        size = 1 if bottleneck else 3
        layers += [
            nn.Conv2d(2 * inner, channels, size, padding=size // 2),
            nn.BatchNorm2d(channels),
        ]
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.body(x))


class Classify(nn.Module):
    """The logits of a model of transformers."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> Tensor:
        if len(inputs) == 1:
            return self.model(*inputs).logits
        return self.model(input_ids=inputs[0], attention_mask=inputs[1]).logits


class Encoder(nn.Module):
    """Torch's own transformer layers, which keep positions before examples inside."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 4, 32, 0.0, batch_first=True, norm_first=True)
        self.first = nn.Linear(6, 16)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.last = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layers(self.first(x)).mean(1))


class Mixing(nn.Module):
    """An encoder whose answers depend on the other examples of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()

    def forward(self, x: Tensor) -> Tensor:
        y = self.encoder(x)
        return y * y.sum(0, keepdim=True)


class UNet(nn.Module):
    """Two residual blocks with a connection around the second."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.blocks = nn.ModuleList(InvertedResidual(8, 8) for _ in range(2))
        self.last = nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks[0](self.first(x))
        return self.last(torch.cat((x, self.blocks[1](x)), dim=1))


def build_cnn() -> Network:
    module = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        InvertedResidual(8, 8),
        InvertedResidual(8, 12, 2, same=True),
        InvertedResidual(12, 12),
        nn.Conv2d(12, 16, 1),
        nn.Hardswish(),
        InvertedResidual(16, 16),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )
    return _network(module, (torch.randn(2, 1, 8, 8),), ("pixels",))


def build_resnet() -> Network:
    module = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        Residual(8, bottleneck=False),
        nn.Conv2d(8, 16, 3, 2, padding=1),
        Residual(16, bottleneck=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 5),
    )
    return _network(module, (torch.randn(2, 1, 8, 8),), ("pixels",))


def build_vit() -> Network:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        image_size=8,
        patch_size=4,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=32,
        num_channels=1,
        num_labels=10,
    )
    module = Classify(ViTForImageClassification(config))
    return _network(module, (torch.randn(2, 1, 8, 8),), ("pixels",))


def build_bert() -> Network:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=20,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=32,
        max_position_embeddings=8,
    )
    tokens = torch.randint(0, 20, (2, 7))
    mask = torch.ones_like(tokens)
    mask[:, 5:] = 0
    module = Classify(BertForSequenceClassification(config))
    return _network(module, (tokens, mask), ("tokens", "mask"))


def build_encoder() -> Network:
    return _network(Encoder(), (torch.randn(2, 5, 6),), ("x",))


def build_unet() -> Network:
    return _network(UNet(), (torch.randn(2, 1, 4, 4),), ("x",))


def build_mixing() -> Network:
    return _network(Mixing(), (torch.randn(2, 5, 6),), ("x",))


BUILDERS: dict[str, Callable[[], Network]] = {
    "bert": build_bert,
    "cnn": build_cnn,
    "encoder": build_encoder,
    "mixing": build_mixing,
    "resnet": build_resnet,
    "unet": build_unet,
    "vit": build_vit,
}


def write_onnx(network: Network, path: Path, exporter: str) -> None:
    """Export with torch's exporter of today or with the one before, at its old operators."""
    names = list(network.names)
    if exporter == "dynamo":
        onnx.save(convert(network.module, network.example, names), path)
        return
    with quiet():
        torch.onnx.export(
            network.module, network.example, path, input_names=names, dynamo=False, opset_version=14
        )


def _network(module: nn.Module, inputs: tuple[Tensor, ...], names: tuple[str, ...]) -> Network:
    return Network(randomise(module), inputs, names)
