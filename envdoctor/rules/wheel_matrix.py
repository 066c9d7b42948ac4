"""The torch releases that a project built its wheels for, where a package's own files cannot be looked at."""

from __future__ import annotations

from collections.abc import Iterator

from packaging.version import Version

from envdoctor.facts.packages import Distribution, Packages
from envdoctor.finding import Confidence, Evidence, Finding, Severity, see
from envdoctor.knowledge import cells
from envdoctor.knowledge.ecosystem import stated
from envdoctor.remedy import repair


def by_matrix(have: Distribution, torch: Version, packages: Packages) -> Iterator[Finding]:
    """Hold a release without a tag against the table: none for this torch is info, one for its nightly a warning."""
    row = next((each for each in stated(have.name, "prebuilt_wheel_matrix") if each.releases == have.version), None)
    built = [Version(each) for each in cells(row.torch)] if row else []
    same = [each for each in built if each.release[:2] == torch.release[:2]]
    if row is None or any(not each.is_prerelease for each in same):
        return
    nightly = f"its wheel for torch {torch.major}.{torch.minor} was built with {same[0]}, a nightly" if same else ""
    yield Finding(
        f"{have.name} {have.version} may not fit torch {torch}: {nightly or 'no wheel was published for this torch'}",
        "It fits if it was compiled here, against this torch.",
        (
            Evidence("knowledge.ecosystem", ", ".join(map(str, built)), row.source, "", "wheels were built for torch"),
            see(packages, "distributions", "torch", str(torch)),
        ),
        repair.compiled_again(packages, have.name, have.version),
        subject=have.name,
        severity=Severity.WARNING if same else Severity.INFO,
        confidence=Confidence.LIKELY if same else Confidence.POSSIBLE,
        affects=(have.name,),
    )
