"""Install commands: only wheels that exist, by the installer that works here, every specifier in quotes."""

from __future__ import annotations

import csv
import itertools
import re
import subprocess
from importlib.resources import files

import pytest
from packaging.version import Version

from envdoctor.facts.driver import CudaDevice, CudaDriver, CudaRuntime, KernelModule, NvidiaSmi, SmiGpu
from envdoctor.facts.packages import Packages
from envdoctor.finding import Fix, Safety
from envdoctor.remedy.install import change_torch, install, install_plain, torch_specs, torch_wheel, ways_to_cuda
from envdoctor.remedy.installer import AGAIN
from envdoctor.remedy.machine import Machine, machine_of
from envdoctor.remedy.wheels import Wheel, cpu_wheel, same_build
from tests.rule_facts import JETSON, UBUNTU, WSL
from tests.torch_facts import INDEX, LINUX, conda, dist, venv

PYTHON = "/opt/venv/bin/python"
PYTHONS = tuple(f"3.{minor}" for minor in range(6, 17))
LEVELS = (None, "10.2", "11.0", "11.4", "11.8", "12.0", "12.2", "12.8", "13.0", "13.2", "14.0")
GPUS = (
    (),
    ("3.5",),
    ("3.7",),
    ("6.1",),
    ("7.0",),
    ("7.5",),
    ("8.0",),
    ("8.9",),
    ("9.0",),
    ("10.0",),
    ("12.0",),
    ("6.1", "12.0"),
)


def table(name: str) -> list[dict[str, str]]:
    """Read a shipped table without the loader that is tested."""
    return list(csv.DictReader(files("envdoctor.knowledge").joinpath("data", name).read_text("utf-8").splitlines()))


RELEASES = {row["torch"]: row for row in table("torch_releases.csv")}
CODE = table("torch_arch.csv")


def numbers(text: str) -> tuple[int, ...]:
    """Read a dotted number."""
    return tuple(int(part) for part in text.split("."))


def lines(*fixes: Fix) -> list[str]:
    """Give every command line of these fixes."""
    return [command.shell for fix in fixes for command in fix.commands]


def exists(wheel: Wheel, python: str, platform: str) -> bool:
    """Tell from the tables alone whether this wheel was published for this Python and platform."""
    row = RELEASES[str(wheel.torch)]
    fits = numbers(row["python_min"]) <= numbers(python) <= numbers(row["python_max"])
    offered = f"{row['cuda_variants']};{row['cuda_variants_extra']}".split(";")
    known = any(
        each["cuda_variant"] == wheel.variant
        and wheel.torch.release[:2] == numbers(each["torch"])
        and "aarch64" in each["platform"]
        for each in CODE
    )
    return fits and wheel.variant in offered and (platform != "aarch64" or known)


def serves(wheel: Wheel, gpu: str, platform: str) -> bool:
    """Tell from the tables alone whether the wheel has machine code of the GPU's major, at or below its minor."""
    major, minor = numbers(gpu)
    for each in CODE:
        same = each["cuda_variant"] == wheel.variant and numbers(each["torch"]) == wheel.torch.release[:2]
        if same and platform in each["platform"]:
            return any(numbers(sm)[0] == major and numbers(sm)[1] <= minor for sm in each["sm_list"].split(";"))
    return False


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_no_wheel_is_named_that_does_not_exist_or_does_not_run(machine: str) -> None:
    """Over Pythons, drivers, GPUs and installed releases: the wheel exists, the driver starts it, the GPU has code."""
    chosen = 0
    installed = (None, *list(RELEASES)[::4])
    for python, level, gpus, have in itertools.product(PYTHONS, LEVELS, GPUS, installed):
        wheel = torch_wheel(python, machine, level, gpus, have)
        if wheel is None:
            continue
        chosen += 1
        said = (python, level, gpus, have, str(wheel.torch), wheel.variant)
        assert exists(wheel, python, machine), said
        assert all(serves(wheel, gpu, machine) for gpu in gpus), said
        cuda, driver = numbers(wheel.cuda), numbers(level or "99.0")
        assert cuda <= driver or (cuda[0] == driver[0] and cuda[0] >= 11 and wheel.minor_compatibility), said
    assert chosen > 1000


