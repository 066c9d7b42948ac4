"""[payload] From a file to a training image: the usual random crop, flip and normalisation, with what is installed."""

from __future__ import annotations

import importlib
import math
import random
from typing import Any, Callable, Iterator, List, Optional, Sequence, Tuple

from envdoctor.probe import NotThere

__all__ = ["Batches", "Images", "decoder", "pillow"]

SIZE = 224
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_BILINEAR = 2
Decode = Callable[[str], Any]


def pillow() -> Any:
    """Give PIL.Image; raises ``NotThere`` with the words of why it cannot be used."""
    try:
        return importlib.import_module("PIL.Image")
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise NotThere(f"images are decoded with Pillow, which cannot be imported here ({why})") from error


def decoder(torch: Any, pil: Any) -> Tuple[str, Decode]:
    """Give torchvision's transforms upon Pillow, as everybody's script has them, or else the same in plain torch."""
    try:
        transforms = importlib.import_module("torchvision.transforms")
    except Exception:  # absent, or built for another torch: the name of the decoder says which one it is
        return "PIL+torch", plain(torch, pil)
    steps = transforms.Compose([
        transforms.RandomResizedCrop(SIZE), transforms.RandomHorizontalFlip(), transforms.ToTensor(),
        transforms.Normalize(_MEAN, _STD),
    ])  # fmt: skip

    def decode(file: str) -> Any:
        with pil.open(file) as image:
            return steps(image.convert("RGB"))

    return "PIL+torchvision", decode


def plain(torch: Any, pil: Any) -> Decode:
    """Give a decoder that needs Pillow and torch alone."""
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (_MEAN, _STD))

    def decode(file: str) -> Any:
        with pil.open(file) as opened:
            image = opened.convert("RGB")
        image = image.resize((SIZE, SIZE), _BILINEAR, box=crop(*image.size))
        pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(SIZE, SIZE, 3)
        tensor = pixels.permute(2, 0, 1).float().div_(255).sub_(mean).div_(std)
        return tensor.flip(2) if random.random() < 0.5 else tensor

    return decode


def crop(width: int, height: int) -> Tuple[float, float, float, float]:
    """Choose a box as RandomResizedCrop does: 8 to 100 % of the area, 3:4 to 4:3."""
    area = width * height * random.uniform(0.08, 1.0)
    ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
    wide, high = min(width, math.sqrt(area * ratio)), min(height, math.sqrt(area / ratio))
    left, top = random.uniform(0, width - wide), random.uniform(0, height - high)
    return left, top, left + wide, top + high


class Images:
    """A data set of files: an item is an image and a class."""

    def __init__(self, files: Sequence[str], decode: Decode) -> None:
        self._files, self._decode = files, decode

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, number: int) -> Tuple[Any, int]:
        return self._decode(self._files[number]), number % 1000


class Batches:
    """Endless batches of numbers of items, in random order."""

    def __init__(self, items: int, size: int) -> None:
        self._items, self._size = items, size
        self._dice: Optional[random.Random] = None

    def __iter__(self) -> Iterator[List[int]]:
        self._dice = self._dice or random.Random(11)
        while True:
            yield [self._dice.randrange(self._items) for _ in range(self._size)]
