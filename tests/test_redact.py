"""Redaction: credentials never leave, people and machines only where a report is not shared."""

from __future__ import annotations

from dataclasses import replace

import pytest

from envdoctor import redact, snapshot
from envdoctor.facts.host import Environment, Host, Variable
from envdoctor.facts.nvml import Gpu, GpuState
from envdoctor.facts.packages import Distribution, Packages
from envdoctor.facts.torch import TorchBuild, TorchImport
from envdoctor.finding import Evidence, Finding, Report, Verdict
from envdoctor.outcome import Crashed, Failed
from envdoctor.redact import paths, secrets, share, share_report, without_credentials
from envdoctor.redact.labels import Labels
from envdoctor.render import json as json_format
from envdoctor.snapshot import ProbeResult, Snapshot, Target, of, save, with_target

UUID = "GPU-5ad5ebc1-1c2e-4d3a-9f60-0123456789ab"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://bob:s3cr3t@host/simple", "https://***@host/simple"),
        ("https://token@host/", "https://***@host/"),
        ("git+ssh://git@host/x@v1", "git+ssh://***@host/x@v1"),
        ("https://u:p@ss@host/x", "https://***@host/x"),
        ("https://u:pa/ss@host/x", "https://***@host/x"),
        ("two http://a:b@h/ and http://c:d@i/", "two http://***@h/ and http://***@i/"),
        ("https://host/?q=1&access_token=abc&x=2", "https://host/?q=1&access_token=***&x=2"),
        ("https://host/x?sig=a%2Fb", "https://host/x?sig=***"),
        ("https://host:8080/pkg@1.0", "https://host:8080/pkg@1.0"),
        ("mail bob@example.org", "mail bob@example.org"),
        ("no url: a:b@c", "no url: a:b@c"),
    ],
)
def test_urls_lose_their_credentials(text: str, expected: str) -> None:
    """Names, passwords and tokens inside a URL are taken out; the rest of the text stays."""
    assert expected == without_credentials(text)


def test_hostile_text_takes_linear_time() -> None:
    """A text made to make a pattern slow is done at once (a quadratic pattern needs minutes)."""
    text = "http://a:b" * 20_000
    assert text == without_credentials(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("HF_TOKEN=abcdefgh", "HF_TOKEN=secret-1"),
        ("SLURM_JWT=abcdefgh", "SLURM_JWT=secret-1"),
        ("  SECRET_KEY: 'abcdefgh'", "  SECRET_KEY: 'secret-1'"),
        ("MAX_TOKENS=a-lot MONKEY=banana", "MAX_TOKENS=a-lot MONKEY=banana"),
        ("export AWS_SECRET_ACCESS_KEY='abc/def+12'", "export AWS_SECRET_ACCESS_KEY='secret-1'"),
        ('{"api_key": "abcdef12"}', '{"api_key": "secret-1"}'),
        ("train.py --hub-token abcdef --lr 3", "train.py --hub-token secret-1 --lr 3"),
        ("Authorization: Bearer abcdefgh12345678", "Authorization: Bearer secret-1"),
        (f"login with hf_{'Ab1' * 8}", "login with secret-1"),
        ("max_tokens=1024 eos_token=2 pad_token='<pad>'", "max_tokens=1024 eos_token=2 pad_token='<pad>'"),
        ("KeyError: 'key'; password = None", "KeyError: 'key'; password = None"),
        ("HF_TOKEN=secret-1", "HF_TOKEN=secret-1"),
    ],
)
def test_secrets_in_a_log_are_labelled(text: str, expected: str) -> None:
    """What a name, an option or its shape marks as a secret goes; numbers and a tokenizer's own tokens stay."""
    assert expected == secrets.in_text(text, Labels())


@pytest.mark.parametrize("word", ["eyJ-", "A_", "KEY_", "--token ", "--a-", "secret: ", "Bearer ", 'token"'])
def test_hostile_words_take_linear_time(word: str) -> None:
    """A text made to make a pattern slow is done soon."""
    assert secrets.in_text(word * 10_000, Labels())


