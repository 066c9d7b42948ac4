"""[payload] A Vision Transformer in plain torch: what anybody would write by hand, and nothing else to wait for."""

from __future__ import annotations

from typing import Any

__all__ = ["attend", "block_class", "run_blocks", "vit"]


def attend(torch: Any, query: Any, key: Any, value: Any, *, weights: bool = False, causal: bool = False) -> Any:
    """Attend by torch's own function, or by the formula when the weights are wanted or torch, before 2.0, has none.

    (batch, heads, tokens, width) in and out.
    """
    own = getattr(torch.nn.functional, "scaled_dot_product_attention", None)
    if own is not None and not weights:
        return own(query, key, value, is_causal=causal)
    scores = (query @ key.transpose(-2, -1)) * query.shape[-1] ** -0.5
    if causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(later, float("-inf"))
    return scores.softmax(-1) @ value


def run_blocks(torch: Any, blocks: Any, tokens: Any, checkpointing: bool) -> Any:
    """Run block after block; checkpointed ones are run again in the backward pass instead of being remembered."""
    for block in blocks:
        if checkpointing and torch.is_grad_enabled():
            tokens = torch.utils.checkpoint.checkpoint(block, tokens, use_reentrant=False)
        else:
            tokens = block(tokens)
    return tokens


def block_class(torch: Any) -> Any:
    """Give the class of a block: LayerNorm, attention, LayerNorm, MLP of ratio 4; (batch, tokens, width) in and out."""
    nn = torch.nn

    class Block(nn.Module):  # type: ignore[misc, name-defined]
        weights = False  # whether attention is computed so that its weights are seen

        def __init__(self, width: int, heads: int) -> None:
            super().__init__()
            self.heads = heads
            self.norm1, self.norm2 = (nn.LayerNorm(width, eps=1e-6) for _ in range(2))
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def attention(self, tokens: Any) -> Any:
            batch, number, width = tokens.shape
            split = self.qkv(tokens).view(batch, number, 3, self.heads, width // self.heads)
            query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
            seen = attend(torch, query, key, value, weights=self.weights)
            return self.out(seen.transpose(1, 2).reshape(batch, number, width))

        def forward(self, tokens: Any) -> Any:
            tokens = tokens + self.attention(self.norm1(tokens))
            return tokens + self.down(nn.functional.gelu(self.up(self.norm2(tokens))))

    return Block


def vit(torch: Any, *, width: int, depth: int, heads: int, size: int = 224, patch: int = 16) -> Any:
    """Make a ViT of 1000 classes: (batch, 3, size, size) to (batch, 1000)."""
    nn, block = torch.nn, block_class(torch)
    patches = (size // patch) ** 2

    class VisionTransformer(nn.Module):  # type: ignore[misc, name-defined]
        checkpointing = False

        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, width, patch, patch)
            self.first = nn.Parameter(torch.zeros(1, 1, width))
            self.positions = nn.Parameter(torch.empty(1, patches + 1, width))
            self.blocks = nn.ModuleList(block(width, heads) for _ in range(depth))
            self.norm = nn.LayerNorm(width, eps=1e-6)
            self.head = nn.Linear(width, 1000)
            nn.init.trunc_normal_(self.positions, std=0.02)

        def forward(self, images: Any) -> Any:
            tokens = self.patches(images).flatten(2).transpose(1, 2)
            tokens = torch.cat((self.first.expand(tokens.shape[0], -1, -1), tokens), 1) + self.positions
            tokens = run_blocks(torch, self.blocks, tokens, self.checkpointing)
            return self.head(self.norm(tokens)[:, 0])

    return VisionTransformer()
