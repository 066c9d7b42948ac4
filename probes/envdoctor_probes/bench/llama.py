"""[payload] One block of a Llama in plain torch: RMSNorm, rotary positions, grouped heads, SwiGLU; causal."""

from __future__ import annotations

from typing import Any

from envdoctor_probes.bench.vit import attend

__all__ = ["llama_block"]

_EPS, _BASE = 1e-5, 500_000.0


def rotate(torch: Any, states: Any) -> Any:
    """Turn pairs of features by an angle that grows with the token's place; (batch, heads, tokens, width)."""
    half = states.shape[-1] // 2
    places = torch.arange(states.shape[-2], device=states.device, dtype=torch.float32)
    rates = _BASE ** (-torch.arange(half, device=states.device, dtype=torch.float32) / half)
    angles = places[:, None] * rates[None, :]
    cos, sin = angles.cos().to(states.dtype), angles.sin().to(states.dtype)
    first, second = states[..., :half], states[..., half:]
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)


def norm_class(torch: Any) -> Any:
    """Give the class of an RMSNorm: torch has one of its own only since 2.4."""
    nn = torch.nn

    class Norm(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, width: int) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(width))

        def forward(self, states: Any) -> Any:
            wide = states.float()
            scaled = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + _EPS)
            return scaled.to(states.dtype) * self.weight

    return Norm


def llama_block(torch: Any, *, width: int, heads: int, shared_heads: int, hidden: int) -> Any:
    """Make a block: (batch, tokens, width) in and out."""
    nn, norm, each_width = torch.nn, norm_class(torch), width // heads

    class LlamaBlock(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            shared = shared_heads * each_width
            self.query, self.out = (nn.Linear(width, width, bias=False) for _ in range(2))
            self.key, self.value = (nn.Linear(width, shared, bias=False) for _ in range(2))
            self.gate, self.up = (nn.Linear(width, hidden, bias=False) for _ in range(2))
            self.down = nn.Linear(hidden, width, bias=False)
            self.norm1, self.norm2 = norm(width), norm(width)

        def attention(self, tokens: Any) -> Any:
            batch, number, _ = tokens.shape
            parts = (each(tokens).view(batch, number, -1, each_width) for each in (self.query, self.key, self.value))
            query, key, value = (each.transpose(1, 2) for each in parts)
            query, key = rotate(torch, query), rotate(torch, key)
            key, value = (each.repeat_interleave(heads // shared_heads, 1) for each in (key, value))
            seen = attend(torch, query, key, value, causal=True)
            return self.out(seen.transpose(1, 2).reshape(batch, number, width))

        def forward(self, tokens: Any) -> Any:
            tokens = tokens + self.attention(self.norm1(tokens))
            states = self.norm2(tokens)
            return tokens + self.down(nn.functional.silu(self.gate(states)) * self.up(states))

    return LlamaBlock()
