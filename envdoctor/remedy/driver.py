"""Ways to get a driver, a newer one, or one whose halves agree again, for each operating system and surrounding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envdoctor.finding import Command, Fix, Safety

if TYPE_CHECKING:
    from envdoctor.facts.host import Host

DEBIAN_LIKE = frozenset({"debian", "linuxmint", "pop", "raspbian", "kali"})
RED_HAT_LIKE = frozenset({"rhel", "centos", "rocky", "almalinux", "ol", "amzn"})
SUSE_LIKE = frozenset({"sles", "opensuse", "opensuse-leap", "opensuse-tumbleweed"})
FALLBACK_BRANCH = 580  # the long-term branch of the day the tables were gathered


def shell(*lines: str) -> tuple[Command, ...]:
    """Make commands for a person to paste; they need root or judgement, so no program runs them."""
    return tuple(Command(None, line) for line in lines)


def place(host: Host | None) -> str:
    """Say where a driver command must be typed: a driver always belongs to the host, never to a container."""
    if host and host.wsl:
        return "windows"
    if host and host.jetson:
        return "jetson"
    return "host" if host and host.container not in {None, "none"} else "here"


def install_driver(
    host: Host | None, branch: int | None = None, *, verb: str = "Install", open_modules: bool = False
) -> Fix:
    """Put a driver of ``branch`` or newer on this machine; ``verb`` is Install or Raise.

    ``open_modules``: with NVIDIA's open kernel modules, without which the newest GPUs are not driven at all.
    """
    number = branch or FALLBACK_BRANCH
    what = f"{verb} the NVIDIA driver{' to' if verb == 'Raise' else ','} {number} or newer"
    if host and host.system == "Windows":
        return _fix(f"{what}, from https://www.nvidia.com/drivers", (), "the machine's driver")
    kind = ", with the open kernel modules" if open_modules else ""
    match place(host):
        case "windows":
            return windows_driver(number)
        case "jetson":
            return jetpack()
        case "host":
            title = f"{what}{kind}, on the host (a container uses the host's driver)"
            return _fix(title, shell(*_packages("", number, open_modules=open_modules)), "the host's driver")
        case _:
            packages = _packages((host and host.os_id) or "", number, open_modules=open_modules)
            return _fix(f"{what}{kind}", shell(*packages), "the machine's driver")


def _fix(title: str, commands: tuple[Command, ...], changes: str) -> Fix:
    return Fix(title, commands, Safety.DISRUPTIVE, changes, needs_root=True, needs_reboot=True)


def _packages(os_id: str, branch: int, *, open_modules: bool) -> tuple[str, ...]:
    found = _open(os_id, branch) if open_modules else _proprietary(os_id, branch)
    if found:
        return (*found, "sudo reboot")
    name = f"nvidia-driver-{branch}-server{'-open' if open_modules else ''}"
    return (f"sudo apt-get install {name}  # Ubuntu; else the distribution's package of it",)


def _proprietary(os_id: str, branch: int) -> tuple[str, ...]:
    if os_id == "ubuntu":
        return ("sudo apt-get update", f"sudo apt-get install nvidia-driver-{branch}-server")
    if os_id in DEBIAN_LIKE:
        return ("sudo apt-get update", f"sudo apt-get install cuda-drivers-{branch}")
    if os_id in RED_HAT_LIKE:
        # Another stream that is enabled is not left without the reset.
        return ("sudo dnf module reset nvidia-driver", f"sudo dnf module install nvidia-driver:{branch}-dkms")
    tool = _tool(os_id)
    return (f"sudo {tool} install cuda-drivers",) if tool else ()


def _open(os_id: str, branch: int) -> tuple[str, ...]:
    """Name Ubuntu's package, elsewhere those of NVIDIA's own installation guide."""
    if os_id == "ubuntu":
        return ("sudo apt-get update", f"sudo apt-get install nvidia-driver-{branch}-server-open")
    if os_id in DEBIAN_LIKE:
        return ("sudo apt-get update", "sudo apt-get install nvidia-open")
    if os_id in RED_HAT_LIKE:
        stream = f"sudo dnf module enable nvidia-driver:{branch}-open"
        return ("sudo dnf module reset nvidia-driver", stream, "sudo dnf install nvidia-open")
    tool = _tool(os_id)
    return (f"sudo {tool} install nvidia-open",) if tool else ()


def _tool(os_id: str) -> str:
    return "dnf" if os_id == "fedora" else "zypper" if os_id in SUSE_LIKE else ""


def windows_driver(branch: int) -> Fix:
    """Renew the driver of Windows: WSL takes its libcuda from there, and a Linux driver inside would shadow it."""
    return Fix(
        f"Install NVIDIA's driver {branch} or newer in Windows (never a Linux driver inside WSL), then restart WSL",
        shell("wsl.exe --shutdown"),
        Safety.DISRUPTIVE,
        "the Windows driver; every WSL session ends",
    )


def jetpack() -> Fix:
    """Renew the system image of a Jetson, which carries its driver."""
    return Fix(
        "Upgrade JetPack: on Jetson the driver comes with the system image",
        shell("cat /etc/nv_tegra_release", "sudo apt-get update && sudo apt-get install nvidia-jetpack"),
        Safety.DISRUPTIVE,
        "the system image",
        needs_root=True,
        needs_reboot=True,
    )


def load_module() -> Fix:
    """Load the kernel module that is on disk already."""
    return Fix(
        "Load the NVIDIA kernel module that is installed",
        shell("sudo modprobe nvidia", "sudo dmesg | grep -i -E 'nvidia|nvrm' | tail"),
        Safety.ADMIN,
        "the running kernel's modules",
        needs_root=True,
    )


def make_nodes() -> Fix:
    """Create the device nodes as the driver's own tool does."""
    return Fix(
        "Create the device nodes with the driver's own tool",
        shell("sudo nvidia-modprobe -c 0 -u", "ls -l /dev/nvidia*"),
        Safety.ADMIN,
        "/dev",
        needs_root=True,
    )


