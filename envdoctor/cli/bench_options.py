"""What ``envdoctor bench`` may be told: types whose errors name the value, what was expected, and the nearest one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envdoctor.bench.models import NAMES
from envdoctor.nearest import unknown
from envdoctor.plan import DEFAULT_SUITES, SUITES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from click.shell_completion import CompletionItem

DEVICE = re.compile(r"cpu|cuda(:\d+)?")
OWN_MODEL = re.compile(r"[\w.]+:[\w.]+")
BESIDE_THE_SUITES = {"quick": 70.0, "default": 70.0, "full": 80.0}  # importing torch, the first call to a device, ends
LIMITS = {"quick": 110.0, "default": 300.0, "full": 920.0}  # of the whole run, in seconds
LEAST_TO_MEASURE = 5.0
GPU_NODES = ("/dev/nvidiactl", "/dev/dxg", "/dev/nvhost-gpu", "/dev/nvgpu")  # a native driver, WSL, Jetsons


class Suites(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.2 on only
    """Several suites, separated by commas."""

    name = "suites"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:  # noqa: ARG002 - click's
        """Show the shape in the help."""
        return "A,B,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Accept known names, each once, in the order in which they are measured."""
        if isinstance(value, tuple):
            return value
        words = [each.strip() for each in str(value).split(",") if each.strip()]
        if words == ["all"]:
            return SUITES
        for word in words:
            if word not in SUITES:
                self.fail(unknown("suite", word, (*SUITES, "all")), param, ctx)
        if not words:
            self.fail(f"{value!r} names no suite, expected some of {', '.join(SUITES)}", param, ctx)
        return tuple(each for each in SUITES if each in words)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002 - click's
        """Complete the last name."""
        from click.shell_completion import CompletionItem

        done, _, begun = incomplete.rpartition(",")
        before = f"{done}," if done else ""
        return [CompletionItem(before + each) for each in SUITES if each.startswith(begun)]


class DeviceName(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.2 on only
    """``cpu``, ``cuda`` or ``cuda:1``."""

    name = "device"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:  # noqa: ARG002 - click's
        """Show the shape in the help."""
        return "cuda:N|cpu"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Accept torch's name of a device; a bare number is that GPU."""
        text = f"cuda:{value}" if str(value).isdecimal() else str(value)
        if not DEVICE.fullmatch(text):
            self.fail(unknown("device", text, ("cpu", "cuda", "cuda:0", "cuda:1")), param, ctx)
        return text


class ModelName(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.2 on only
    """A model that is known by name, or ``module:callable``."""

    name = "model"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Accept a known name, and whatever looks like the user's own."""
        if value not in NAMES and not OWN_MODEL.fullmatch(str(value)):
            self.fail(f"{unknown('model', str(value), NAMES)}, or module:callable for your own", param, ctx)
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002 - click's
        """Complete a known name."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(each) for each in NAMES if each.startswith(incomplete)]


def suites_of(given: Mapping[str, Any]) -> tuple[str, ...]:
    """Give the suites to run: those asked for, else the default ones."""
    return given["suite"] or DEFAULT_SUITES


def budget_of(given: Mapping[str, Any]) -> str:
    """Name how much time there is: quick, default or full."""
    if given["quick"] and given["full"]:
        raise click.UsageError("--quick measures less and --full measures more: use one")
    return "quick" if given["quick"] else "full" if given["full"] else "default"


def times(given: Mapping[str, Any]) -> tuple[float, dict[str, float]]:
    """Give the limit of the whole run and each suite's share of it, in seconds."""
    from envdoctor.plan import shares

    budget = budget_of(given)
    seconds = shares(suites_of(given), budget, on_cpu=given["device"] == "cpu" or not has_gpu())
    limit = given["timeout"] or LIMITS[budget]
    left = max(LEAST_TO_MEASURE, limit - BESIDE_THE_SUITES[budget], limit / 2)
    scale = min(1.0, left / sum(seconds.values()))
    return limit, {suite: share * scale for suite, share in seconds.items()}


def has_gpu() -> bool:
    """Tell whether a GPU is likely to be measured: the shares of the time are chosen before anything has looked."""
    return any(Path(each).exists() for each in GPU_NODES)


def measuring(given: Mapping[str, Any], seconds: Mapping[str, float], threads: int | None = None) -> dict[str, Any]:
    """Give what reaches the probes as ``options["bench"]``: see ``envdoctor.plan.bench``."""
    told = {
        "model": given["model"], "device": given["device"], "batch": given["batch"], "budget": budget_of(given),
        "seconds": dict(seconds), "images": given["data"], "memory_fraction": given["memory_fraction"],
        "ranks": given["ranks"], "threads": threads,
    }  # fmt: skip
    return {"bench": {name: value for name, value in told.items() if value is not None}}
