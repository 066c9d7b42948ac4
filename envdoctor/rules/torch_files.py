"""Are torch's files the ones that were installed, once, and are they the ones that an import finds?"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import PurePath

from envdoctor.facts.packages import Distribution, Packages
from envdoctor.facts.torch import DamagedFile, Shadow, TorchBuild, TorchFiles, TorchImport, TorchPath
from envdoctor.finding import Command, Confidence, Finding, Fix, Safety, Severity, see
from envdoctor.remedy import repair
from envdoctor.rule import rule
from envdoctor.rules.torch_copies import twice_in_one_place

MOST_SHOWN = 4
IMPORTS = " torch imports all the same; what is loaded later may need the real one."
# Standard modules that some versions of torch load when they are imported and the newest ones do not.
NOT_ALWAYS_LOADED = frozenset(("bdb", "cmd", "code", "codeop", "decimal", "fractions", "pdb", "sysconfig"))


@rule(severity=Severity.ERROR, group="torch", essential=True, explained_by=("duplicate-torch-installs",))
def torch_install_damaged(
    files: TorchFiles, packages: Packages | None, build: TorchBuild | None, torch: TorchImport | None
) -> Iterator[Finding]:
    """Files of torch or of its NVIDIA libraries are not the ones that were installed.

    ## What it means
    A file is missing, empty, cut off, made for another processor, or a text that stands for a file (git-lfs); or
    torch's metadata is empty, or there without its files, or there twice.

    ## Why it matters
    The import fails, or a library fails at its first use, sometimes hours into a run, with words that do not name the
    cause: "file too short", "invalid ELF header", "No module named 'torch._C'".

    ## How it is detected
    RECORD, the list that the installer wrote, against sizes and first bytes of the modules and libraries on disk. A
    file whose size alone differs was changed or cut off; where torch was seen to import it is a warning. What only
    keeps pip from its work (a leftover `~orch` folder, a lost RECORD, lost metadata) is info.

    ## What to do
    Look for the cause first: a full disk, a quota, an interrupted install. Then install the same version again.

    ## Sources
    https://packaging.python.org/en/latest/specifications/recording-installed-packages/
    """
    works = bool(torch and torch.imported)
    broken = tuple(each for each in files.damaged if each.problem != "size")
    changed = tuple(each for each in files.damaged if each.problem == "size")
    twice = twice_in_one_place(packages)
    if broken or changed:
        yield _damaged_files(files, (*broken, *changed), packages, works=works)
    elif files.package_missing and not files.metadata_missing:
        yield _metadata(files, packages, "package_missing", "The metadata of torch is there, its files are not")
    elif files.metadata_empty:
        yield _metadata(
            files, packages, "metadata_empty", "The METADATA of torch is empty: other packages cannot tell its version"
        )
    elif twice:
        yield _twice(files, packages, build, twice, works=works)
    else:
        yield from _loose_ends(files, packages, build)


def _damaged_files(
    files: TorchFiles, damaged: tuple[DamagedFile, ...], packages: Packages | None, *, works: bool
) -> Finding:
    names = tuple(dict.fromkeys(each.distribution for each in damaged))
    harmless = works and all(_may_be_meant(each) for each in damaged)
    more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
    return Finding(
        f"{damaged[0].path} {_said(damaged[0])}{more}: {', '.join(names[:3])} is not what was installed",
        "torch imports all the same, so the change may be meant." if harmless else "",
        tuple(see(files, "damaged", each.path, f"{each.found}, not {each.expected}") for each in damaged[:MOST_SHOWN]),
        repair.again(packages, names) if packages else (),
        severity=Severity.WARNING if harmless else Severity.ERROR,
        confidence=Confidence.LIKELY if harmless else Confidence.CERTAIN,
    )


def _may_be_meant(each: DamagedFile) -> bool:
    """Tell whether somebody may have done this on purpose: an edited or removed module, a stripped library."""
    return each.problem == "size" or (each.problem == "missing" and each.path.endswith(".py"))


def _said(each: DamagedFile) -> str:
    words = {"lfs-pointer": "is a git-lfs pointer", "not-elf": "is no library", "size": "has another size"}
    words["other-machine"] = f"is made for {each.found}"
    return words.get(each.problem, f"is {each.problem}")


def _metadata(files: TorchFiles, packages: Packages | None, name: str, title: str) -> Finding:
    shown = see(files, name, "torch-*.dist-info", ", ".join(files.dist_infos) or "present")
    return Finding(title, evidence=(shown,), fixes=_again(packages))


def _again(packages: Packages | None, *, record: bool = True) -> tuple[Fix, ...]:
    return repair.again(packages, ("torch",), record=record) if packages else ()


def _twice(
    files: TorchFiles,
    packages: Packages | None,
    build: TorchBuild | None,
    twice: tuple[Distribution, ...],
    *,
    works: bool,
) -> Finding:
    names = ", ".join(each.version for each in twice)
    return Finding(
        f"One directory holds the metadata of {len(twice)} torch installations: {names}",
        evidence=(see(files, "dist_infos", "metadata found", ", ".join(files.dist_infos)),),
        fixes=repair.replace_all(packages, len(twice), build.version if build else None) if packages else (),
        severity=Severity.WARNING if works else Severity.ERROR,
    )


def _loose_ends(files: TorchFiles, packages: Packages | None, build: TorchBuild | None) -> Iterator[Finding]:
    """Give what does not keep torch from working, but pip from its work."""
    torch = packages.find("torch") if packages else None
    managed = torch is not None and torch.source in {"system", "conda"}
    if files.leftovers:
        where = PurePath(build.location).parent if build and build.location else PurePath()
        paths = tuple(str(where / each) for each in files.leftovers)
        yield Finding(
            "An interrupted pip left folders behind",
            evidence=(see(files, "leftovers", "left over", ", ".join(files.leftovers)),),
            fixes=(_delete(paths),),
            severity=Severity.INFO,
        )
    elif (files.record_missing or files.metadata_missing) and not managed:
        name = "record_missing" if files.record_missing else "metadata_missing"
        title = "RECORD of torch is gone" if files.record_missing else "torch has files but no metadata"
        yield Finding(
            f"{title}: pip can neither check nor remove it",
            evidence=(see(files, name, "torch-*.dist-info", "no RECORD" if files.record_missing else "not there"),),
            fixes=_again(packages, record=not files.record_missing),
            severity=Severity.INFO,
        )


def _delete(paths: tuple[str, ...]) -> Fix:
    argv = ("rm", "-r", "--", *paths)
    return Fix("Delete them", (Command(argv, shlex.join(argv)),), Safety.DISRUPTIVE, "only what pip had given up")


@rule(severity=Severity.ERROR, group="torch", essential=True)
def torch_shadowed_by_local_file(path: TorchPath, torch: TorchImport | None) -> Iterator[Finding]:
    """A local file hides torch, or a module that torch imports.

    ## What it means
    Python takes the first module of a name that it finds, and the script's or the working directory and PYTHONPATH
    come before the installed packages. A file named torch.py, random.py or queue.py there is taken for the real one.

    ## Why it matters
    `import torch` fails with words about something else: "partially initialized module", "cannot import name", "module
    'torch' has no attribute 'cuda'". A checkout of PyTorch's sources without a build does the same.

    ## How it is detected
    The module search path is walked in order, and for torch and each standard module that torch imports the first file
    is compared with the one that was meant. Where torch was seen to import all the same, what hides another module is a
    warning, and so is a module that not every version loads where nobody has looked: code.py, decimal.py.

    ## What to do
    Rename the file, or start Python from another directory.

    ## Sources
    https://docs.python.org/3/library/sys_path_init.html
    """
    for each in path.shadows:
        always = each.via not in {"cwd", ""}
        harmless = _is_harmless(each, torch)
        yield Finding(
            f"{PurePath(each.path).name} hides {'the real torch' if each.name == 'torch' else 'module ' + each.name}",
            f"It is found first because of {_way(each)}.{IMPORTS if harmless and torch else ''}",
            (
                see(path, "shadows", f"import {each.name} finds", each.path),
                see(path, "shadows", "instead of", each.hidden or _meant(each)),
            ),
            _rename(each),
            subject=each.name,
            severity=Severity.WARNING if harmless else None,
            confidence=Confidence.CERTAIN if always else Confidence.LIKELY,
        )


def _is_harmless(each: Shadow, torch: TorchImport | None) -> bool:
    """Tell whether torch imports in spite of it, as was seen, or may well do so where nobody has tried."""
    if each.name == "torch":
        return False
    return bool(torch.imported) if torch else each.name in NOT_ALWAYS_LOADED


def _way(each: Shadow) -> str:
    return {"cwd": "the working directory", "PYTHONPATH": "PYTHONPATH"}.get(each.via, f"{each.via or 'the path order'}")


def _meant(each: Shadow) -> str:
    return "no other torch: none is installed" if each.name == "torch" else "the standard library's"


def _rename(each: Shadow) -> tuple[Fix, ...]:
    path = PurePath(each.path)
    if path.suffix != ".py":
        shell = f"cd / && {shlex.join(('python', '-c', f'import {each.name}; print({each.name}.__file__)'))}"
        return (Fix("Start Python from another directory", (Command(None, shell),), Safety.SAFE, "nothing"),)
    argv = ("mv", "-n", "--", str(path), str(path.with_name(f"my_{path.name}")))
    return (Fix("Rename the file", (Command(argv, shlex.join(argv)),), Safety.DISRUPTIVE, "a file of yours"),)


RULES = (torch_install_damaged, torch_shadowed_by_local_file)
