"""Where a rank stands, by the variables that launchers set: recorded environments."""

from __future__ import annotations

import pytest

from envdoctor.fleet.launch import PORTS, Launch, LaunchError, by_hand, first_host, read

TORCHRUN = {
    "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "GROUP_RANK": "1",
    "GROUP_WORLD_SIZE": "2", "MASTER_ADDR": "node1", "MASTER_PORT": "29500", "TORCHELASTIC_RUN_ID": "none",
    "TORCHELASTIC_RESTART_COUNT": "0", "TORCHELASTIC_USE_AGENT_STORE": "True",
}  # fmt: skip
SRUN = {
    "SLURM_JOB_ID": "77", "SLURM_STEP_ID": "3", "SLURM_PROCID": "9", "SLURM_NTASKS": "16", "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1", "SLURM_STEP_NUM_NODES": "2", "SLURM_NNODES": "2", "SLURM_STEP_NODELIST": "gpu[07-08]",
}  # fmt: skip
OPENMPI = {
    "OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2", "OMPI_MCA_ess_base_jobid": "134",
    "OMPI_MCA_orte_hnp_uri": "134.0;tcp://10.1.0.4,192.168.1.4:36281",
}  # fmt: skip


def place(**environ: str) -> Launch:
    """Read an environment that some launcher has set."""
    found = read(environ)
    assert found is not None
    return found


def test_torchrun_keeps_a_store() -> None:
    """The agent's store is used, the node is known, and rank 0 has nothing to open."""
    found = place(**TORCHRUN)
    assert ("torchrun", 5, 8, "node1", 29500) == (
        found.launcher,
        found.rank,
        found.world_size,
        found.address,
        found.port,
    )
    assert (1, 1, 2, True) == (found.local_rank, found.node, found.nodes, found.keeps_store)
    assert (False, False, True) == (found.leads, found.hosts, found.several_nodes)


def test_accelerate_is_torchrun_with_its_own_name() -> None:
    """Accelerate launch starts torchrun; the report calls it by the name that was typed."""
    assert "accelerate" == place(**TORCHRUN, ACCELERATE_MIXED_PRECISION="no").launcher


def test_srun_says_nodes_and_tasks() -> None:
    """The first host of the step's list is where the ranks meet, at a port that follows from the step."""
    found = place(**SRUN)
    assert ("srun", 9, 16, "gpu07") == (found.launcher, found.rank, found.world_size, found.address)
    assert (1, 1, 2, False) == (found.local_rank, found.node, found.nodes, found.keeps_store)
    assert found.port in PORTS
    assert found.port == place(**SRUN | {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}).port


def test_steps_do_not_meet() -> None:
    """Two steps of one job have different names, and mostly different ports."""
    runs = {place(**SRUN | {"SLURM_STEP_ID": str(step)}).run for step in range(5)}
    assert 5 == len(runs)


def test_a_shell_of_an_allocation_is_no_step() -> None:
    """Slurm sets most variables in a batch script as well: nothing was launched there."""
    assert read({name: value for name, value in SRUN.items() if name != "SLURM_STEP_ID"}) is None


def test_openmpi_meets_where_mpirun_runs() -> None:
    """Nothing but the address of mpirun itself is known; all on one node need none."""
    found = place(**OPENMPI)
    assert ("mpirun", 3, 4, "10.1.0.4", 2) == (found.launcher, found.rank, found.world_size, found.address, found.nodes)
    alone = place(**OPENMPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "4"})
    assert ("127.0.0.1", 1, False) == (alone.address, alone.nodes, alone.several_nodes)


def test_mpich_and_intel_mpi() -> None:
    """Hydra's names are known; without an address and with ranks elsewhere there is nothing to go by."""
    found = place(PMI_RANK="1", PMI_SIZE="2", MPI_LOCALRANKID="1", MPI_LOCALNRANKS="2")
    assert ("mpirun", 1, 2, "127.0.0.1") == (found.launcher, found.rank, found.world_size, found.address)
    with pytest.raises(LaunchError, match="mpirun -x MASTER_ADDR=HOST_OF_RANK_0"):
        read({"PMI_RANK": "1", "PMI_SIZE": "4", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"})


def test_variables_set_by_hand() -> None:
    """A Kubernetes operator or a person sets torch's own four variables, and nothing says how many nodes there are."""
    found = place(RANK="0", WORLD_SIZE="2", MASTER_ADDR="job-master-0", MASTER_PORT="23456")
    assert ("environment", "job-master-0", 23456, True) == (found.launcher, found.address, found.port, found.hosts)
    assert (None, None) == (found.nodes, found.several_nodes)


def test_torchruns_own_options() -> None:
    """One rank a node, started by hand where torchrun hangs."""
    found = by_hand(2, 1, "node1", None)
    assert (1, 2, "node1", 29500, 2) == (found.rank, found.world_size, found.address, found.port, found.nodes)


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"RANK": "8", "WORLD_SIZE": "8"}, "RANK=8 is no rank of WORLD_SIZE=8: expected 0 to 7"),
        ({"RANK": "one", "WORLD_SIZE": "8"}, "RANK='one' and WORLD_SIZE='8': expected two numbers"),
        ({"MASTER_PORT": "70000"}, "MASTER_PORT='70000' is no port"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "MASTER_ADDR is not set"),
    ],
)
def test_what_contradicts_itself_is_refused(environ: dict[str, str], words: str) -> None:
    """Values that cannot be meant are named, not guessed at."""
    with pytest.raises(LaunchError, match=words):
        read(environ)


@pytest.mark.parametrize("rank", [None, -1, 2])
def test_a_node_rank_out_of_range_is_refused(rank: int | None) -> None:
    """Each node has a number of its own."""
    with pytest.raises(LaunchError, match="--node-rank"):
        by_hand(2, rank, "node1", None)


def test_an_environment_without_a_launcher() -> None:
    """Nothing launched: None, not an error."""
    assert read({"PATH": "/bin", "MASTER_ADDR": "node1", "MASTER_PORT": "29500"}) is None


@pytest.mark.parametrize(
    ("hosts", "first"),
    [
        ("node1", "node1"),
        ("node1,node2", "node1"),
        ("gpu[007-009,12]", "gpu007"),
        ("gpu[3,5]-ib,login1", "gpu3-ib"),
        ("a-b-[10-12]", "a-b-10"),
        ("", ""),
    ],
)
def test_the_first_host_of_slurms_list(hosts: str, first: str) -> None:
    """Slurm folds names; rank 0 runs on the first."""
    assert first == first_host(hosts)
