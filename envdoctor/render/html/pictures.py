"""Pictures of a benchmark's document (``envdoctor.bench/1``) as inline SVG, drawn by matplotlib.

Text stays text, and colours are those of the page: a picture follows the light and the dark theme.
"""

from __future__ import annotations

import io
import re
import warnings
from typing import TYPE_CHECKING, Any

from envdoctor.render.written import clean

if TYPE_CHECKING:
    from collections.abc import Iterable

    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# Each stands for a colour of the page, and is replaced by its name when the picture is written.
TEXT, QUIET, LINE = "#010203", "#010204", "#010205"
SERIES = ("#010211", "#010212", "#010213", "#010214", "#010215", "#010216", "#010217", "#010218")
NAMES = {TEXT: "text", QUIET: "quiet", LINE: "line", **{each: f"series-{n}" for n, each in enumerate(SERIES)}}
LOOK = {
    "font.family": "sans-serif", "font.size": 10, "text.color": TEXT, "axes.labelcolor": TEXT, "axes.edgecolor": LINE,
    "xtick.color": QUIET, "ytick.color": TEXT, "axes.facecolor": "none", "text.parse_math": False,
}  # fmt: skip
WIDE = 9.0
LONGEST_LABEL = 40
BYTES = {"fp64": 8, "fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "fp8": 1, "int8": 1}
SHAPE = re.compile(r"(\d+)x(\d+)x(\d+)")
Document = dict[str, Any]


def roofline(document: Document) -> str:
    """Draw products against the roof: TFLOPS over FLOP a byte, with spread, peaks and references; empty without any."""
    found = [each for each in document["measurements"] if each["name"] == "gemm" and each["value"] and _intensity(each)]
    if not found:
        return ""
    figure, axes = _canvas(4.6)
    for place, precision in enumerate(dict.fromkeys(each["precision"] for each in found)):
        best = [each for each in document["measurements"] if each["name"] == "gemm-best"]
        mine, tops = ([e for e in each if e["precision"] == precision] for each in (found, best))
        _products(axes, mine, tops, SERIES[place % len(SERIES)])
    _memory_roof(axes, document, [_intensity(each) or 1.0 for each in found])
    axes.set_xscale("log")
    axes.set_yscale("log")
    _plain_numbers(axes.xaxis, axes.yaxis)
    axes.set_xlabel("FLOP for each byte of memory")
    axes.set_ylabel("TFLOPS (TOPS for int8)")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, labelcolor=TEXT)
    return _svg(figure, "Matrix products against the roofline")


def _plain_numbers(*axes: Axis) -> None:
    """Label powers of ten as numbers: matplotlib's own labels are mathematical markup, which is switched off here."""
    from matplotlib.ticker import NullFormatter

    for each in axes:
        each.set_major_formatter("{x:,.10g}")
        each.set_minor_formatter(NullFormatter())


def _products(axes: Axes, found: list[Document], best: list[Document], color: str) -> None:
    precision = clean(found[0]["precision"], LONGEST_LABEL)
    xs = [_intensity(each) or 1.0 for each in found]
    ys = [each["value"] for each in found]
    spread = [[y - (each["q1"] or y) for y, each in zip(ys, found, strict=True)],
              [(each["q3"] or y) - y for y, each in zip(ys, found, strict=True)]]  # fmt: skip
    axes.errorbar(xs, ys, yerr=[[max(e, 0) for e in side] for side in spread], fmt="o", color=color, ms=5, capsize=3,
                  label=precision)  # fmt: skip
    peak = next((each["peak"] for each in found if each["peak"]), None)
    if peak:
        axes.axhline(peak, color=color, lw=1, ls="--", label=f"{precision} peak {peak:g}")
    told = [each for each in [*found, *best] if each["reference"] and _intensity(each)]
    if told:
        axes.plot([_intensity(each) for each in told], [each["reference"]["value"] for each in told], "_", color=color,
                  ms=16, mew=2, label=f"{precision} reference")  # fmt: skip


def _memory_roof(axes: Axes, document: Document, xs: list[float]) -> None:
    """Draw what the memory allows: its measured bandwidth times the intensity."""
    rates = [each["value"] for each in document["measurements"] if each["name"] in {"copy", "triad"} and each["value"]]
    if rates:
        low, high = min(xs) / 20, max(xs)
        top = max(each["value"] for each in document["measurements"] if each["name"] == "gemm" and each["value"]) * 1.5
        points = [x for x in (low, high) if max(rates) * x / 1000 <= top] or [low]
        points = [low, min(high, top * 1000 / max(rates))]
        axes.plot(points, [max(rates) * x / 1000 for x in points], color=QUIET, lw=1.5, label="memory allows")


def _intensity(measured: Document) -> float | None:
    """Give FLOP a byte of a product: each matrix is read or written once."""
    shape, size = SHAPE.fullmatch(measured["config"].get("shape", "")), BYTES.get(measured["precision"])
    if shape is None or size is None:
        return None
    m, k, n = map(int, shape.groups())
    return 2.0 * m * k * n / (size * (m * k + k * n) + max(size, 2) * m * n)


