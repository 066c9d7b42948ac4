"""[payload] container: what an NVIDIA image says of itself, what was asked of NVIDIA's runtime, and what it mounted."""

from __future__ import annotations

import re
from typing import Mapping, Optional, Tuple

from envdoctor.facts.surroundings import Container
from envdoctor.probe import Context, probe
from envdoctor_probes.container import container_kind, sees_the_kernels_threads
from envdoctor_probes.mounts import parse_mountinfo
from envdoctor_probes.running import parse_environ
from envdoctor_probes.secret_words import without_secrets
from envdoctor_probes.tree import Notes, Tree, why

__all__ = ["container", "is_driver_file"]

# Versions that NVIDIA's images are built with; the image sets them, pip does not change them.
_VERSIONS = (
    "PYTORCH_BUILD_VERSION", "PYTORCH_VERSION", "PYTORCH_TRITON_VERSION", "TORCHVISION_VERSION", "TENSORFLOW_VERSION",
    "CUDA_VERSION", "CUDA_DRIVER_VERSION", "CUDNN_VERSION", "CUDNN_FRONTEND_VERSION", "NCCL_VERSION",
    "CUBLAS_VERSION", "CUBLASMP_VERSION", "CUFFT_VERSION", "CURAND_VERSION", "CUSPARSE_VERSION", "CUSPARSELT_VERSION",
    "CUSOLVER_VERSION", "CUTENSOR_VERSION", "NVJITLINK_VERSION", "NPP_VERSION", "NVJPEG_VERSION", "NVSHMEM_VERSION",
    "CUFILE_VERSION", "CUDLA_VERSION", "TRT_VERSION", "TRTOSS_VERSION", "DALI_VERSION", "TRANSFORMER_ENGINE_VERSION",
    "MODEL_OPT_VERSION", "OPENMPI_VERSION", "HPCX_VERSION", "OPENUCX_VERSION", "MOFED_VERSION", "RDMACORE_VERSION",
    "GDRCOPY_VERSION", "EFA_VERSION", "NSIGHT_SYSTEMS_VERSION", "NSIGHT_COMPUTE_VERSION",
    "NV_CUDA_CUDART_VERSION", "NV_CUDNN_VERSION", "NV_LIBCUBLAS_VERSION", "NV_LIBNCCL_PACKAGE_VERSION",
)  # fmt: skip
_ASKED = (
    ("visible_devices", "NVIDIA_VISIBLE_DEVICES"),
    ("driver_capabilities", "NVIDIA_DRIVER_CAPABILITIES"),
    ("require_cuda", "NVIDIA_REQUIRE_CUDA"),
    ("nvidia_build_id", "NVIDIA_BUILD_ID"),
)
_DRIVER_FILE = re.compile(
    r"/(lib(cuda|cudadebugger|nvidia-[\w-]+|nvcuvid|nvoptix|EGL_nvidia|GLX_nvidia|GLESv\w+_nvidia|nvidia_\w+)\.so[.\d]*"
    r"|nvidia-(smi|debugdump|persistenced|cuda-mps-control|cuda-mps-server|fabricmanager|imex|imex-ctl|modprobe)"
    r"|nv-fabricmanager|gsp_\w+\.bin)$"
)
_CDI_MARK = re.compile(r"(00-)?nvcr-\w+\.conf$")  # written by the hook of CDI; the older hook runs ldconfig alone


@probe()
def container(context: Context) -> Container:
    """Say which container this is, what it was promised, and what is there of it."""
    notes = Notes(Tree(context.roots))
    kind, source = container_kind(notes.tree, context.environ)
    notes.put("kind", kind, source)
    environ, start = _environ_of_image(notes.tree, context.environ, kind)
    for field, name in _ASKED:
        if name in environ:
            notes.put(field, without_secrets(name, environ[name])[0], start)
    _read_image(notes, environ, start)
    _read_mounts(notes)
    _read_cdi(notes, kind)
    fact: Container = notes.into(Container)
    return fact


def _environ_of_image(tree: Tree, environ: Mapping[str, str], kind: str) -> Tuple[Mapping[str, str], str]:
    """Give the environment that the container was started with; ssh, su and cron do not hand it on."""
    if kind == "none" or "NVIDIA_VISIBLE_DEVICES" in environ or sees_the_kernels_threads(tree):
        return environ, ""
    first = parse_environ(tree.text_or("/proc/1/environ"))
    return ({**first, **environ}, "/proc/1/environ") if "NVIDIA_VISIBLE_DEVICES" in first else (environ, "")


def _read_image(notes: Notes, environ: Mapping[str, str], start: str) -> None:
    product = environ.get("NVIDIA_PRODUCT_NAME")
    versions = tuple((name, environ[name]) for name in _VERSIONS if environ.get(name))
    tag = environ.get("NVIDIA_PYTORCH_VERSION") or _other_tag(environ)
    if product or environ.get("NVIDIA_PYTORCH_VERSION"):
        notes.put("nvidia_image", product or "PyTorch", start)
        notes.put("image_versions", versions, start)
        if tag:
            notes.put("nvidia_image_tag", tag, start)
    elif notes.tree.exists("/opt/nvidia/nvidia_entrypoint.sh"):
        built = "PyTorch" if notes.tree.exists("/opt/pytorch") else "CUDA"
        notes.put("nvidia_image", built, "/opt/nvidia/nvidia_entrypoint.sh, /opt/pytorch")
        notes.put("image_versions", versions, start)
        notes.miss("nvidia_image_tag", "the image's variables are not in this process's environment")
    elif versions and (environ.get("NVARCH") or environ.get("NVIDIA_REQUIRE_CUDA")):
        notes.put("nvidia_image", "CUDA", "NVARCH, NVIDIA_REQUIRE_CUDA")  # a CUDA base image before it named itself
        notes.put("image_versions", versions, start)


def _other_tag(environ: Mapping[str, str]) -> Optional[str]:
    names = sorted(name for name in environ if re.fullmatch(r"NVIDIA_[A-Z_]+_VERSION", name))
    return next((environ[name] for name in names), None)


def is_driver_file(path: str) -> bool:
    """Tell whether a path is one of the driver's files that NVIDIA's runtime mounts into a container."""
    return _DRIVER_FILE.search(path) is not None


def _read_mounts(notes: Notes) -> None:
    try:
        mounts = parse_mountinfo(notes.tree.text("/proc/self/mountinfo"))
    except OSError as error:
        notes.miss("toolkit_mounts", why(error, "/proc/self/mountinfo"))
        return
    notes.put("toolkit_mounts", tuple(dict.fromkeys(each.point for each in mounts if is_driver_file(each.point))))


def _read_cdi(notes: Notes, kind: str) -> None:
    """Tell the Container Device Interface from the older hook: it sets the variable to ``void`` and leaves a mark."""
    tree, asked = notes.tree, notes.values.get("visible_devices")
    marks = [name for name in tree.names_or_none("/etc/ld.so.conf.d") if _CDI_MARK.match(name)]
    if kind == "none":
        notes.miss("uses_cdi", "this is no container")
    elif marks:
        notes.put("uses_cdi", True, "/etc/ld.so.conf.d/" + marks[0])
    elif asked == "void":
        notes.put("uses_cdi", any(tree.exists(each) for each in ("/dev/nvidiactl", "/dev/dxg")))
    else:
        notes.miss("uses_cdi", "nothing tells the Container Device Interface from the older hook here")
