"""Ask one probe in this fresh process: ``python ask.py MODULE:NAME DEV PATH…`` prints its answers as JSON lines.

DEV stands in for /dev, so that the harm gate can be opened without root; PATH… is the module search path to ask about.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
from typing import Any

from envdoctor.probe import Context, NotThere, Roots


def show(event: str, value: Any) -> None:
    """Print one line."""
    print(json.dumps({"event": event, "value": value}), flush=True)


def emit(event: dict[str, Any]) -> None:
    """Print what a probe says on its way."""
    if event["event"] == "partial":
        show("partial", dataclasses.asdict(event["fact"]))
    else:
        show(event["event"], event["what"])


def main() -> None:
    """Ask, and print the fact or why there is none."""
    module, _, name = sys.argv[1].partition(":")
    asked = getattr(importlib.import_module(module), name)
    context = Context(roots=Roots(dev=sys.argv[2]), path=tuple(sys.argv[3:]), cwd="/", emit=emit)
    try:
        show("fact", dataclasses.asdict(asked.collect(context)))
    except NotThere as absent:
        show("absent", str(absent))


if __name__ == "__main__":
    main()