def ladder(document: Document) -> str:
    """Draw the climb as a waterfall, what each change adds; the rows beside it as what they would lose."""
    rows = [each for each in document["ladder"] if each["images_per_second"]]
    if not rows:
        return ""
    rates = {each["step"]: each["images_per_second"] for each in rows}
    figure, axes = _canvas(0.9 + 0.42 * len(rows))
    for place, each in enumerate(reversed(rows)):
        rate, before = each["images_per_second"], rates.get(each["previous"])
        start = min(rate, before) if before else 0.0
        color = SERIES[0] if before is None else SERIES[1] if rate >= before else SERIES[2]
        if before:
            axes.barh(place, start, color=LINE, height=0.55)
        axes.barh(place, abs(rate - start) if not before else abs(rate - before), left=start, color=color, height=0.55)
        axes.text(max(rate, before or 0.0), place, f"\N{NO-BREAK SPACE}{_worth(each)}", va="center", color=TEXT)
    axes.set_yticks(range(len(rows)), [_step(each) for each in reversed(rows)])
    axes.set_xlabel(_samples(document))
    axes.margins(x=0.3)
    axes.set_xlim(left=0)
    return _svg(figure, "What each change is worth")


def _samples(document: Document) -> str:
    sample = document["model"]["sample"] if document["model"] else "image"
    return f"{clean(sample, LONGEST_LABEL)}s a second"


def _worth(row: Document) -> str:
    rate, times = row["images_per_second"], row["speedup_over_previous"]
    said = _rate(rate)
    if times:
        said += f"  \N{MULTIPLICATION SIGN}{times:.2f}"
    return said if row["verdict"] in {"faster", "slower", "start"} else f"{said}  {row['verdict']}"


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _step(row: Document) -> str:
    name = clean(row["step"], LONGEST_LABEL)
    return f"{name} (beside)" if row["beside"] else name


def ceilings(document: Document) -> str:
    """Draw what each part alone would allow, side by side on a logarithmic scale; empty where nothing was measured."""
    limits = document["limits"]
    names = ("compute", "loader", "copy", "communication")
    found = [(name, limits[name]) for name in names if limits.get(name)]
    if not found:
        return ""
    figure, axes = _canvas(0.9 + 0.42 * len(found))
    for place, (name, value) in enumerate(reversed(found)):
        axes.barh(place, value, color=SERIES[2] if name == limits["binds"] else SERIES[0], height=0.55)
        binds = "  binds" if name == limits["binds"] else ""
        axes.text(value, place, f"\N{NO-BREAK SPACE}{_rate(value)}{binds}", va="center", color=TEXT)
    axes.set_xscale("log")
    _plain_numbers(axes.xaxis)
    axes.margins(x=0.35)
    axes.set_yticks(range(len(found)), [name for name, _ in reversed(found)])
    axes.set_xlabel(_samples(document))
    return _svg(figure, "What each part alone would allow")


def clocks(document: Document) -> str:
    """Draw SM clock, power and temperature of the measured GPU over time; empty where nobody looked."""
    tracks = (document["facts"]["facts"].get("bench_clocks") or {}).get("gpus") or []
    index = document["device"].get("index")
    track = next((each for each in tracks if each.get("index") == index), tracks[0] if tracks else None)
    columns = (("sm_mhz", "SM clock, MHz"), ("power_watts", "power, W"), ("temperature_celsius", "temperature, °C"))
    shown = [(name, label) for name, label in columns if track and any(e is not None for e in track.get(name, ()))]
    if not track or not shown:
        return ""
    figure, all_axes = _canvas(1.5 * len(shown), rows=len(shown))
    began = track["seconds"][0]
    for place, (axes, (name, label)) in enumerate(zip(all_axes, shown, strict=True)):
        points = [
            (at - began, value) for at, value in zip(track["seconds"], track[name], strict=False) if value is not None
        ]
        points = points[:: max(1, len(points) // 1500)]
        axes.plot(*zip(*points, strict=True), color=SERIES[place], lw=1)
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
    all_axes[-1].set_xlabel("seconds")
    return _svg(figure, "Clock, power and temperature while it was measured")


def _canvas(height: float, rows: int = 1) -> tuple[Figure, Any]:
    from matplotlib import rc_context
    from matplotlib.figure import Figure as New

    with rc_context(LOOK):
        figure = New(figsize=(WIDE, height), layout="constrained", facecolor="none")
        axes = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
    return figure, axes if rows > 1 else axes[0]


def _svg(figure: Figure, title: str) -> str:
    """Write a figure as an SVG element that may stand in a page: no prolog, no fixed size, colours by name."""
    from matplotlib import rc_context

    out = io.StringIO()
    with rc_context({**LOOK, "svg.fonttype": "none", "svg.hashsalt": title}), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a sign that the font lacks: the reader's own font draws the text
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Title": title})
    text = out.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(
        r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1), count=1
    )
    text = text.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)
    for sign, name in NAMES.items():
        text = text.replace(sign, f"var(--{name})")
    return _unique(text, title)


def _unique(text: str, title: str) -> str:
    """Give ids that no other picture of the page has."""
    own = re.sub(r"\W+", "-", title.lower())
    names: Iterable[str] = set(re.findall(r'\bid="([^"]+)"', text))
    for name in sorted(names, key=len, reverse=True):
        text = re.sub(rf'(id="|#){re.escape(name)}(?=["\)])', rf"\1{own}-{name}", text)
    return text
