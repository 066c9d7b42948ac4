"""Rules about torch's files: damage, local files in front of it, and more than one installation."""

from __future__ import annotations

import pytest

from envdoctor.diagnose import examine
from envdoctor.facts import Fact
from envdoctor.facts.host import Environment, Variable
from envdoctor.facts.torch import DamagedFile, Shadow, TorchBuild, TorchFiles, TorchImport, TorchPath
from envdoctor.finding import Confidence, Severity, Status
from envdoctor.rules.torch_copies import duplicate_torch_installs
from envdoctor.rules.torch_files import torch_install_damaged, torch_shadowed_by_local_file
from envdoctor.snapshot import of
from envdoctor.testing import check
from tests.torch_facts import INDEX, SITE, commands, conda, cuda_build, dist, venv

PYTHON = "/opt/venv/bin/python"
IMPORTED = TorchImport(imported=True)
TORCH = dist("torch", "2.5.1")
CUDNN = dist("nvidia-cudnn-cu12", "9.1.0.70")


def damage(path: str, problem: str, owner: str = "torch", found: str = "0 bytes") -> TorchFiles:
    """Make the files of a torch with one damaged one."""
    broken = DamagedFile(path, owner, problem, "4096 bytes", found)
    return TorchFiles(checked_files=100, damaged=(broken,), dist_infos=("torch-2.5.1.dist-info",))


@pytest.mark.parametrize("problem", ["empty", "lfs-pointer", "not-elf", "other-machine", "unreadable"])
def test_broken_library_is_an_error_even_after_an_import(problem: str) -> None:
    """A library that is none is an error: what was not needed at import fails later."""
    files = damage("nvidia/cudnn/lib/libcudnn.so.9", problem, "nvidia-cudnn-cu12")
    finding = check(torch_install_damaged, files, venv(TORCH, CUDNN), IMPORTED).finding
    assert (Severity.ERROR, Confidence.CERTAIN) == (finding.severity, finding.confidence)
    assert [f"{PYTHON} -m pip install --force-reinstall --no-deps 'nvidia-cudnn-cu12==9.1.0.70'"] == commands(finding)


def test_library_of_another_size_is_cut_off() -> None:
    """A library whose size differs from RECORD is an error while nothing shows that torch works."""
    files = damage("torch/lib/libtorch_cpu.so", "size", found="1024 bytes")
    finding = check(torch_install_damaged, files, venv(dist("torch", "2.5.1+cu124")), cuda_build()).finding
    again = f"'torch==2.5.1+cu124' --index-url {INDEX}/cu124"
    assert (Severity.ERROR, [f"{PYTHON} -m pip install --force-reinstall --no-deps {again}"]) == (
        finding.severity,
        commands(finding),
    )


@pytest.mark.parametrize(
    ("path", "problem"), [("torch/nn/modules/linear.py", "size"), ("torch/testing/_internal/x.py", "missing")]
)
def test_edited_or_removed_module_of_a_torch_that_imports_is_a_warning(path: str, problem: str) -> None:
    """What somebody may have done on purpose is only a warning once torch was seen to import."""
    finding = check(torch_install_damaged, damage(path, problem), venv(TORCH), IMPORTED).finding
    assert (Severity.WARNING, Confidence.LIKELY) == (finding.severity, finding.confidence)


@pytest.mark.parametrize(
    ("files", "severity"),
    [
        (
            TorchFiles(package_missing=True, metadata_missing=False, dist_infos=("torch-2.5.1.dist-info",)),
            Severity.ERROR,
        ),
        (TorchFiles(metadata_empty=True, dist_infos=("torch-2.5.1.dist-info",)), Severity.ERROR),
        (TorchFiles(leftovers=("~orch-2.4.1.dist-info",)), Severity.INFO),
        (TorchFiles(record_missing=True), Severity.INFO),
        (TorchFiles(metadata_missing=True), Severity.INFO),
    ],
    ids=["no files", "empty metadata", "leftover", "no RECORD", "no metadata"],
)
def test_broken_metadata(files: TorchFiles, severity: Severity) -> None:
    """Metadata without files and empty metadata are errors; what only hinders pip is info; each has a way out."""
    finding = check(torch_install_damaged, files, venv(TORCH), TorchBuild(location=f"{SITE}/torch")).finding
    assert (severity, True) == (finding.severity, bool(commands(finding)))


def test_leftover_is_named_with_its_directory() -> None:
    """What pip left behind is deleted by its whole path, quoted."""
    files = TorchFiles(leftovers=("~orch-2.4.1.dist-info",))
    finding = check(torch_install_damaged, files, venv(TORCH), TorchBuild(location=f"{SITE}/torch")).finding
    assert [f"rm -r -- '{SITE}/~orch-2.4.1.dist-info'"] == commands(finding)


@pytest.mark.parametrize("source", ["system", "conda"])
def test_no_record_is_normal_for_an_operating_systems_or_condas_package(source: str) -> None:
    """Distributions' packages and conda's come without RECORD."""
    packages = venv(dist("torch", "2.5.1", source=source))
    assert Status.PASSED is check(torch_install_damaged, TorchFiles(record_missing=True), packages).status


