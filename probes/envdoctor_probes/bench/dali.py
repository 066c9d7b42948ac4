"""[payload] The same images through NVIDIA DALI, where it is installed: decoded on the GPU when there is one."""

from __future__ import annotations

import importlib
from typing import Any, Optional, Sequence, Tuple

from envdoctor_probes.bench.suite import NotApplicable, Work

__all__ = ["dali", "dali_work"]

_MEAN, _STD = [0.485 * 255, 0.456 * 255, 0.406 * 255], [0.229 * 255, 0.224 * 255, 0.225 * 255]
SIZE = 224


def dali() -> Tuple[Optional[Any], str]:
    """Give DALI's module, or why it cannot be used."""
    try:
        return importlib.import_module("nvidia.dali"), ""
    except Exception as error:
        return None, f"DALI cannot be imported here ({type(error).__name__}: {error})"


def dali_work(files: Sequence[str], batch: int, threads: int, device_id: Optional[int]) -> Work:
    """Build the pipeline that DALI's own examples have, and give one batch of it as work."""
    module, why = dali()
    if module is None:
        raise NotApplicable(why)
    pipeline = _pipeline(module, files, batch, threads, device_id)
    pipeline.build()
    return Work(pipeline.run, batch, "image", flush=False, unbroken=True)


def _pipeline(module: Any, files: Sequence[str], batch: int, threads: int, device_id: Optional[int]) -> Any:
    fn = importlib.import_module("nvidia.dali.fn")
    types = importlib.import_module("nvidia.dali.types")
    on_gpu = device_id is not None
    pipeline = module.Pipeline(batch_size=batch, num_threads=threads, device_id=device_id, seed=11)
    with pipeline:
        encoded, labels = fn.readers.file(files=list(files), random_shuffle=True, name="files")
        images = fn.decoders.image_random_crop(encoded, device="mixed" if on_gpu else "cpu", output_type=types.RGB)
        images = fn.resize(images, size=(SIZE, SIZE))
        images = fn.crop_mirror_normalize(
            images, dtype=types.FLOAT, output_layout="CHW", mean=_MEAN, std=_STD, mirror=fn.random.coin_flip()
        )
        pipeline.set_outputs(images, labels)
    return pipeline
