"""Flattening: what of a snapshot can be compared has one dotted key, and what changes by itself is known as such."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envdoctor import compare, demo
from envdoctor.compare.traits import LEFT_OUT, PAIRS, ROWS, SETS, SLACK, TRAITS
from envdoctor.facts import key_of
from envdoctor.facts.host import Environment, Resources, Variable
from envdoctor.facts.nvml import Gpu, GpuFabric, GpuState, NvLink, PeerLink
from envdoctor.facts.packages import Distribution, Packages
from envdoctor.outcome import Crashed
from envdoctor.snapshot import FACTS, ProbeResult, of, to_plain

ALL = (compare.SETTLED, compare.OWN, compare.VOLATILE)
CHANGES_BY_ITSELF = re.compile(
    r"seconds|_used_|_free_|free_|utilization|temperature|pid$|power_watts$|resident|_clock_mhz$"
)


def patterns(kind: type, prefix: str) -> Iterator[str]:
    """Give the pattern of every field of a fact type, those of its rows and parts included."""
    hints = typing.get_type_hints(kind)
    for each in dataclasses.fields(kind):
        if each.name in {"sources", "unknown"}:
            continue
        pattern = f"{prefix}.{each.name}"
        yield pattern
        inner = [part for part in _parts(hints[each.name]) if dataclasses.is_dataclass(part)]
        rows = ROWS.get(pattern)
        for part in inner:
            many = "Tuple" in str(hints[each.name])
            top = f"{prefix}.{rows.name}" if rows and "*" in prefix else rows.name if rows else pattern
            if rows and rows.value:
                yield f"{top}.*"
            yield from patterns(part, f"{top}.*" if many else top)  # type: ignore[arg-type]


def _parts(hint: Any) -> Iterator[Any]:
    yield hint
    for each in typing.get_args(hint):
        yield from _parts(each)


EVERY = {pattern for fact in FACTS for pattern in patterns(fact, key_of(fact))}


def test_every_trait_is_of_a_field_that_exists() -> None:
    """A renamed field cannot lose its trait unseen."""
    named = {*TRAITS, *ROWS, *PAIRS, *SETS, *SLACK}
    assert set() == named - EVERY


def test_what_changes_by_itself_is_not_settled() -> None:
    """A field whose name says that it is measured anew each time is volatile or left out."""
    measured = {each for each in EVERY if CHANGES_BY_ITSELF.search(each)}
    assert set() == {each for each in measured if _trait(each) not in {compare.VOLATILE, LEFT_OUT}}


def _trait(pattern: str) -> str:
    """Give the trait of a field: its own, or that of what it is in."""
    parts = pattern.split(".")
    above = (".".join(parts[:n]) for n in range(len(parts), 1, -1))
    return next((TRAITS[each] for each in above if each in TRAITS), compare.SETTLED)


def test_what_names_a_person_or_a_machine_is_not_settled() -> None:
    """Private fields are one machine's own: machines that are set up alike differ in them."""
    private = {
        f"{key_of(fact)}.{each.name}"
        for fact in FACTS
        for each in dataclasses.fields(fact)
        if each.metadata.get("private")
    }
    assert set() == {each for each in private if TRAITS.get(each, compare.SETTLED) == compare.SETTLED}


def test_keys_are_dotted_and_rows_go_by_their_names() -> None:
    """A package is known by its name, a variable by its own, a GPU by its index."""
    flat = compare.flatten(
        of(
            Packages(distributions=(Distribution("torch", "2.9.0"), Distribution("numpy", "2.1.0")), has_pip=True),
            Environment(variables=(Variable("NCCL_DEBUG", "INFO"),)),
            GpuState(gpus=(Gpu(0, "NVIDIA H100", memory_total_mib=81559, temperature_celsius=40),), count=1),
        )
    )
    expected = {
        "package.torch": "2.9.0", "package.numpy": "2.1.0", "packages.has_pip": True, "variable.NCCL_DEBUG": "INFO",
        "gpu.0.name": "NVIDIA H100", "gpu.0.memory_total_mib": 81559, "gpu_state.count": 1, "probe.packages": "got",
    }  # fmt: skip
    assert expected == {key: flat[key] for key in expected}
    assert "gpu.0.temperature_celsius" not in flat


