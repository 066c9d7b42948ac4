"""What surrounds a machine's Python: container, network, storage, toolkits, and what importing torch maps."""

from __future__ import annotations

from envdoctor.facts import Fact
from envdoctor.facts.driver import KernelModule
from envdoctor.facts.gpu import PciBus
from envdoctor.facts.host import Host
from envdoctor.facts.libraries import Compiler, Extension, Extensions, Libraries, MappedLibraries, Toolkit
from envdoctor.facts.packages import Packages
from envdoctor.facts.storage import Mount, Storage
from envdoctor.facts.surroundings import Container, Fabric, InfinibandPort, Nic
from envdoctor.facts.torch import TorchBuild, TorchImport, TorchPath

NO_JOB = "no running job was named (--pid N)"
NO_CONTAINER = Container(kind="none", unknown={"uses_cdi": "this is no container"})
CDI_UNTOLD = {"uses_cdi": "nothing tells the Container Device Interface from the older hook here"}
COMPILERS = {"20.04": "9", "22.04": "11", "24.04": "13", "12": "12"}  # of Ubuntu and Debian
COMPILED = {"torchvision": "torchvision/_C.so", "torchaudio": "torchaudio/lib/libtorchaudio.so"}
LATE = ("cudnn_", "nvrtc", "cuda")  # opened only when they are first used
FOR_ROOT = (
    "the extended PCI configuration space is shown to root alone: sudo lspci -vvv | grep -i acsctl"
    " (SrcValid+ or ReqRedir+ means that it is on)"
)


def fabric(*, rails: int = 0, numa_nodes: int = 1, gpus: bool = True, dmabuf: bool | None = None) -> Fabric:
    """Give a machine with one Ethernet card, and as many InfiniBand rails as GPUs where it has them."""
    ports = tuple(
        InfinibandPort(
            f"mlx5_{n}", 1, "4: ACTIVE", "5: LinkUp", "400 Gb/sec (4X NDR)", "InfiniBand", int(2 * n >= rails),
            f"0000:{0x1a + 0x10 * n:02x}:00.0",
        )
        for n in range(rails)
    )  # fmt: skip
    nics = (Nic("eno1", True, 1000, 1500, 0, False, "0000:04:00.0"), Nic("lo", True, None, 65536, None, True))
    unknown = {"acs_enabled_bridges": FOR_ROOT if gpus else "no NVIDIA GPU on the bus: no bridge matters"}
    if dmabuf is None:
        unknown["dmabuf_supported"] = "no NVIDIA driver is loaded, or it does not say whether it is the open one"
    nodes = tuple(range(numa_nodes))
    return Fabric(
        infiniband=ports, nics=nics, peermem_loaded=False, dmabuf_supported=dmabuf, iommu="passthrough" if rails else
        "off", numa_nodes=numa_nodes, process_numa_nodes=nodes, memory_policy_nodes=nodes, memory_policy="default",
        unknown=unknown,
    )  # fmt: skip


def storage(site: str, cwd: str, *, root: str = "ext4", shm_mib: int = 16_000) -> Storage:
    """Give one local disk with room on it, and /dev/shm."""
    places = (("temporary files", "/tmp"), ("packages", site), ("working directory", cwd))
    local = (
        Mount(path, root, "rw,relatime", 412_338, 937_284, 58_120_447, "/", purpose) for purpose, path in places
    )  # fmt: skip
    shm = Mount("/dev/shm", "tmpfs", "rw,nosuid,nodev", shm_mib, shm_mib, None, "/dev/shm", "shared memory")
    return Storage(mounts=(*local, shm))


def toolkit(compiler: str | None = "13") -> Toolkit:
    """Give a machine without a CUDA toolkit, and the compiler of its distribution."""
    if compiler is None:
        return Toolkit(unknown={"host_compiler": "no gcc, cc, g++, c++ on PATH"})
    return Toolkit(host_compiler=Compiler("/usr/bin/gcc", compiler))


def mapped(site: str, libraries: Libraries) -> MappedLibraries:
    """Give what importing torch maps where the loader finds each library of the ledger first."""
    own = ("libtorch_global_deps", "libtorch", "libtorch_cpu", "libc10", "libtorch_python")
    firsts = (row.first.path for row in libraries.rows if row.first and not row.name.startswith(LATE))
    nccl = libraries.row("nccl")
    version = nccl.first.version if nccl and nccl.first else None
    return MappedLibraries(
        paths=(*(f"{site}/torch/lib/{name}.so" for name in own), *firsts), nccl_version=version,
        unknown={} if version else {"nccl_version": "import torch maps no libnccl"},
    )  # fmt: skip


def extensions(site: str, packages: Packages, build: TorchBuild) -> Extensions:
    """Give torchvision and torchaudio, where they are installed, as they were published with this torch."""
    return Extensions(
        extensions=tuple(
            Extension(f"{site}/{path}", name, cxx11_abi=build.cxx11_abi, arches=build.arch_list)
            for name, path in COMPILED.items()
            if packages.find(name)
        )
    )


def old_abi(site: str) -> Extensions:
    """Give a torchvision and a torchaudio that were compiled with the old C++ ABI, under a torch with the new one."""
    asked = ("_ZN3c106detail14torchCheckFailEPKcS2_jRKSs", "_ZN5torch3jit17parseSchemaOrNameERKSsb")
    arches = ("sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90", "compute_90")
    return Extensions(
        extensions=tuple(
            Extension(f"{site}/{path}", name, asked, 9, 9, cxx11_abi=False, arches=arches)
            for name, path in COMPILED.items()
        )
    )


def everything(facts: dict[str, Fact]) -> tuple[Fact, ...]:
    """Give what surrounds a machine with these other facts, as an ordinary one has it."""
    packages, build = facts["packages"], facts["torch_build"]
    assert isinstance(packages, Packages)
    assert isinstance(build, TorchBuild)
    bus, module, path = facts["pci_bus"], facts["kernel_module"], facts["torch_path"]
    done, libraries, host = facts.get("torch_import"), facts["libraries"], facts["host"]
    assert isinstance(bus, PciBus)
    assert isinstance(module, KernelModule)
    assert isinstance(path, TorchPath)
    assert isinstance(libraries, Libraries)
    assert isinstance(host, Host)
    site = path.found[0].removesuffix("/torch")
    nodes = 1 + max((each.numa_node or 0 for each in bus.gpus), default=0)
    network = fabric(numa_nodes=nodes, gpus=bool(bus.gpus), dmabuf=module.flavor == "open" if module.loaded else None)
    inside = host.container not in {None, "none"}
    return (
        Container(kind=host.container, unknown=NO_CONTAINER.unknown if not inside else CDI_UNTOLD),
        network,
        storage(site, "/workspace" if inside else "/data/train", root="overlay" if inside else "ext4"),
        extensions(site, packages, build),
        toolkit(COMPILERS.get(host.os_version or "", "13")),
        *((mapped(site, libraries),) if isinstance(done, TorchImport) and done.imported else ()),
    )