def test_a_log_beside_a_report_names_nobody() -> None:
    """A prompt in the log names a person and a machine: both are labelled wherever they stand in it."""
    report = Report(patient(), (), (), None, Verdict.OK)
    log = "eve@gpubox17:~/x$ HF_TOKEN=abcdefgh python t.py\n[gpubox17:0]: no route to gpubox17.corp"
    _, told, removed = redact.share_with_text(report, log)
    assert not [each for each in ("eve", "gpubox17", "abcdefgh") if each in told]
    assert {"secret", "host", "user"} <= {each.label.partition("-")[0] for each in removed}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/usr/lib/x86_64-linux-gnu/libcuda.so.1", "/usr/lib/x86_64-linux-gnu/libcuda.so.1"),
        ("/proc/*/comm", "/proc/*/comm"),
        (
            "/home/bob/.local/lib/python3.11/site-packages/torch",
            "/home/user-1/.local/lib/python3.11/site-packages/torch",
        ),
        ("/home/bob/acme/.venv/bin/python", "/home/user-1/dir-1/.venv/bin/python"),
        ("/opt/conda/envs/acme/lib/libx.so.1", "/opt/conda/envs/dir-1/lib/libx.so.1"),
        ("A=/usr/local/cuda/lib64:/data/acme/lib", "A=/usr/local/cuda/lib64:/data/dir-1/lib"),
        ('File "/data/acme/train.py", line 3', 'File "/data/dir-1/train.py", line 3'),
        ("/data/acme/torch.py", "/data/dir-1/torch.py"),
        ("file:///home/bob/x/y.whl", "file:///home/user-1/dir-1/y.whl"),
        ("-L/opt/acme/lib", "-L/opt/dir-1/lib"),
        ("C:\\Users\\bob\\acme\\torch\\lib", "C:\\Users\\user-1\\dir-1\\torch\\lib"),
        ("https://host/path/x", "https://host/path/x"),
        ("read/write and 3/4", "read/write and 3/4"),
    ],
)
def test_paths_keep_what_every_machine_has(text: str, expected: str) -> None:
    """What the system and tools name stays readable in a path; what people named becomes a label."""
    assert expected == paths.in_text(text, Labels())


def test_same_part_has_the_same_label() -> None:
    """Two paths under one directory show that they share it, and a home elsewhere shows whose it is."""
    labels = Labels()
    texts = ("/data/acme/a.py", "/data/acme/b.py", "/home/bob/x.py", "/scratch/bob/y.py")
    expected = ["/data/dir-1/a.py", "/data/dir-1/b.py", "/home/user-1/x.py", "/scratch/user-1/y.py"]
    assert expected == [paths.in_text(each, labels) for each in texts]


def test_labelled_paths_are_not_labelled_again() -> None:
    """Redacting what is redacted changes nothing."""
    labels = Labels()
    once = paths.in_text("/data/acme/x/.venv", labels)
    assert once == paths.in_text(once, labels)


def patient() -> Snapshot:
    """Make a snapshot that gives away everything it can."""
    made = snapshot.of(
        Host(hostname="gandalf.acme.example", system="Linux", virtualization="kvm"),
        Environment(
            variables=(
                Variable("LD_LIBRARY_PATH", "/home/bob/lib:/usr/lib"),
                Variable("MASTER_ADDR", "10.1.2.3"),
                Variable("SLURM_JOB_NAME", "acme-70b-secret"),
                Variable("SLURM_NTASKS", "8"),
                Variable("NCCL_DEBUG", "INFO"),
            )
        ),
        Packages(
            executable="/home/bob/acme/.venv/bin/python",
            path=("/home/bob/acme", "/usr/lib/python3"),
            distributions=(Distribution("torch", "2.9.0", "/home/bob/acme/.venv/lib/python3.11/site-packages"),),
        ),
        TorchBuild(location="/home/bob/acme/.venv/lib/python3.11/site-packages/torch", version="2.9.0"),
        GpuState(gpus=(Gpu(uuid=UUID, serial="1320422012345"),)),
    )
    words = f"bob@gandalf: /home/bob/acme/train.py died on {UUID} (1320422012345), mail bob@acme.example"
    crash = ProbeResult("torch-import", "torch_import", Crashed("SIGSEGV in import torch", detail=words))
    return replace(made, probes=(*made.probes, crash))


def text_of(value: Snapshot) -> str:
    """Give everything a snapshot says as one text."""
    return json_format.write(snapshot.to_plain(value))


@pytest.mark.parametrize("secret", ["bob", "gandalf", "acme", UUID, "1320422012345", "10.1.2.3", "secret"])
def test_shared_snapshot_names_nobody(secret: str) -> None:
    """User, host, home, project, UUID, serial and address are gone from facts, words and paths alike."""
    assert secret in text_of(patient())
    assert secret not in text_of(share(patient())[0])


