"""A small Vision Transformer, and pictures to train it on that need no download: which quarter is the brightest?"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

SIZE, PATCH, CLASSES = 32, 8, 4


class ViT(nn.Module):
    """Patches, a class token, positions, a few pre-norm blocks, and a linear head: (N, 3, 32, 32) to (N, 4)."""

    def __init__(self, width: int = 64, depth: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, PATCH, PATCH)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(0.5 * torch.randn(1, 1 + (SIZE // PATCH) ** 2, width))
        block = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Give the logits of each image."""
        patches = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat((self.token.expand(len(images), -1, -1), patches), 1) + self.positions
        return self.head(self.norm(self.blocks(tokens))[:, 0])


class Quarters(Dataset[tuple[Tensor, int]]):
    """Noise with one brighter quarter, whose number is the label. The same index gives the same picture."""

    def __init__(self, length: int = 512) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        random = torch.Generator().manual_seed(index)
        image, label = 0.3 * torch.randn(3, SIZE, SIZE, generator=random), index % CLASSES
        top, left = SIZE // 2 * (label // 2), SIZE // 2 * (label % 2)
        image[:, top : top + SIZE // 2, left : left + SIZE // 2] += 2.0
        return image, label
