"""[payload] BERT in plain torch, with its masked-word head: 109,514,298 parameters in the base size."""

from __future__ import annotations

from typing import Any

from envdoctor_probes.bench.vit import attend, run_blocks

__all__ = ["VOCABULARY", "bert"]

VOCABULARY = 30_522
_EPS = 1e-12


def block_class(torch: Any) -> Any:
    """Give the class of a block whose LayerNorms follow; (batch, tokens, width) in and out."""
    nn = torch.nn

    class Block(nn.Module):  # type: ignore[misc, name-defined]
        weights = False

        def __init__(self, width: int, heads: int) -> None:
            super().__init__()
            self.heads = heads
            self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
            self.norm1, self.norm2 = (nn.LayerNorm(width, eps=_EPS) for _ in range(2))

        def attention(self, tokens: Any) -> Any:
            batch, number, width = tokens.shape
            shape = (batch, number, self.heads, width // self.heads)
            query, key, value = (
                each(tokens).view(shape).transpose(1, 2) for each in (self.query, self.key, self.value)
            )
            seen = attend(torch, query, key, value, weights=self.weights)
            return self.out(seen.transpose(1, 2).reshape(batch, number, width))

        def forward(self, tokens: Any) -> Any:
            tokens = self.norm1(tokens + self.attention(tokens))
            return self.norm2(tokens + self.down(nn.functional.gelu(self.up(tokens))))

    return Block


def bert(torch: Any, *, width: int, depth: int, heads: int, positions: int = 512) -> Any:
    """Make a BERT: word numbers (batch, tokens) to (batch, tokens, vocabulary). The head shares the words' table."""
    nn, block = torch.nn, block_class(torch)

    class Bert(nn.Module):  # type: ignore[misc, name-defined]
        checkpointing = False

        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(VOCABULARY, width)
            self.positions, self.kinds = nn.Embedding(positions, width), nn.Embedding(2, width)
            self.norm = nn.LayerNorm(width, eps=_EPS)
            self.blocks = nn.ModuleList(block(width, heads) for _ in range(depth))
            self.dense, self.head_norm = nn.Linear(width, width), nn.LayerNorm(width, eps=_EPS)
            self.bias = nn.Parameter(torch.zeros(VOCABULARY))
            for each in (self.words, self.positions, self.kinds):
                nn.init.normal_(each.weight, std=0.02)

        def forward(self, words: Any) -> Any:
            places = torch.arange(words.shape[1], device=words.device)
            tokens = self.norm(self.words(words) + self.positions(places) + self.kinds.weight[0])
            tokens = run_blocks(torch, self.blocks, tokens, self.checkpointing)
            tokens = self.head_norm(nn.functional.gelu(self.dense(tokens)))
            return nn.functional.linear(tokens, self.words.weight, self.bias)

    return Bert()
