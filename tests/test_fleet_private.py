"""Values that may not be shown, compared between ranks: who has another one is told, and nothing else ever is."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from envdoctor_probes.secret_words import without_secrets

from envdoctor.cli import fleet_private
from envdoctor.facts.fleet import Difference
from envdoctor.facts.host import Environment, Variable
from envdoctor.fleet.board import OpenBoard
from envdoctor.fleet.meeting import Hello, Meeting
from envdoctor.redact.keyed import is_private, keyed_variables, new_key
from envdoctor.snapshot import of
from tests.fleet_members import document, fleet, torch
from tests.fleet_ranks import by_hand, free_port, group, on

KEY = "ab" * 32
NOTHING = of(Environment())


def differences(*privates: dict[str, str] | None) -> dict[str, Difference]:
    """Compare members that told these private values under one key; give the differences by name."""
    gathered = fleet()
    for number, values in enumerate(privates):
        hashes = None if values is None else keyed_variables(values, NOTHING, KEY)
        gathered.add(document(*torch()), str(number), "node", hashes)
    from envdoctor.facts.fleet import Ranks

    return {each.name: each for each in gathered.report(Ranks()).differences.differences}


def test_who_has_another_private_value_is_told() -> None:
    """The value that most have is the first; not set is told as that; who told nothing is not known of."""
    found = differences({"MY_TOKEN": "a"}, {"MY_TOKEN": "b"}, {"MY_TOKEN": "a"}, {}, None)
    shares = [(each.value, each.ranks) for each in found["MY_TOKEN"].shares]
    assert {("private value #2", "1"), ("not set", "3"), ("private value #1", "0,2")} == set(shares)
    assert ("private.MY_TOKEN", 1) == (found["MY_TOKEN"].key, found["MY_TOKEN"].unknown_count)


def test_a_private_value_that_some_lack_needs_no_number() -> None:
    """Set here and not there: there is one value only."""
    found = differences({"MY_TOKEN": "a"}, {}, {})
    shares = [(each.value, each.ranks) for each in found["MY_TOKEN"].shares]
    assert [("a private value", "0"), ("not set", "1-2")] == shares


def test_the_same_private_value_everywhere_is_no_difference() -> None:
    """Nor is what a launcher gives each rank for itself, or a login each machine."""
    alike = [{"MY_TOKEN": "a", "PMIX_SECURITY_KEY": str(n), "SSH_AUTH_SOCK": f"/tmp/{n}"} for n in range(3)]
    assert {} == differences(*alike)


def test_a_hash_says_nothing_but_sameness_within_one_run() -> None:
    """The same value has another hash under another key, and under another name."""
    first = keyed_variables({"A_TOKEN": "x", "B_TOKEN": "x", "HOME": "/root"}, NOTHING, KEY)
    assert first == keyed_variables({"A_TOKEN": "x", "B_TOKEN": "x"}, NOTHING, KEY)
    again = keyed_variables({"A_TOKEN": "x"}, NOTHING, new_key())
    assert 3 == len({first["A_TOKEN"], first["B_TOKEN"], again["A_TOKEN"]})
    assert {"A_TOKEN", "B_TOKEN"} == set(first)


def test_what_the_probe_has_taken_out_is_compared() -> None:
    """A value in which the probe found a secret counts as private, whatever it is called, in any bytes."""
    snapshot = of(Environment(variables=(Variable("TORCH_PROXY", "***@proxy", redacted=True), Variable("CC", "gcc"))))
    found = keyed_variables({"TORCH_PROXY": "u:p\udcff@proxy", "CC": "gcc"}, snapshot, KEY)
    assert ["TORCH_PROXY"] == list(found)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HF_TOKEN", "x"), ("wandb_api_key", "x"), ("PGPASSWORD", "x"), ("NCCL_DEBUG", "INFO"), ("HOME", "/root"),
        ("PIP_EXTRA_INDEX_URL", "https://u:p@host/simple"), ("PIP_EXTRA_INDEX_URL", "https://host/simple"),
    ],
)  # fmt: skip
def test_doctor_and_probe_call_the_same_variables_private(name: str, value: str) -> None:
    """What the probe does not show and what is compared by its hash are the same."""
    assert without_secrets(name, value)[1] == is_private(name, value)


def test_ranks_of_another_version_are_not_waited_for() -> None:
    """Only ranks that know of the key are asked for an answer; what is no answer counts as none."""
    board = OpenBoard("run", "", 0, everywhere=False)
    lead, *others = (Meeting(board, rank, 3, lambda: False) for rank in range(3))
    for number, each in enumerate(others):
        each.hello(Hello("node", leads=False, version="0.0.1" if number else fleet_private.__version__))
        each.bring(b"{}")
    key = fleet_private.give_key(lead)
    others[0].bring(fleet_private.hashes(NOTHING, key), fleet_private.KIND)
    began = time.monotonic()
    heard = fleet_private.of_others(lead, lead.gather(began, ranks=(1, 2)))
    assert ([1], True) == (list(heard), time.monotonic() - began < fleet_private.PATIENCE)
    assert (None, None) == (fleet_private.read(b"[1]"), fleet_private.read(None))


def test_a_verdict_without_a_key_is_heard() -> None:
    """Rank 0 of an older version gives no key: the others hear its verdict all the same."""
    board = OpenBoard("run", "", 0, everywhere=False)
    lead, other = (Meeting(board, rank, 2, lambda: False) for rank in range(2))
    lead.announce({"code": 1})
    assert {"code": 1} == fleet_private.answer(other, NOTHING, time.monotonic() + 60, lambda _: None)


def test_neither_value_nor_hash_nor_key_is_ever_written(tmp_path: Path) -> None:
    """Three real ranks, one with another token: every format says which, and none holds what it was compared by."""
    known = tmp_path / "known"
    known.mkdir()
    (known / "sitecustomize.py").write_text(f"import secrets\nsecrets.token_hex = lambda _size: {KEY!r}\n")
    tokens = ["the-usual-secret", "quite-another-secret", "the-usual-secret"]
    files = [tmp_path / f"report.{each}" for each in ("html", "terminal", "prometheus")]
    also = [word for each in files for word in ("--also", f"{each.suffix[1:]}:{each}")]
    with group() as made:
        by_hand(
            made, 3, free_port(), tmp_path, "--level", "quick", "--timeout", "60", "--sync-timeout", "120", *also,
            own=lambda rank: {"MY_TOKEN": tokens[rank], "PYTHONPATH": str(known)},
        )  # fmt: skip
        ended = made.end()
    texts = [text for each in ended.values() for text in (each.out, each.err)] + [each.read_text() for each in files]
    hashes = {keyed_variables({"MY_TOKEN": each}, NOTHING, KEY)["MY_TOKEN"] for each in tokens}
    assert {"MY_TOKEN": ""} == {k: v for k, v in on(ended[0].report, "differs-across-ranks").items() if "TOKEN" in k}
    assert "private value #2 on 1" in ended[0].out
    assert "private value #2 on 1" in files[1].read_text()
    assert [] == [word for word in (KEY, *hashes, *tokens) for text in texts if word in text]


def test_the_finding_tells_how_to_compare_without_showing() -> None:
    """No fix prints a private value, or tells anybody to copy one from a report."""
    from envdoctor.facts.fleet import Ranks

    gathered = fleet()
    for number, value in enumerate("aab"):
        gathered.add(document(*torch()), str(number), "node", keyed_variables({"X_KEY": value}, NOTHING, KEY))
    report = gathered.report(Ranks()).report
    finding = next(each for each in report.findings if each.key == "differs-across-ranks@X_KEY")
    assert ["printenv X_KEY | sha256sum"] == [each.shell for fix in finding.fixes for each in fix.commands]
    assert "info" == finding.severity