def test_lost_record_is_installed_over() -> None:
    """Without RECORD pip cannot remove what is there, and must be told to install over it."""
    finding = check(torch_install_damaged, TorchFiles(record_missing=True), venv(TORCH)).finding
    assert [f"{PYTHON} -m pip install --ignore-installed --no-deps 'torch==2.5.1'"] == commands(finding)


def test_whole_install_passes() -> None:
    """Files that are what RECORD says are no finding."""
    whole = TorchFiles(
        checked_files=15_000, dist_infos=("torch-2.5.1.dist-info",), metadata_empty=False, record_missing=False
    )
    assert Status.PASSED is check(torch_install_damaged, whole, venv(TORCH), cuda_build()).status


def test_damage_is_explained_by_a_second_installation() -> None:
    """Two metadata in one directory: both fire, and the duplicate is the cause."""
    packages = venv(TORCH, dist("torch", "2.4.1"))
    files = TorchFiles(dist_infos=("torch-2.5.1.dist-info", "torch-2.4.1.dist-info"))
    report = examine(of(files, packages), (torch_install_damaged, duplicate_torch_installs))
    assert ["duplicate-torch-installs", "torch-install-damaged"] == [each.id for each in report.findings]
    assert ("duplicate-torch-installs",) == report.findings[1].caused_by
    remove = f"{PYTHON} -m pip uninstall -y 'torch'"
    assert [remove, remove, f"{PYTHON} -m pip install 'torch==2.5.1'"] == commands(report.findings[0])


def test_torch_of_ones_own_build_is_not_sought_on_an_index() -> None:
    """A source build is installed again from where it came; no version of it is named."""
    files = damage("torch/lib/libtorch_cpu.so", "empty")
    finding = check(torch_install_damaged, files, venv(dist("torch", "2.1.0a0+32f93b1"))).finding
    assert [f"{PYTHON} -m pip show --verbose 'torch'"] == commands(finding)


@pytest.mark.parametrize(
    ("torch", "python", "named"),
    [
        ("2.5.1+cu124", "3.12.3", True),
        ("2.5.1+cu124", "3.14.0", False),
        ("1.9.0", "3.9.7", True),
        ("1.3.1+cpu", "3.6.9", False),
        ("99.1+cu190", "3.20.1", True),
    ],
    ids=["a wheel", "none for this Python", "early, from PyPI", "early, with a tag", "newer than the table"],
)
def test_only_a_release_that_an_index_has_is_named(torch: str, python: str, named: bool) -> None:
    """A release without a wheel for this Python was built or copied by somebody: it is looked up, not installed."""
    packages = venv(dist("torch", torch), python=python)
    finding = check(torch_install_damaged, damage("torch/lib/libtorch_cpu.so", "empty"), packages).finding
    assert named is any(f"'torch=={torch}'" in each for each in commands(finding))


def test_conda_puts_its_own_files_back() -> None:
    """A torch that conda brought is put back by conda."""
    packages = venv(conda("torch", "2.5.1"), environment_kind="conda", prefix="/opt/conda")
    finding = check(torch_install_damaged, damage("torch/lib/libc10.so", "missing"), packages).finding
    assert ["conda install --prefix /opt/conda --force-reinstall 'pytorch'"] == commands(finding)


def test_local_torch_py_hides_torch() -> None:
    """A torch.py in the working directory is an error, and is renamed."""
    path = TorchPath(shadows=(Shadow("torch", "/home/a b/torch.py", f"{SITE}/torch", "cwd"),))
    finding = check(torch_shadowed_by_local_file, path).finding
    assert (Severity.ERROR, Confidence.LIKELY, "torch") == (finding.severity, finding.confidence, finding.subject)
    assert ["mv -n -- '/home/a b/torch.py' '/home/a b/my_torch.py'"] == commands(finding)


def test_file_on_pythonpath_is_certain() -> None:
    """What PYTHONPATH puts first is first however Python is started."""
    path = TorchPath(shadows=(Shadow("queue", "/project/lib/queue.py", None, "PYTHONPATH"),))
    finding = check(torch_shadowed_by_local_file, path).finding
    assert (Confidence.CERTAIN, "the standard library's") == (finding.confidence, finding.evidence[1].value)


@pytest.mark.parametrize(
    ("name", "imported", "severity"),
    [
        ("random", None, Severity.ERROR),
        ("random", False, Severity.ERROR),
        ("random", True, Severity.WARNING),
        ("code", None, Severity.WARNING),
        ("code", False, Severity.ERROR),
        ("code", True, Severity.WARNING),
        ("torch", True, Severity.ERROR),
    ],
)
def test_a_torch_that_was_seen_to_import_is_believed(name: str, imported: bool | None, severity: Severity) -> None:
    """A project's calendar.py or code.py keeps no torch from working that works: it is no reason to refuse a run."""
    path = TorchPath(shadows=(Shadow(name, f"/project/{name}.py", None, "cwd"),))
    facts = (path,) if imported is None else (path, TorchImport(imported=imported))
    finding = check(torch_shadowed_by_local_file, *facts).finding
    assert (severity, "all the same" in finding.detail) == (
        finding.severity, severity is Severity.WARNING and imported is True,
    )  # fmt: skip


