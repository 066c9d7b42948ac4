"""Names of variables: misspelt, of another release, or old."""

from __future__ import annotations

import re
from collections.abc import Iterator

from packaging.version import Version

from envdoctor.facts.host import Environment
from envdoctor.facts.libraries import Libraries, MappedLibraries, Toolkit
from envdoctor.facts.torch import TorchBuild, TorchSettings
from envdoctor.finding import Command, Confidence, Evidence, Finding, Fix, Safety, Severity
from envdoctor.knowledge.cuda import dotted
from envdoctor.knowledge.variables import (
    NOT_TORCHS,
    OF_OTHERS,
    Name,
    Setting,
    is_described,
    nccl_names,
    newest_nccl,
    reported,
    torch_names,
    wheels_read,
)
from envdoctor.remedy.variables import look
from envdoctor.rule import Rule, Unknown, rule
from envdoctor.rules.given import Given, Releases, entries, in_force, known_of, releases_here, ways_out

MISSPELT = 0.9  # likeness of two names from which one is taken for the other
OF_TORCH = re.compile(r"(PYTORCH|TORCH[A-Z0-9]*)_")
MOST_NAMED = 6
OPPOSITES = {"ENABLE": "DISABLE", "DISABLE": "ENABLE", "ENABLED": "DISABLED", "DISABLED": "ENABLED"}
TURNED_ROUND = {"0": "1", "1": "0"}


@rule(severity=Severity.WARNING, group="environment")
def environment_variable_unknown(
    environment: Environment,
    toolkit: Toolkit | None,
    build: TorchBuild | None,
    libraries: Libraries | None,
    mapped: MappedLibraries | None,
    settings: TorchSettings | None,
) -> Iterator[Finding]:
    """A setting of NCCL or PyTorch has a name that is not read.

    ## What it means
    NCCL and PyTorch do not complain about names they do not know. A misspelt one is passed over in silence, and so is
    one that came with a later release.

    ## Why it matters
    What was to be switched on or off is not. The job runs with the defaults, and nobody notices.

    ## How it is detected
    NCCL_*, TORCH* and PYTORCH_* variables, and the lines of NCCL_CONF_FILE or ~/.nccl.conf and /etc/nccl.conf, against
    the names in NCCL's sources (2.12 to 2.30) and in torch's wheels (2.1 to 2.15). A name much like a known one is a
    warning, unless torch or NCCL is newer than the list. A known name of another release, and NCCL_* names that no
    release holds, are info: a plug-in may read them. Names that images, build scripts and the usual plug-ins define are
    left out.

    ## What to do
    Correct the name, or take it out.

    ## Sources
    https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/env.html
    https://docs.pytorch.org/docs/stable/torch_environment_variables.html
    """
    given = in_force(environment, toolkit)
    here = releases_here(build, libraries, mapped, settings)
    for each, row in entries(given, "unknown"):
        yield _typo(each, row.replacement, known_of(row), here, sure=True, row=row)
    far: list[Given] = []
    for each in given:
        if not _family(each.name.strip()):
            continue
        names = nccl_names() if _of_nccl(each.name) else torch_names()
        if each.name in names:
            yield from _other_release(each, names[each.name], here)
        elif is_described(each.name):
            continue
        elif meant := _meant(each.name, names):
            sure = each.name.strip() == meant or not _beyond(here, each.name)
            yield _typo(each, meant, _heard_of(names[meant]), here, sure=sure)
        elif _of_nccl(each.name):
            far.append(each)
    if far and not _beyond(here, far[0].name):
        yield _nobody_reads(far)


def _of_nccl(name: str) -> bool:
    return name.strip().startswith("NCCL_")


def _family(name: str) -> bool:
    """Tell whether a name is one that NCCL or torch would have to know."""
    if _of_nccl(name):
        return re.match(OF_OTHERS, name) is None
    return OF_TORCH.match(name) is not None and re.fullmatch(NOT_TORCHS, name) is None


def _beyond(here: Releases, name: str) -> bool:
    """Tell whether the release here is newer than the names that are known, so that it may have more of them."""
    nccl = _of_nccl(name)
    have, newest = (here.nccl, newest_nccl()) if nccl else (here.torch, wheels_read()[-1])
    return have is not None and have.release[:2] > newest[:2]


def _meant(name: str, names: dict[str, Name]) -> str | None:
    """Give the known name that was most likely meant.

    It has the same words in another order, or with the opposite of one (..._ENABLE for ..._DISABLE), or nearly the
    same letters: but then not the opposite sense, for that is another setting.
    """
    import difflib

    plain = name.strip()
    if plain in names:
        return plain
    words = sorted(plain.split("_"))
    for wanted in (words, sorted(OPPOSITES.get(word, word) for word in words)):
        turned = next((each for each in names if sorted(each.split("_")) == wanted), None)
        if turned:
            return turned
    near = [each for each in names if not _opposed(plain, each)]
    return next(iter(difflib.get_close_matches(plain, near, n=1, cutoff=MISSPELT)), None)


def _opposed(name: str, other: str) -> bool:
    """Tell whether one name switches on what the other one switches off."""
    return any(
        word in name.split("_") and opposite in other.split("_") and word not in other.split("_")
        for word, opposite in OPPOSITES.items()
    )


