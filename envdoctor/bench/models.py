"""The models that ``--model`` knows by name: what each is, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT = "vit_b16"


@dataclass(frozen=True, slots=True)
class Model:
    """One model. ``origin``: own (written here, plain torch), or the library that the target must have for it."""

    name: str
    sample: str
    origin: str
    what: str


MODELS = (
    Model("vit_b16", "image", "own", "ViT-B/16 at 224: 86,567,656 parameters. The default"),
    Model("vit_s16", "image", "own", "ViT-S/16 at 224"),
    Model("vit_l16", "image", "own", "ViT-L/16 at 224"),
    Model("vit_ti16", "image", "own", "ViT-Ti/16 at 224"),
    Model("bert_base", "sequence", "own", "BERT-base: 12 encoder blocks and the masked-word head"),
    Model("llama_block", "sequence", "own", "one block of a Llama 3 8B"),
    Model("resnet50", "image", "torchvision or timm", "ResNet-50 at 224"),
    Model("swin_t", "image", "torchvision or timm", "Swin-T at 224"),
    Model("convnext_t", "image", "torchvision or timm", "ConvNeXt-T at 224"),
)
NAMES = tuple(each.name for each in MODELS)