def test_installed_release_is_kept_where_a_wheel_of_it_fits() -> None:
    """For every release and a driver that starts its default build, the answer is that very release and build."""
    for name, row in RELEASES.items():
        wheel = torch_wheel(row["python_max"], "x86_64", row["default_pypi_cuda"], (), name)
        assert (Version(name), row["default_pypi_cuda"]) == (wheel and wheel.torch, wheel and wheel.cuda)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (("3.11", "x86_64", "12.2", (), "2.9.0+cu130"), "2.9.0+cu126"),
        (("3.11", "x86_64", "12.8", (), "2.9.0+cpu"), "2.9.0+cu128"),
        (("3.11", "x86_64", "13.0", (), "2.9.0+cpu"), "2.9.0+cu128"),
        (("3.12", "x86_64", "12.8", ("12.0",), "2.6.0+cu124"), "2.7.1+cu128"),
        (("3.12", "x86_64", "13.0", ("6.1",), "2.15.0"), "2.14.1+cu126"),
        (("3.11", "x86_64", "11.4", (), "2.9.1"), "2.7.1+cu118"),
        (("3.12", "aarch64", "13.0", ("9.0",), "2.9.0"), "2.9.0+cu130"),
        (("3.11", "x86_64", "12.2", ("8.0",), None), "2.14.1+cu126"),
        (("3.11", "x86_64", "12.2", (), "2.1.0a0+32f93b1"), "2.1.0+cu121"),
        (("3.11", "x86_64", "12.2", (), "not a version"), "2.14.1+cu126"),
    ],
)
def test_wheel_that_a_careful_engineer_would_name(
    asked: tuple[str, str, str, tuple[str, ...], str | None], expected: str
) -> None:
    """Keep the release; take what the driver runs natively, the default build first; change as little as needed."""
    wheel = torch_wheel(*asked)
    assert expected == (wheel and wheel.tagged)


@pytest.mark.parametrize(
    "asked",
    [
        ("3.14", "x86_64", "11.4", (), None),
        ("3.11", "x86_64", "10.1", (), None),
        ("3.9", "aarch64", "12.2", ("8.0",), "2.8.0"),
        ("3.11", "x86_64", "12.8", ("2.1",), None),
        ("3.6", "x86_64", "12.8", (), None),
        ("3.11", "ppc64le", "12.8", (), None),
    ],
    ids=["old driver, new Python", "CUDA 10.1", "no aarch64 wheel for this Python", "Fermi", "old Python", "POWER"],
)
def test_no_wheel_fits(asked: tuple[str, str, str, tuple[str, ...], str | None]) -> None:
    """Where nothing published fits, nothing is named."""
    assert torch_wheel(*asked) is None


def test_windows_takes_the_matrix_and_macos_nothing() -> None:
    """Windows shares the official matrix; macOS has no CUDA."""
    wheel = torch_wheel("3.11", "AMD64", "12.8", (), "2.9.0", system="Windows")
    assert ("cu128", None) == (wheel and wheel.variant, torch_wheel("3.11", "arm64", None, system="Darwin"))


def test_cpu_wheel_follows_python() -> None:
    """The newest CPU release for this Python, or the installed one."""
    found = [cpu_wheel("3.8"), cpu_wheel("3.11", "2.5.0"), cpu_wheel("3.6")]
    assert ["2.4.1", "2.5.0", None] == [each and str(each.torch) for each in found]


def test_same_build_names_only_published_wheels() -> None:
    """An installed build can be had again only when it was published."""
    assert "2.5.1+cu124" == getattr(same_build("3.11", "2.5.1+cu124", "12.4", cpu=False), "tagged", None)
    assert same_build("3.11", "2.5.1", "12.6", cpu=False) is None
    assert same_build("3.11", "2.1.0a0+32f93b1", "12.3", cpu=False) is None
    assert same_build("3.14", "2.5.1", "12.4", cpu=False) is None


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, [f"{PYTHON} -m pip install 'torch==2.9.0' --index-url {INDEX}/cu126"]),
        (
            {"has_pip": False, "has_uv": True},
            [f"uv pip install --python {PYTHON} 'torch==2.9.0' --index-url {INDEX}/cu126"],
        ),
        (
            {"has_pip": False},
            [f"{PYTHON} -m ensurepip --upgrade", f"{PYTHON} -m pip install 'torch==2.9.0' --index-url {INDEX}/cu126"],
        ),
        ({"executable": None}, [f"python -m pip install 'torch==2.9.0' --index-url {INDEX}/cu126"]),
        (
            {"executable": "/home/a b/python"},
            [f"'/home/a b/python' -m pip install 'torch==2.9.0' --index-url {INDEX}/cu126"],
        ),
        (
            {"environment_kind": "system", "externally_managed": True, "executable": "/usr/bin/python3"},
            [
                "/usr/bin/python3 -m venv .venv",
                f".venv/bin/python -m pip install 'torch==2.9.0' --index-url {INDEX}/cu126",
            ],
        ),
        (
            {"environment_kind": "system", "externally_managed": False, "executable": "/usr/local/bin/python"},
            [f"/usr/local/bin/python -m pip install 'torch==2.9.0' --index-url {INDEX}/cu126"],
        ),
        (
            {"environment_kind": "conda", "executable": "/opt/conda/bin/python"},
            [f"/opt/conda/bin/python -m pip install 'torch==2.9.0' --index-url {INDEX}/cu126"],
        ),
    ],
    ids=["pip", "uv", "no pip", "unknown Python", "a space", "managed by the system", "an image's Python", "conda"],
)
def test_installer_of_the_environment(more: dict[str, object], expected: list[str]) -> None:
    """pip, uv, pip inside conda, or a new environment beside a Python that belongs to the system."""
    assert expected == lines(install(venv(**more), ("torch==2.9.0",), "cu126"))


