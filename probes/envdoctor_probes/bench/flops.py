"""[payload] FLOPs of the models by formula: exact, a multiply-add counted as two, everything but products left out.

Normalisation, softmax, activations, biases, residuals and look-ups do not count. A backward pass costs twice the
forward pass, once for the inputs' gradient and once for the weights', except where no gradient of the input is wanted.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Flops", "bert", "llama", "transformer_block", "vit"]


@dataclass(frozen=True)
class Flops:
    """FLOPs of one sample: of the model and of one block, forward, and forward with backward."""

    forward: int
    train: int
    block_forward: int
    block_train: int


def transformer_block(tokens: int, width: int, ratio: int = 4) -> int:
    """Give a block's forward FLOPs: projections and MLP 2·N·(4 + 2r)·D², attention 4·N²·D."""
    return 2 * tokens * (4 + 2 * ratio) * width**2 + 4 * tokens**2 * width


def vit(*, width: int, depth: int, patches: int = 196, patch: int = 16, classes: int = 1000) -> Flops:
    """Give a ViT's: N = patches + 1, patch embedding 2·(N - 1)·3P²·D, head 2·D·C. The image needs no gradient."""
    block = transformer_block(patches + 1, width)
    embedding = 2 * patches * 3 * patch**2 * width
    head = 2 * width * classes
    forward = depth * block + embedding + head
    return Flops(forward, forward + 2 * depth * block + embedding + 2 * head, block, 3 * block)


def bert(*, width: int, depth: int, tokens: int, vocabulary: int) -> Flops:
    """Give a BERT's with its masked-word head on every token: a dense layer 2·N·D² and the words 2·N·D·V."""
    block = transformer_block(tokens, width)
    forward = depth * block + 2 * tokens * width**2 + 2 * tokens * width * vocabulary
    return Flops(forward, 3 * forward, block, 3 * block)


def llama(*, width: int, heads: int, shared_heads: int, hidden: int, tokens: int) -> Flops:
    """Give one Llama block's: q and o 4·N·D², k and v 4·N·D·Dk, gate, up and down 6·N·D·H, attention 4·N²·D.

    The causal half of the scores is counted whole, as everybody counts it.
    """
    shared = width * shared_heads // heads
    block = tokens * (4 * width**2 + 4 * width * shared + 6 * width * hidden) + 4 * tokens**2 * width
    return Flops(block, 3 * block, block, 3 * block)
