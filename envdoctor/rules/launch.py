"""How the job was launched, by the variables that launchers set: on how many machines, with how many processes here."""

from __future__ import annotations

from envdoctor.facts.host import Environment
from envdoctor.facts.libraries import Toolkit
from envdoctor.finding import Evidence, see

LOCAL = ("LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE")
WORLD = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_NTASKS")
MACHINES = ("GROUP_WORLD_SIZE", "SLURM_JOB_NUM_NODES", "SLURM_NNODES")
OWN_RANK = ("LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK")
# Slurm sets these in a plain shell of an allocation too: they speak of this process only inside a step of srun. And a
# step of one task, as the shell that salloc opens, keeps the allocation's tasks per node.
SLURM_STEP, SLURM_LOCAL, SLURM_RANK = ("SLURM_STEP_ID", "SLURM_STEPID"), "SLURM_NTASKS_PER_NODE", "SLURM_LOCALID"
SLURM_STEP_TASKS = "SLURM_STEP_NUM_TASKS"


def number(environment: Environment | None, *names: str) -> tuple[int, str] | None:
    """Give the first of these variables that holds a number, and its name."""
    for name in names:
        value = (environment.get(name) or "").strip() if environment else ""
        if value.isdigit():
            return int(value), name
    return None


def several_machines(environment: Environment | None) -> Evidence | None:
    """Give what shows that the job runs on more than one machine; None when nothing does."""
    machines = number(environment, *MACHINES)
    if environment and machines and machines[0] > 1:
        return see(environment, "variables", machines[1], machines[0])
    world, local = number(environment, *WORLD), number(environment, *LOCAL)
    if environment and world and local and world[0] > local[0] > 0:
        return see(environment, "variables", f"{world[1]} and {local[1]}", f"{world[0]} and {local[0]}")
    return None


def processes_here(environment: Environment | None) -> tuple[int, str] | None:
    """Give how many processes of the job run on this machine, and which variable says so."""
    told = _in_step(environment, SLURM_LOCAL), _in_step(environment, SLURM_STEP_TASKS)
    return number(environment, *LOCAL) or (min(filter(None, told), default=None) if told[0] else None)


def _in_step(environment: Environment | None, name: str) -> tuple[int, str] | None:
    return number(environment, name) if number(environment, *SLURM_STEP) else None


def own_rank(environment: Environment | None) -> int | None:
    """Give this process's number on this machine; None outside a launched job."""
    found = number(environment, *OWN_RANK) or _in_step(environment, SLURM_RANK)
    return found[0] if found else None


def nccl_setting(environment: Environment | None, toolkit: Toolkit | None, name: str) -> tuple[str, Evidence] | None:
    """Give what NCCL will read for ``name``: the variable, else its configuration files."""
    value = environment.get(name) if environment else None
    if environment and value is not None:
        return value, see(environment, "variables", name, value)
    for key, text in toolkit.nccl_conf if toolkit else ():
        if toolkit and key == name:
            where = toolkit.nccl_conf_path or "nccl.conf"
            return text, Evidence("toolkit.nccl_conf", text, where, "", f"{name} in {where}")
    return None