def test_uv_is_kept_where_uv_installed_torch() -> None:
    """An environment that uv filled is changed by uv, even where pip is there."""
    packages = venv(dist("torch", "2.9.0", installer="uv"), has_uv=True)
    assert lines(install(packages, ("numpy<2",)))[0].startswith("uv pip install --python")


@pytest.mark.parametrize(
    ("more", "safety"),
    [
        ({}, Safety.SAFE),
        ({"environment_kind": "conda"}, Safety.SAFE),
        ({"environment_kind": "system"}, Safety.DISRUPTIVE),
        ({"environment_kind": None}, Safety.DISRUPTIVE),
    ],
)
def test_only_an_environment_of_its_own_is_safe_to_change(more: dict[str, object], safety: Safety) -> None:
    """Safe means: this environment only. A system's Python, and one of unknown kind, is more."""
    assert safety is install(venv(**more), ("numpy<2",)).safety


def test_new_environment_gets_the_whole_torch() -> None:
    """Where this Python must not be touched, one package alone would be of no use in the new environment."""
    packages = venv(dist("torch", "2.5.1+cu124"), environment_kind="system", externally_managed=True)
    command = lines(install(packages, ("numpy<2",), again=AGAIN, alone=True))[-1]
    assert ".venv/bin/python -m pip install 'torch==2.5.1' 'numpy<2'" == command


def test_lock_file_is_named() -> None:
    """What a lock file says comes back with the next sync, so the fix says it."""
    assert "poetry.lock still names the old build" in install(venv(lock_file="/w/poetry.lock"), ("x",)).changes


def test_argv_and_shell_are_one_command() -> None:
    """What a program runs is what a person pastes."""
    (command,) = install(venv(), ("numpy<2", "torch>=2.3"), "cpu").commands
    assert (PYTHON, "-m", "pip", "install", "numpy<2", "torch>=2.3", "--index-url", f"{INDEX}/cpu") == command.argv
    assert f"{PYTHON} -m pip install 'numpy<2' 'torch>=2.3' --index-url {INDEX}/cpu" == command.shell


def test_companions_move_along() -> None:
    """Torchvision and torchaudio that are installed are named as they were published with this torch."""
    packages = venv(dist("torch", "2.4.0"), dist("torchvision", "0.19.0"), dist("torchaudio", "2.4.0"))
    assert ("torch==2.9.0", "torchvision==0.24.0", "torchaudio==2.9.0") == torch_specs(
        packages, Wheel(Version("2.9.0"), "cu126")
    )


def test_variant_is_part_of_the_version_over_the_same_release() -> None:
    """An installer takes 2.9.0+cpu for 2.9.0: only the tagged version makes it act."""
    assert ("torch==2.9.0+cu126",) == torch_specs(venv(dist("torch", "2.9.0+cpu")), Wheel(Version("2.9.0"), "cu126"))


def test_conda_changes_its_own_torch_or_pip_a_new_environment() -> None:
    """A torch of conda's is changed by conda; pip's way is a new environment, never over conda's files."""
    packages = venv(
        conda("torch", "2.4.0"), environment_kind="conda", prefix="/opt/conda/envs/x", executable="/c/python"
    )
    first, second = change_torch(packages, Wheel(Version("2.9.0"), "cu126"))
    conda_way = "conda install --prefix /opt/conda/envs/x --channel conda-forge --override-channels 'pytorch-gpu'"
    assert ([conda_way], Safety.SAFE) == (lines(first), first.safety)
    new = ["/c/python -m venv .venv", f".venv/bin/python -m pip install 'torch==2.9.0' --index-url {INDEX}/cu126"]
    assert (new, Safety.DISRUPTIVE) == (lines(second), second.safety)


