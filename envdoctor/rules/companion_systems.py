"""Companions against the machine under them: a compiler for their operators, an operating system."""

from __future__ import annotations

from collections.abc import Iterator

from envdoctor.facts.host import Host
from envdoctor.facts.libraries import Extensions, Toolkit
from envdoctor.facts.packages import Distribution, Packages
from envdoctor.facts.torch import TorchBuild
from envdoctor.finding import Confidence, Finding, Fix, Severity, see
from envdoctor.knowledge import cells
from envdoctor.knowledge.ecosystem import stated
from envdoctor.remedy import repair
from envdoctor.remedy.install import install
from envdoctor.remedy.variables import administer, look
from envdoctor.rule import NotApplicable, Rule, Unknown, rule
from envdoctor.rules.builds import need_cuda_build
from envdoctor.rules.needs import installed, major_of, shown, stated_for
from envdoctor.rules.versions import parsed


@rule(severity=Severity.INFO, group="packages", explained_by=("cuda-toolkit-torch-mismatch", "cuda-home-wrong"))
def deepspeed_ops_unbuildable(
    packages: Packages, build: TorchBuild, toolkit: Toolkit, extensions: Extensions | None, host: Host | None
) -> Iterator[Finding]:
    """DeepSpeed could not compile its operators here.

    ## What it means
    DeepSpeed compiles its CUDA operators when they are first used (FusedAdam, CPUAdam, the inference kernels), with
    the nvcc of this machine. There is none, or one of another CUDA major than torch's.

    ## Why it matters
    "CUDA_HOME does not exist, unable to compile CUDA op(s)", or "Installed CUDA version does not match the version
    torch was compiled with". What needs no such operator works: ZeRO with torch's own optimizers does.

    ## How it is detected
    The nvcc that torch would take against torch/version.py. A DeepSpeed that carries compiled operators is not judged.

    ## What to do
    Install the CUDA toolkit of torch's CUDA, or point CUDA_HOME at it.

    ## Sources
    https://www.deepspeed.ai/tutorials/advanced-install/
    """
    have = packages.find("deepspeed")
    if have is None:
        raise NotApplicable("DeepSpeed is not installed")
    wanted = need_cuda_build(build)
    if extensions and any(each.distribution == "deepspeed" for each in extensions.extensions):
        return
    if "nvcc" in toolkit.unknown:
        raise Unknown(toolkit.unknown["nvcc"])
    nvcc = toolkit.nvcc[0] if toolkit.nvcc else None
    if nvcc and major_of(nvcc.version) in {None, wanted[0]}:
        return
    words = f"nvcc is of CUDA {nvcc.version}" if nvcc else "there is no nvcc"
    said = see(toolkit, "nvcc", "nvcc", f"{nvcc.version} ({nvcc.path})" if nvcc else "none found")
    yield Finding(
        f"DeepSpeed {have.version} could not compile its operators: {words}, torch is for CUDA {wanted[0]}.{wanted[1]}",
        evidence=(installed(packages, have), said, see(build, "cuda", "torch was built with", f"CUDA {build.cuda}")),
        fixes=(_toolkit(packages, host, wanted),),
        confidence=Confidence.LIKELY,
        affects=("deepspeed",),
    )


def _toolkit(packages: Packages, host: Host | None, wanted: tuple[int, ...]) -> Fix:
    minor = f"{wanted[0]}.{wanted[1]}"
    if packages.environment_kind == "conda":
        command = f"conda install --channel conda-forge 'cuda-nvcc={minor}' 'cuda-libraries-dev={minor}'"
        return look(f"Install the compiler of CUDA {minor} into this environment", command)
    tool = "dnf" if host and host.os_id in {"rhel", "rocky", "almalinux", "centos", "fedora"} else "apt-get"
    command = f"sudo {tool} install cuda-toolkit-{wanted[0]}-{wanted[1]}  # from NVIDIA's repository"
    return administer(f"Install the toolkit of CUDA {minor}", "system packages", command)


@rule(severity=Severity.ERROR, group="packages")
def package_unsupported_on_this_os(packages: Packages, host: Host) -> Iterator[Finding]:
    """An installed package does not work on this operating system.

    ## What it means
    Its project states that it runs on other systems only. WSL counts as Linux.

    ## Why it matters
    The import fails, or a library for another system is looked for: "libcuda.so not found" on Windows.

    ## How it is detected
    What the project's documentation states for the installed release, against the name of this system. A release with
    a local tag is somebody's own build for this system, and not judged.

    ## What to do
    On Windows install it inside WSL. Else take a release that supports this system, where there is one, or remove it.

    ## Sources
    https://docs.vllm.ai/en/v0.14.0/getting_started/installation/gpu/
    https://docs.flashinfer.ai/installation.html
    https://huggingface.co/docs/bitsandbytes/v0.43.0/installation
    """
    if host.system is None:
        raise Unknown("which operating system this is is not known")
    if host.system == "Linux":
        raise NotApplicable("this is Linux, which they all support")
    for have in packages.distributions:
        row = next((each for each in stated_for(have, "os_not") if host.system in cells(each.value)), None)
        if row is None or parsed(have.version, have.name).local:
            continue
        name = {"Darwin": "macOS"}.get(host.system, host.system)
        yield Finding(
            f"{have.name} {have.version} does not support {name}",
            evidence=(installed(packages, have), see(host, "system", "this system"), shown(row, have)),
            fixes=_on_this_system(packages, have, host.system),
            subject=have.name,
            affects=(have.name,),
        )


def _on_this_system(packages: Packages, have: Distribution, system: str) -> tuple[Fix, ...]:
    refused = [row for row in stated(have.name, "os_not") if system in cells(row.value)]
    last = next((each.version for row in refused for each in row.specifier if each.operator == "<"), None)
    if len(refused) == 1 and last:
        return (install(packages, (f"{have.name}>={last}",), title=f"Install {have.name} {last} or newer"),)
    gone = repair.without(packages, (have.name,), ())
    if system != "Windows":
        return gone
    return (administer("Work inside WSL, which is Linux", "Windows gets a Linux subsystem", "wsl --install"), *gone)


RULES: tuple[Rule, ...] = (deepspeed_ops_unbuildable, package_unsupported_on_this_os)