def _typo(
    each: Given, meant: str, shown: Evidence, here: Releases, *, sure: bool, row: Setting | None = None
) -> Finding:
    blank = each.name.strip() == meant
    words = f"the name has a blank before the “=”, so that {meant} is not set" if blank else f"{meant} is meant"
    words += ", which says the opposite" if row is None and _opposed(each.name.strip(), meant) else ""
    library = "NCCL" if _of_nccl(meant) else "torch"
    return Finding(
        f"{each.name.strip()}{' in ' + each.file if each.file else ''} is no name that {library} reads: "
        f"{row.says if row else words}",
        evidence=(each.evidence, shown, *(e for e in here.evidence if ("nccl" in e.fact) == (library == "NCCL"))),
        fixes=(*_as_meant(each, meant, row), each.taken_back()),
        subject=each.name.strip(),
        severity=None if sure else Severity.INFO,
        confidence=Confidence.LIKELY if sure else Confidence.POSSIBLE,
    )


def _as_meant(each: Given, meant: str, row: Setting | None) -> tuple[Fix, ...]:
    """Say it by the right name: with the table's value, or the opposite one, where what was given would be wrong."""
    turned = TURNED_ROUND.get(each.value.strip()) if row is None and _opposed(each.name.strip(), meant) else None
    shell = row.fix if row else f"export {meant}={turned}; unset {each.name}" if turned else ""
    if shell and not each.file and not each.hidden:
        return (Fix(f"Use {meant}", (Command(None, shell),), Safety.SAFE, "this shell only"),)
    return () if row or _opposed(each.name.strip(), meant) else (each.renamed(meant),)


def _heard_of(name: Name) -> Evidence:
    first = f"since {dotted(name.first)}" if name.first else "all releases that were read"
    last = f" until {dotted(name.last)}" if name.last else ""
    return Evidence("knowledge.known_vars", f"{first}{last}", name.source, "", f"{name.name} is known")


def _other_release(each: Given, name: Name, here: Releases) -> Iterator[Finding]:
    """Report a name that this release does not have yet, or has no more."""
    nccl = _of_nccl(each.name)
    have, library = (here.nccl, "NCCL") if nccl else (here.torch, "torch")
    old = any(row.report == "deprecated" for row in reported((each.name,)))  # said by the rule about old names
    if have is None or old or not _outside(have, name, exact=nccl):
        return
    early = name.first is not None and have.release < name.first
    when = f"it came with {dotted(name.first or ())}" if early else f"{dotted(name.last or ())} is the last that has it"
    yield Finding(
        f"{library} {have.public} does not read {each.name}: {when}",
        evidence=(each.evidence, _heard_of(name), *(e for e in here.evidence if ("nccl" in e.fact) == nccl)),
        fixes=(each.taken_back(),),
        subject=each.name,
        severity=Severity.INFO,
        confidence=Confidence.LIKELY,
    )


def _outside(have: Version, name: Name, *, exact: bool) -> bool:
    """Tell whether a release lies outside of those that have a name.

    Every release of NCCL was read. Of torch some wheels were: between two of them nothing is said.
    """
    if exact:
        return bool((name.first and have.release < name.first) or (name.last and have.release > name.last))
    read = wheels_read()
    before = max((each for each in read if name.first and each < name.first), default=None)
    after = min((each for each in read if name.last and each > name.last), default=None)
    return bool((before and have.release[:2] <= before[:2]) or (after and have.release[:2] >= after[:2]))


def _nobody_reads(far: list[Given]) -> Finding:
    names = ", ".join(each.name for each in far[:MOST_NAMED]) + (" …" if len(far) > MOST_NAMED else "")
    newest = dotted(newest_nccl())
    return Finding(
        f"No NCCL from 2.12 to {newest} reads {names}",
        "A plug-in of the network or the tuner may read it.",
        evidence=tuple(each.evidence for each in far[:MOST_NAMED]),
        fixes=(look("See what reads it: look for the name in the libraries NCCL loads", _search(far[0].name.strip())),),
        subject="nccl",
        severity=Severity.INFO,
        confidence=Confidence.POSSIBLE,
    )


def _search(name: str) -> str:
    return f"grep -rl {name} /opt /usr/local/lib /usr/lib --include='libnccl*.so*' 2>/dev/null"


@rule(severity=Severity.INFO, group="environment")
def environment_variable_deprecated(
    environment: Environment,
    toolkit: Toolkit | None,
    build: TorchBuild | None,
    libraries: Libraries | None,
    mapped: MappedLibraries | None,
    settings: TorchSettings | None,
) -> Iterator[Finding]:
    """A setting has an old name.

    ## What it means
    The library has given the setting another name, or has removed it.

    ## Why it matters
    Some old names still work and print a warning, some are passed over in silence. Where both names are set, the
    new one wins.

    ## How it is detected
    The environment and NCCL's configuration files against the table of old names, each for the releases of torch or
    NCCL that it is old for. Where the release is not known nothing is said.

    ## What to do
    Use the new name, or take the old one out.

    ## Sources
    https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/env.html
    https://docs.pytorch.org/docs/stable/torch_nccl_environment_variables.html
    """
    given = in_force(environment, toolkit)
    here = releases_here(build, libraries, mapped, settings)
    values = {each.name: each for each in given}
    undecided = ""
    for each, row in entries(given, "deprecated"):
        admitted = here.admit(row)
        if admitted is None:
            undecided = undecided or f"{each.name} is old for some releases, and which ones are here is not known"
        if admitted:
            both = values.get(row.replacement)
            wins = f"{both} is set too." if both and not both.hidden and both.value != each.value else ""
            yield Finding(
                f"{each.name} is an old name: {row.says}",
                wins,
                evidence=(each.evidence, known_of(row), *here.behind(row), *((both.evidence,) if both else ())),
                fixes=ways_out(each, row),
                subject=each.name,
            )
            undecided = ""
    if undecided:
        raise Unknown(undecided)


RULES: tuple[Rule, ...] = (environment_variable_unknown, environment_variable_deprecated)