def test_driver_is_raised_where_no_wheel_fits_it() -> None:
    """When only a newer driver makes a wheel fit, the driver is the way out."""
    (fix,) = ways_to_cuda(venv(python="3.14.0"), UBUNTU, Machine("3.14.0", "x86_64", "Linux", "11.4"))
    assert ("Raise the NVIDIA driver to 580 or newer", True) == (fix.title[:39], fix.needs_root)


def test_plain_package_keeps_its_installer() -> None:
    """A package that is not PyTorch's goes in by pip, or by conda over conda's own."""
    packages = venv(conda("numpy", "2.0.0"), environment_kind="conda", prefix="/opt/conda")
    found = lines(install_plain(packages, "numpy<2"), install_plain(packages, "sympy"))
    assert ["conda install --prefix /opt/conda 'numpy<2'", f"{PYTHON} -m pip install 'sympy'"] == found


def test_machine_takes_the_drivers_own_word_first() -> None:
    """The CUDA level: libcuda, libcudart, nvidia-smi, and the tables for the driver's version last."""
    smi = NvidiaSmi(driver_version="535.183.01", cuda_version="12.2", gpus=(SmiGpu(0, "NVIDIA A100-SXM4-80GB"),))
    module = KernelModule(version="535.183.01")
    told = [
        machine_of(venv(), LINUX, driver=CudaDriver(cuda_version="12.4"), smi=smi).driver_cuda,
        machine_of(venv(), LINUX, runtime=CudaRuntime(driver_version="12.3"), smi=smi).driver_cuda,
        machine_of(venv(), LINUX, smi=smi, module=module).driver_cuda,
        machine_of(venv(), LINUX, module=module).driver_cuda,
        machine_of(venv(), LINUX).driver_cuda,
    ]
    assert ["12.4", "12.3", "12.2", "12.2", None] == told


def test_machine_looks_up_what_a_gpu_is() -> None:
    """A capability that nobody told is looked up by the GPU's whole name, and each is named once."""
    driver = CudaDriver(devices=(CudaDevice(0, "NVIDIA A100-SXM4-80GB", "8.0"), CudaDevice(1, "no such GPU")))
    smi = NvidiaSmi(gpus=(SmiGpu(0, "NVIDIA A100-SXM4-80GB"),))
    assert ("8.0",) == machine_of(None, None, driver=driver, smi=smi).capabilities


def test_machines_without_wheels_get_none() -> None:
    """Jetson takes NVIDIA's wheels; WSL takes the ordinary ones."""
    found = [machine_of(venv(), each).cuda_wheel() for each in (JETSON, WSL)]
    assert [True, False] == [each is None for each in found]


def test_every_command_is_read_by_a_shell_and_quotes_its_specifiers() -> None:
    """All ways of all installers, as one script: no shell trips, and no specifier is bare."""
    kinds = itertools.product(("venv", "conda", "system", None), (True, False, None), (True, False))
    script: list[str] = []
    for kind, pip, uv in kinds:
        packages = venv(
            dist("torch", "2.4.0"), conda("pytorch", "2.4.0"), environment_kind=kind, has_pip=pip, has_uv=uv
        )
        script += lines(*_every_way(packages))
    done = subprocess.run(["sh", "-n"], input="\n".join(script), capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stderr)
    assert [] == [line for line in script if re.search(r"(?<!')\b[a-z0-9-]+(==|<|>)", line)]


def _every_way(packages: Packages) -> tuple[Fix, ...]:
    wheel = Wheel(Version("2.9.0"), "cu126")
    return (*change_torch(packages, wheel), install(packages, ("numpy<2",), again=AGAIN, alone=True))


def test_over_a_torch_that_no_list_names_the_variant_is_asked_for() -> None:
    """Pip takes 2.9.0+cu130 for 2.9.0: where torch itself told its version, the command names the variant."""
    unlisted = Packages(python_version="3.11")
    wheel = Wheel(Version("2.9.0"), "cu126")
    assert ("torch==2.9.0+cu126",) == torch_specs(unlisted, wheel, "2.9.0+cu130")
    assert ("torch==2.9.0",) == torch_specs(unlisted, wheel, "2.8.0+cu128")
    fit = Machine("3.11", driver_cuda="12.2", capabilities=("8.0",))
    assert "'torch==2.9.0+cu126'" in lines(*ways_to_cuda(unlisted, None, fit, "2.9.0+cpu"))[0]
