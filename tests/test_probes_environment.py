"""The environment probe: what is listed is collected, what can be a secret is not."""

from __future__ import annotations

import pytest
from envdoctor_probes.environment import LONGEST_VALUE, clean_value, environment, is_collected, select_variables
from hypothesis import given
from hypothesis import strategies as st

from envdoctor.facts.host import Environment, Variable
from envdoctor.probe import Context


def test_listed_variables_are_collected_and_the_others_counted() -> None:
    """Names outside the list are counted, never named."""
    environ = {"NCCL_DEBUG": "INFO", "HOME": "/home/ada", "AWS_REGION": "x", "RANK": "3", "LOCAL_RANK": "1"}
    fact = environment.collect(Context(environ=environ))
    assert isinstance(fact, Environment)
    expected = (Variable("LOCAL_RANK", "1"), Variable("NCCL_DEBUG", "INFO"), Variable("RANK", "3"))
    assert (expected, 2) == (fact.variables, fact.names_not_collected)


LISTED = [
    "TORCH_LOGS", "TORCHINDUCTOR_CACHE_DIR", "PYTORCH_ALLOC_CONF", "TRITON_CACHE_DIR",
    "CUDA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG", "CUBLASLT_LOG_LEVEL", "CUDNN_LOGLEVEL_DBG",
    "NVIDIA_TF32_OVERRIDE", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "KMP_AFFINITY",
    "OPENBLAS_NUM_THREADS", "LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONPATH",
    "UCX_TLS", "FI_PROVIDER", "OMPI_MCA_btl", "GLOO_SOCKET_IFNAME",
    "CONDA_PREFIX", "VIRTUAL_ENV", "LOADEDMODULES", "MASTER_ADDR",
    "WORLD_SIZE", "SLURM_JOB_ID", "CC", "CXX",
]  # fmt: skip


@pytest.mark.parametrize("name", LISTED)
def test_what_changes_a_librarys_behaviour_is_listed(name: str) -> None:
    """The families of the contract are on the list."""
    assert is_collected(name)


@pytest.mark.parametrize("name", ["HOME", "USER", "PATH", "AWS_SECRET_ACCESS_KEY", "SSH_AUTH_SOCK", "HF_TOKEN"])
def test_what_names_a_person_or_a_secret_is_not_listed(name: str) -> None:
    """Nothing of a person is collected."""
    assert not is_collected(name)


@pytest.mark.parametrize(
    "name", ["SLURM_JWT", "SLURM_JWT_TOKEN", "NVIDIA_API_KEY", "FI_PASSWORD", "OMPI_auth", "UCX_CREDENTIAL_FILE"]
)
def test_value_of_a_name_that_speaks_of_a_secret_is_dropped(name: str) -> None:
    """The name alone decides."""
    assert Variable(name, "***", redacted=True) == clean_value(name, "abc")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("https://user:pass@host/simple", "https://***@host/simple"),
        ("https://user:p@ss@host/simple", "https://***@host/simple"),
        ("https://token@host/x https://u:p@other", "https://***@host/x https://***@other"),
        ("user:pass@proxy:3128", "***@proxy:3128"),
        ("https://host/x?token=abc&v=1", "https://host/x?token=***&v=1"),
    ],
)
def test_credentials_inside_a_value_are_stripped(value: str, expected: str) -> None:
    """The host stays, the user and what follows it goes."""
    assert Variable("PIP_EXTRA_INDEX_URL", expected, redacted=True) == clean_value("PIP_EXTRA_INDEX_URL", value)


@pytest.mark.parametrize("value", ["mlx5_0:1,mlx5_1:1", "/a:/b:/c", "expandable:True", "tcp://10.0.0.1:29500/a"])
def test_ordinary_values_are_kept_as_they_are(value: str) -> None:
    """Colons and commas are everyday."""
    assert Variable("NCCL_IB_HCA", value) == clean_value("NCCL_IB_HCA", value)


def test_long_value_is_bounded_and_says_so() -> None:
    """A generated LD_LIBRARY_PATH can be huge; what was cut is counted."""
    value = clean_value("LD_LIBRARY_PATH", "x" * (LONGEST_VALUE + 10)).value
    assert ("x" * LONGEST_VALUE + "… (10 more characters)") == value


@given(
    st.text(st.characters(categories=("L", "N")), min_size=1),
    st.text(st.characters(codec="ascii", categories=("L", "N", "P")), min_size=6),
)
def test_no_password_of_a_url_survives(user: str, password: str) -> None:
    """Whatever the password is made of, it is not in what is kept."""
    (kept,) = select_variables({"PIP_EXTRA_INDEX_URL": f"https://{user}:{password}@index.invalid/simple"})
    assert password not in kept.value
