"""A benchmark's document (``envdoctor.bench/1``) as one HTML page with pictures. Needs the extra ``html``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envdoctor.render import causes, machine_words
from envdoctor.render.bench_words import verdict
from envdoctor.render.html import page, pictures
from envdoctor.render.html.report import follow

if TYPE_CHECKING:
    from envdoctor.bench.result import Result

PICTURES = (
    ("Matrix products against the roofline", pictures.roofline,
     "Dots are medians with quartiles, dashes references, broken lines the data sheet's dense peaks."),
    ("The ladder", pictures.ladder, "Each row changes one thing; grey is what the row before gave."),
    ("What binds", pictures.ceilings, "Images a second that each part alone would allow; the lowest binds."),
    ("While it was measured", pictures.clocks, ""),
)  # fmt: skip


def render(result: Result, document: dict[str, Any]) -> str:
    """Give the page; ``document`` is the JSON form of the same result."""
    report, (kind, said) = result.report, verdict(result)
    top = causes.leading(report)
    drawn = [(title, draw(document), note) for title, draw, note in PICTURES]
    return page(
        "bench.html.j2",
        report=report, document=document, snapshot=report.snapshot,
        title=said, kind=kind,
        doctor=machine_words.doctor(report.snapshot), notes=report.notes,
        findings=top, consequences={each.key: follow(report, each.key) for each in top},
        remarks=causes.remarks(report), pictures=[each for each in drawn if each[1]],
    )  # fmt: skip
