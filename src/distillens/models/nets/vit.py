"""A vision transformer (Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words"), with norms before attention and MLP.

The defaults make a small one for 32×32 images (65 tokens); patch 16, width 192, depth 12, heads 3 is DeiT-tiny (Touvron et al. 2021).

Taps: `patches` (B, width, h, w), `blocks.0` … (B, tokens, width; token 0 is the class token), `norm`, `classifier`. Attention is written out so
that its parts can be tapped: `blocks.0.attention.query`, `.key`, `.value` (B, tokens, width), `.scores` (B, heads, tokens, tokens) before
and `.weights` after the softmax.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from distillens.errors import InputError
from distillens.models.nets.base import Shape, whole


class Attention(nn.Module):
    """Multi-head self-attention: (B, N, width) → (B, N, width)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.scores = nn.Identity()
        self.weights = nn.Softmax(dim=-1)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self._split(part(x)) for part in (self.query, self.key, self.value))
        weights = self.weights(self.scores(q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5))
        out: Tensor = self.project((weights @ v).transpose(1, 2).flatten(2))
        return out

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)  # (B, heads, N, width / heads)


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class ViT(nn.Module):
    """(B, C, H, W) → (B, outputs) from the class token."""

    def __init__(self, shape: Shape, patch: int, width: int, depth: int, heads: int, hidden: int, outputs: int) -> None:
        super().__init__()
        channels, height, breadth = shape
        self.patches = nn.Conv2d(channels, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.zeros(1, 1 + (height // patch) * (breadth // patch), width))
        self.blocks = nn.Sequential(*(TransformerBlock(width, heads, hidden) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.classifier = nn.Linear(width, outputs)
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.trunc_normal_(part.weight, std=0.02)
                nn.init.zeros_(part.bias)
        nn.init.trunc_normal_(self.token, std=0.02)
        nn.init.trunc_normal_(self.position, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), tokens], dim=1) + self.position
        out: Tensor = self.classifier(self.norm(self.blocks(tokens))[:, 0])
        return out


@dataclass(frozen=True)
class ViTSettings:
    """`{kind: vit, patch: 4, width: 192, depth: 6, heads: 3, mlp_ratio: 4}` of a recipe. patch divides height and width; heads divides width."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    kind: Literal["vit"] = "vit"
    patch: int = 4
    width: int = 192
    depth: int = 6
    heads: int = 3
    mlp_ratio: int = 4

    def __post_init__(self) -> None:
        for name in ("patch", "width", "depth", "heads", "mlp_ratio"):
            whole(getattr(self, name), name=name)
        if self.width % self.heads:
            raise InputError(f"heads must divide width; {self.heads} does not divide {self.width}.")

    def build(self, shape: Shape, outputs: int) -> ViT:
        """InputError when the patch does not divide the image."""
        if shape[1] % self.patch or shape[2] % self.patch:
            raise InputError(
                f"The patch {self.patch} must divide height and width; the images are {shape[1]}×{shape[2]}."
            )
        hidden = self.mlp_ratio * self.width
        return ViT(shape, self.patch, self.width, self.depth, self.heads, hidden, outputs)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