@pytest.mark.parametrize(
    "kept", ["/usr/lib", '"8"', "INFO", "kvm", "2.9.0", "SIGSEGV in import torch", "LD_LIBRARY_PATH"]
)
def test_shared_snapshot_keeps_what_diagnoses(kept: str) -> None:
    """What tells machines apart by their kind, not by their name, stays."""
    assert kept in text_of(share(patient())[0])


def test_labels_agree_across_facts_and_words() -> None:
    """The label of a private field stands wherever its value stood."""
    shared, _ = share(patient())
    host, build, crash = shared.get(Host), shared.get(TorchBuild), shared.probes[-1].outcome
    assert host
    assert build
    assert ("host-1", "/home/user-1/dir-1/.venv/lib/python3.11/site-packages/torch") == (host.hostname, build.location)
    assert isinstance(crash, Crashed)
    assert "user-1@host-1: /home/user-1/dir-1/train.py died on gpu-1 (serial-1), mail mail-1" == crash.detail


def test_what_was_removed_is_listed_without_its_value() -> None:
    """The list says which label stands for which kind of thing, and how often."""
    _, removed = share(patient())
    kinds = {each.label: each.kind for each in removed}
    assert {"host-1": "host name", "user-1": "user name", "gpu-1": "GPU UUID"}.items() <= kinds.items()
    assert not [each for each in removed if "bob" in str(each) or "acme" in str(each)]


def test_shared_snapshot_can_be_read_back_and_judged() -> None:
    """A redacted snapshot is still a snapshot: facts keep their types and names."""
    shared, _ = share(patient())
    again = snapshot.load(text_of(shared))
    assert (shared.facts, set(patient().facts)) == (again.facts, set(again.facts))


def test_sharing_twice_changes_nothing() -> None:
    """Labels are not labelled."""
    once, _ = share(patient())
    assert once.facts == share(once)[0].facts


@pytest.mark.parametrize("name", ["root", "ubuntu", "torch", "h100", "al"])
def test_ordinary_words_are_no_names(name: str) -> None:
    """An account or a host that is called like a common word does not take that word out of every sentence."""
    made = snapshot.of(Host(hostname=name), TorchImport(error=f"{name} cannot be used; see /home/{name}/x.py"))
    found = share(made, {name: "user"})[0].get(TorchImport)
    assert found
    assert f"{name} cannot be used; see /home/user-1/x.py" == found.error


def test_names_of_this_process_are_looked_for_too() -> None:
    """A user that no fact names is found in a crash's words when the caller knows the name."""
    made = snapshot.of(TorchImport(error="permission denied for frodo"))
    found = share(made, {"frodo": "user"})[0].get(TorchImport)
    assert found
    assert "permission denied for user-1" == found.error
    assert "" not in redact.own_names()


def test_shared_report_names_nobody_in_findings() -> None:
    """Evidence, titles and notes of a report carry the labels of its snapshot."""
    where = Evidence("torch_path.found", "/home/bob/acme/torch.py", "/home/bob/acme", "file", "found")
    finding = Finding("gandalf hides torch", evidence=(where,), id="torch-shadowed-by-local-file", subject="/home/bob")
    report = Report(patient(), (finding,), (), finding.key, Verdict.ERRORS, notes=("/home/bob/pyproject.toml: x",))
    shared, _ = share_report(report)
    assert "host-1 hides torch" == shared.findings[0].title
    assert ("/home/user-1/dir-1/torch.py", shared.findings[0].key) == (
        shared.findings[0].evidence[0].value,
        shared.primary,
    )
    assert "bob" not in json_format.render(shared)


def test_the_command_that_leads_to_a_patient_names_nobody() -> None:
    """Host and user are replaced wherever they stand, a container's name in the command alone."""
    via = "ssh -p 2222 bob@node7.corp"
    reason = "python3 behind ssh did not begin: exit code 255: node7.corp: Permission denied"
    probes = (ProbeResult("job", "job", Failed(reason)),)
    told, _ = share(with_target(of(probes=probes), Target(via, "command", "python3", via)))
    assert "node7" not in save(told).decode()
    assert ("ssh -p 2222 ", "job") == (told.target.via[:12], told.probes[0].name)
    via = "docker exec -i job"
    told, _ = share(with_target(of(probes=probes), Target(via, "command", "python3", via)))
    assert ("docker exec -i host-1", "docker exec -i host-1", "job") == (
        told.target.key,
        told.target.via,
        told.probes[0].name,
    )