def reboot(why: str) -> Fix:
    """Restart the machine, so that the kernel loads the module that belongs to the installed libraries."""
    return Fix(
        why, shell("sudo reboot"), Safety.DISRUPTIVE, "every running program ends", needs_root=True, needs_reboot=True
    )


def reload_modules() -> Fix:
    """Swap the kernel modules without a restart, once nothing uses the GPUs."""
    return Fix(
        "Or, without a restart: stop everything that uses the GPUs, then load the new modules",
        shell("sudo rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia && sudo modprobe nvidia && nvidia-smi"),
        Safety.DISRUPTIVE,
        "every program on the GPUs must end first",
        needs_root=True,
    )


def reload_uvm() -> Fix:
    """Load nvidia-uvm afresh: what a suspend or a half upgrade leaves broken."""
    return Fix(
        "Reload the nvidia-uvm module, once nothing uses the GPUs",
        shell("sudo rmmod nvidia_uvm && sudo modprobe nvidia_uvm"),
        Safety.DISRUPTIVE,
        "every program on the GPUs must end first",
        needs_root=True,
    )


def load_uvm() -> Fix:
    """Load nvidia-uvm and create its node, as the driver's own tool does."""
    return Fix(
        "Load the nvidia-uvm module and create its node",
        shell("sudo nvidia-modprobe -u -c 0 || sudo modprobe nvidia_uvm"),
        Safety.ADMIN,
        "the running kernel's modules",
        needs_root=True,
    )


def start_fabric_manager(host: Host | None, driver_version: str | None) -> tuple[Fix, ...]:
    """Install the fabric manager of exactly this driver and start it."""
    where = " on the host" if place(host) == "host" else ""
    start = Fix(
        f"Start the fabric manager{where}",
        shell("sudo systemctl enable --now nvidia-fabricmanager", "systemctl status nvidia-fabricmanager --no-pager"),
        Safety.ADMIN,
        "a system service",
        needs_root=True,
    )
    package = _fabric_package((host and host.os_id) or "", driver_version)
    install = Fix(
        f"If it is missing, or of another version: install the fabric manager of exactly the driver's version{where}",
        shell(package, "sudo systemctl restart nvidia-fabricmanager"),
        Safety.ADMIN,
        "a system package and service",
        needs_root=True,
    )
    return (start, install)


def _fabric_package(os_id: str, driver_version: str | None) -> str:
    branch = (driver_version or "").partition(".")[0] or str(FALLBACK_BRANCH)
    if os_id in RED_HAT_LIKE | {"fedora"}:
        return f"sudo dnf install nvidia-fabric-manager{'-' + driver_version if driver_version else ''}"
    exact = f"='{driver_version}-*'" if driver_version else ""
    return f"sudo apt-get install nvidia-fabricmanager-{branch}{exact}"


def cuda_compat(cuda: str, host: Host | None = None) -> Fix:
    """Put a newer libcuda before the driver's own: forward compatibility, for data-centre GPUs only."""
    package, directory = f"cuda-compat-{cuda.replace('.', '-')}", f"/usr/local/cuda-{cuda}/compat"
    return Fix(
        f"Keep the driver and use NVIDIA's forward compatibility package for CUDA {cuda} (data-centre GPUs only)",
        shell(
            _install((host and host.os_id) or "ubuntu", package),
            f'export LD_LIBRARY_PATH="{directory}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"',
        ),
        Safety.ADMIN,
        "a system package; the loader's search path of this shell",
        needs_root=True,
    )


def _install(os_id: str, package: str) -> str:
    if os_id in RED_HAT_LIKE | {"fedora"}:
        return f"sudo dnf install {package}"
    if os_id in SUSE_LIKE:
        return f"sudo zypper install {package}"
    known = os_id == "ubuntu" or os_id in DEBIAN_LIKE
    return f"sudo apt-get install {package}{'' if known else '  # Ubuntu; else as NVIDIA packs it there'}"
