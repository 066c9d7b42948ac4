"""Whose compiled code a line of a traceback speaks of: by the file's place, by its name, or by a package's own name."""

from __future__ import annotations

import re

from packaging.utils import canonicalize_name

from envdoctor.facts.text import ErrorText

# Modules and files whose names are not their distribution's.
OF_MODULE = {
    "flash_attn_2_cuda": "flash-attn", "flash_attn_gpu": "flash-attn", "flash_attn_cuda": "flash-attn",
    "flashattention": "flash-attn", "flashinfer": "flashinfer-python", "sgl_kernel": "sgl-kernel",
    "common_ops": "sgl-kernel", "punica": "vllm", "_torch_sox": "torchaudio", "libtorchaudio": "torchaudio",
    "fused_layer_norm_cuda": "apex", "amp_c": "apex", "apex_C": "apex", "mmcv": "mmcv", "DCN": "dcn", "_ext": "",
    "exllamav2_ext": "exllamav2", "awq_ext": "autoawq", "autogptq_cuda": "auto-gptq",
    "selective_scan_cuda": "mamba-ssm", "tinycudann": "tinycudann", "_C": "", "ops": "",
}  # fmt: skip
# Names that a line may just mention, without a path.
MENTIONED = re.compile(
    r"(?<![\w/.-])(flash[-_]?attn(?:_\w{1,20})?|flashattention|flashinfer(?:-python)?|xformers|vllm|punica|bitsandbytes"
    r"|sgl[-_]kernel|deepspeed|apex|mmcv(?:-full)?|torchvision|torchaudio|transformer[-_]engine|auto[-_]?gptq|autoawq"
    r"|spconv|mamba[-_]ssm|causal[-_]conv1d|natten|torch[-_]scatter|torch[-_]sparse|torch[-_]tensorrt|pytorch3d"
    r"|detectron2|exllamav2|tinycudann|sageattention|onnxruntime(?:-gpu)?|ctranslate2)(?![\w-])",
    re.IGNORECASE,
)
_INSTALLED = re.compile(r"(?:site|dist)-packages[/\\]([A-Za-z_][\w-]{0,60}?)(?:\.(?:cpython|abi3|so|libs)\b|[/\\])")
_FILE = re.compile(r"(?:^|[\s/\\'\"(])([A-Za-z_][\w-]{0,60}?)(?:\.cpython-|\.abi3|\.\.\.so|\.so\b)")
_PLACE = re.compile(r"(?:^|[\s'\"(/])(flashinfer|vllm|flash_attn|xformers|mmcv|apex|deepspeed|sgl_kernel|spconv)[/\\]")
TORCHS_OWN = frozenset({"torch", "nvidia", "triton", "pytorch-triton", "numpy"})


def owner(line: str) -> str | None:
    """Name the distribution that a line speaks of; None where it names none, or torch itself."""
    for pattern in (_INSTALLED, _PLACE, MENTIONED, _FILE):
        for name in pattern.findall(line):
            found = _distribution(name)
            if found and found not in TORCHS_OWN and not found.startswith("lib"):
                return found
    return None


def is_built_for_torch(name: str | None) -> bool:
    """Tell whether a distribution is one of those whose compiled code is known to be built against torch or CUDA."""
    return name is not None and (name in OF_MODULE.values() or MENTIONED.fullmatch(name) is not None)


def _distribution(name: str) -> str:
    return OF_MODULE.get(name, canonicalize_name(name))


def owner_above(words: ErrorText | None) -> str | None:
    """Name the distribution of the last frames of a traceback that do not belong to torch."""
    frames = [each.text for each in words.lines if re.search(r"(?:site|dist)-packages", each.text)] if words else []
    return next((found for line in reversed(frames[-6:]) if (found := owner(line))), None)