def test_source_checkout_is_left_not_renamed() -> None:
    """A folder of PyTorch's sources is no file to rename: Python is started elsewhere."""
    path = TorchPath(shadows=(Shadow("torch", "/src/pytorch/torch", None, "cwd"),))
    assert ["cd / && python -c 'import torch; print(torch.__file__)'"] == commands(
        check(torch_shadowed_by_local_file, path).finding
    )


def test_nothing_hidden_passes() -> None:
    """A path without shadows passes."""
    assert Status.PASSED is check(torch_shadowed_by_local_file, TorchPath(found=(f"{SITE}/torch",))).status


OTHER = dist("torch", "2.8.0", location="/home/someone/.local/lib/python3.11/site-packages")


@pytest.mark.parametrize(
    "facts",
    [
        (venv(TORCH, dist("torch", "2.4.1")),),
        (venv(TORCH, OTHER),),
        (venv(TORCH), TorchPath(found=(f"{SITE}/torch", "/usr/lib/python3/dist-packages/torch"))),
        (venv(dist("torch", "1.9.0"), conda("pytorch", "1.6.0", "py3.7_cuda10.2.89_cudnn7.6.5_0")),),
        (venv(TORCH), TorchBuild(version="2.4.1+cu121", metadata_version="2.5.1")),
    ],
    ids=["one directory", "two directories", "files without metadata", "pip over conda", "files of another version"],
)
def test_two_installations(facts: tuple[Fact, ...]) -> None:
    """Every way to have two torch on the path is an error, until torch is seen to import: then a warning."""
    finding = check(duplicate_torch_installs, *facts).finding
    assert (Severity.ERROR, True) == (finding.severity, len(finding.evidence) >= 1 and bool(commands(finding)))
    assert Severity.WARNING is check(duplicate_torch_installs, *facts, IMPORTED).finding.severity


def test_version_whose_files_are_there_is_kept() -> None:
    """Of two metadata in one directory, the one that the files agree with is installed again."""
    packages = venv(dist("torch", "2.4.1"), TORCH)
    finding = check(duplicate_torch_installs, packages, cuda_build("2.5.1+cu124", "12.4")).finding
    assert f"{PYTHON} -m pip install 'torch==2.5.1'" == commands(finding)[-1]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/sw/torch/lib:/sw/more/", True),
        ("/sw/more/:/sw/torch/lib/", True),
        (f"/sw/torch/lib:{SITE}", False),
        ("/sw/more", False),
        ("", False),
    ],
)
def test_copy_that_pythonpath_brings_is_left_out_not_removed(value: str, expected: bool) -> None:
    """A module's torch before the environment's own: the first fix looks without the variable, none uninstalls."""
    packages = venv(dist("torch", "2.4.1", location="/sw/torch/lib"), TORCH)
    path = TorchPath(found=("/sw/torch/lib/torch", f"{SITE}/torch"))
    environment = Environment(variables=(Variable("PYTHONPATH", value),))
    finding = check(duplicate_torch_installs, packages, path, environment).finding
    first = f"env -u PYTHONPATH {PYTHON} -c 'import torch; print(torch.__file__)'"
    assert expected == (first == commands(finding)[0])
    assert expected != any("uninstall" in each for each in commands(finding))
    assert expected == ("PYTHONPATH" in {each.label for each in finding.evidence})


def test_same_version_twice_is_info() -> None:
    """The same torch in two places changes nothing that is imported."""
    twice = venv(TORCH, dist("torch", "2.5.1", location="/usr/lib/python3/dist-packages"))
    assert Severity.INFO is check(duplicate_torch_installs, twice).finding.severity


@pytest.mark.parametrize(
    "facts",
    [
        (venv(TORCH), TorchPath(found=(f"{SITE}/torch",)), cuda_build()),
        (venv(conda("torch", "2.3.1"), conda("pytorch", "2.3.1", "py3.11_cuda12.1_cudnn8.9.2_0")),),
        (venv(dist("torch", "2.4.0"), conda("pytorch", "2.4.0", "py3.12_cuda12.4_cudnn9.1.0_0")),),
        (venv(TORCH), TorchPath(found=("/w/torch", f"{SITE}/torch"), namespaces=("/w/torch",))),
        (
            venv(TORCH),
            TorchPath(found=("/w/torch.py", f"{SITE}/torch"), shadows=(Shadow("torch", "/w/torch.py", "x", "cwd"),)),
        ),
        (
            venv(dist("torch", "2.1.0a0+32f93b1")),
            TorchBuild(version="2.1.0a0+32f93b1", metadata_version="2.1.0a0+32f93b1"),
        ),
        (venv(),),
    ],
    ids=["one", "conda's two names", "conda seen by pip list", "namespace", "local file", "NVIDIA's image", "none"],
)
def test_one_installation(facts: tuple[Fact, ...]) -> None:
    """One torch under two names, or beside a folder or file of that name, is one torch."""
    assert Status.PASSED is check(duplicate_torch_installs, *facts).status