def test_of_two_packages_with_one_name_the_imported_one_counts() -> None:
    """Path order decides, as it does for an import."""
    twice = (Distribution("numpy", "2.1.0"), Distribution("numpy", "1.26.4"))
    assert "2.1.0" == compare.flatten(of(Packages(distributions=twice)))["package.numpy"]


def test_links_are_one_value_each() -> None:
    """Counters of links change and are not compared; how many are active is."""
    links = tuple(NvLink(n, n < 17, 4, replay_errors=n) for n in range(18))
    flat = compare.flatten(of(GpuFabric(nvlinks=(links,), links=(PeerLink(0, 1, "node", "ok"),))))
    assert "17 of 18 active, version 4" == flat["nvlink.0"]
    assert "node, peer to peer ok" == flat["link.0-1"]


def test_traits_part_the_keys() -> None:
    """No key is of two kinds, and own and volatile values are there when they are asked for."""
    machine = demo.load()
    settled, own, volatile = (set(compare.flatten(machine, (each,))) for each in ALL)
    assert set() == (settled & own) | (settled & volatile) | (own & volatile)
    assert {"host.hostname", "gpu.0.uuid", "packages.prefix"} <= own
    assert {"gpu.0.temperature_celsius", "torch_import.seconds", "resources.memory_available_mib"} <= volatile
    assert settled | own | volatile == set(compare.flatten(machine, ALL))


@pytest.mark.parametrize("name", demo.ABOUT)
def test_plain_facts_flatten_to_the_same(name: str) -> None:
    """Facts as JSON holds them need no objects: the result is that of the snapshot, without its probes."""
    machine = demo.load(name)
    plain = msgspec.json.decode(msgspec.json.encode(to_plain(machine)))
    flat = compare.flatten(machine, ALL)
    assert {k: v for k, v in flat.items() if not k.startswith("probe.")} == compare.flatten_facts(plain["facts"], ALL)


def test_how_a_probe_ended_can_be_compared() -> None:
    """A crash on one of two machines is a difference."""
    crashed = of(probes=(ProbeResult("torch-import", "torch_import", Crashed("SIGSEGV"), 1.0),))
    assert {"probe.torch-import": "crashed"} == compare.flatten(crashed)


def test_facts_of_others_go_the_same_way() -> None:
    """A plug-in's fact, or one of a later version, is flattened by its shape."""
    plain = {
        "scratch": {"free": None, "disks": [{"name": "a"}, {"name": "b"}], "tags": ["x", 1], "sources": {"a": "b"}}
    }
    expected = {"scratch.disks.0.name": "a", "scratch.disks.1.name": "b", "scratch.tags": ("x", 1)}
    assert expected == compare.flatten_facts(plain)


def test_measurements_are_left_to_statistics() -> None:
    """Samples differ each time; they are not facts to be held against each other one by one."""
    assert {} == compare.flatten_facts({"bench_gemm": {"measured": [{"name": "gemm", "seconds": [0.1]}]}}, ALL)


def test_order_that_means_nothing_is_no_difference() -> None:
    """Shared objects are mapped in another order each time."""
    first, second = ({"mapped_libraries": {"paths": paths}} for paths in (["/a", "/b"], ["/b", "/a"]))
    assert compare.flatten_facts(first, ALL) == compare.flatten_facts(second, ALL)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["gpus", "links", "rows", "name"]), inner)
    ),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(st.sampled_from([key_of(each) for each in FACTS]), PLAIN))
def test_any_plain_data_is_taken(facts: dict[str, Any]) -> None:
    """A damaged file gives keys and values that can be counted, never an exception."""
    flat = compare.flatten_facts(facts, ALL)
    assert set() == {type(each) for each in flat.values()} - {str, int, float, bool, tuple}
    assert len(flat) == len({(key, value) for key, value in flat.items()})


def test_memory_may_differ_a_little() -> None:
    """Kernels keep different parts of the same memory; other numbers have no slack."""
    assert (0.02, 0.01, 0.02) == tuple(
        map(
            compare.slack_of,
            ("resources.memory_total_mib", "gpu.3.memory_total_mib", "mount.temporary files.total_mib"),
        )
    )
    assert 0.0 == compare.slack_of("gpu.3.power_limit_watts") == compare.slack_of("packages.python_version")


def test_what_is_not_known_has_no_key() -> None:
    """Neither None nor an empty reason is a value."""
    assert {"probe.resources": "got"} == compare.flatten(of(Resources()))
