"""[payload] The models that can be measured: how each is made, fed and judged by a loss, and what it computes."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Tuple

from envdoctor.probe import NotThere
from envdoctor_probes.bench import bert, flops, llama, vit

if TYPE_CHECKING:
    from envdoctor_probes.bench.flops import Flops

__all__ = ["NAMES", "Recipe", "find"]

CLASSES = 1000
Inputs = Tuple[Any, ...]


@dataclass(frozen=True)
class Recipe:
    """A model. ``make`` gives it on the CPU, ``feed(batch)`` its inputs and its target there.

    ``sample``: what a batch is counted in. ``make_block`` and ``feed_block``: one block by itself, where it has some.
    ``layout``: whether the memory format of images means something to it. ``ours``: written here, so that its
    attention and checkpointing can be switched.
    """

    name: str
    origin: str
    make: Callable[[], Any]
    feed: Callable[[int], Tuple[Inputs, Any]]
    loss: Callable[[Any, Any], Any]
    sample: str = "image"
    tokens: Optional[int] = None
    flops: Optional[Flops] = None
    make_block: Optional[Callable[[], Any]] = None
    feed_block: Optional[Callable[[int], Any]] = None
    layout: bool = False
    fixed_batch: Optional[int] = None

    @property
    def ours(self) -> bool:
        """Tell whether it is one of our own."""
        return self.origin == "own"

    @property
    def has_our_blocks(self) -> bool:
        """Tell whether its attention and its checkpointing can be switched."""
        return self.ours and self.make_block is not None


# width, depth and heads
VITS: Dict[str, Tuple[int, int, int]] = {
    "vit_b16": (768, 12, 12),
    "vit_s16": (384, 12, 6),
    "vit_l16": (1024, 24, 16),
    "vit_ti16": (192, 12, 3),
}
# Where the libraries have it: torchvision's name and timm's.
FROM_LIBRARIES: Dict[str, Tuple[str, str]] = {
    "resnet50": ("resnet50", "resnet50"),
    "swin_t": ("swin_t", "swin_tiny_patch4_window7_224"),
    "convnext_t": ("convnext_tiny", "convnext_tiny"),
}
NAMES = (*VITS, "bert_base", "llama_block", *FROM_LIBRARIES)


def find(torch: Any, name: str, *, on_gpu: bool, batch: Optional[int] = None) -> Recipe:
    """Give the recipe of a model by its name; raises ``NotThere`` or ``yours.Unusable`` in words for the user."""
    if name in VITS:
        return _vit(torch, name)
    if name == "bert_base":
        return _bert(torch, 512 if on_gpu else 128)
    if name == "llama_block":
        return _llama(torch, 2048 if on_gpu else 128)
    if name in FROM_LIBRARIES:
        return _from_libraries(torch, name)
    if ":" in name:
        from envdoctor_probes.bench import yours

        return yours.recipe(torch, name, batch)
    raise NotThere(f"no model is called {name!r}, expected one of {', '.join(NAMES)}, or module:callable")


def images(torch: Any, batch: int) -> Tuple[Inputs, Any]:
    """Give random images and classes."""
    return (torch.randn(batch, 3, 224, 224),), torch.randint(0, CLASSES, (batch,))


def _cross_entropy(torch: Any) -> Callable[[Any, Any], Any]:
    def loss(output: Any, target: Any) -> Any:
        return torch.nn.functional.cross_entropy(output.flatten(0, -2), target.flatten())

    return loss


def _vit(torch: Any, name: str) -> Recipe:
    width, depth, heads = VITS[name]
    tokens = 197
    return Recipe(
        name, "own", lambda: vit.vit(torch, width=width, depth=depth, heads=heads),
        lambda batch: images(torch, batch), _cross_entropy(torch), tokens=tokens,
        flops=flops.vit(width=width, depth=depth), make_block=lambda: vit.block_class(torch)(width, heads),
        feed_block=lambda batch: torch.randn(batch, tokens, width), layout=True,
    )  # fmt: skip


def _bert(torch: Any, tokens: int) -> Recipe:
    width, depth, heads = 768, 12, 12

    def feed(batch: int) -> Tuple[Inputs, Any]:
        words = torch.randint(0, bert.VOCABULARY, (2, batch, tokens))
        return (words[0],), words[1]

    return Recipe(
        "bert_base", "own", lambda: bert.bert(torch, width=width, depth=depth, heads=heads), feed,
        _cross_entropy(torch), sample="sequence", tokens=tokens,
        flops=flops.bert(width=width, depth=depth, tokens=tokens, vocabulary=bert.VOCABULARY),
        make_block=lambda: bert.block_class(torch)(width, heads),
        feed_block=lambda batch: torch.randn(batch, tokens, width),
    )  # fmt: skip


def _llama(torch: Any, tokens: int) -> Recipe:
    """Give one block of a Llama 3 8B; its input wants a gradient, as that of a block inside a model does."""
    sizes = {"width": 4096, "heads": 32, "shared_heads": 8, "hidden": 14336}

    def feed(batch: int) -> Tuple[Inputs, Any]:
        states = torch.randn(2, batch, tokens, sizes["width"])
        return (states[0].requires_grad_(),), states[1]

    return Recipe(
        "llama_block", "own", lambda: llama.llama_block(torch, **sizes), feed,
        lambda output, target: (output.float() - target).square().mean(), sample="sequence", tokens=tokens,
        flops=flops.llama(tokens=tokens, **sizes),
    )  # fmt: skip


def _from_libraries(torch: Any, name: str) -> Recipe:
    theirs, timms = FROM_LIBRARIES[name]
    library, why = _import("torchvision")
    make: Callable[[], Any] = lambda: getattr(library.models, theirs)(weights=None)  # noqa: E731
    origin = "torchvision"
    if library is None:
        library, why_not = _import("timm")
        if library is None:
            raise NotThere(f"{name} comes from torchvision or timm, and neither can be used here: {why}; {why_not}")
        origin, make = "timm", lambda: library.create_model(timms, pretrained=False)
    return Recipe(name, origin, make, lambda batch: images(torch, batch), _cross_entropy(torch), layout=True)


def _import(name: str) -> Tuple[Any, str]:
    """Import a library of the patient's, or say why not: one built for another torch fails in many ways."""
    try:
        return importlib.import_module(name), ""
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"
