"""How NCCL chooses among interfaces and network cards by name: prefixes, exact names, and exclusions."""

from __future__ import annotations

from collections.abc import Sequence


def match_names(value: str, there: Sequence[str]) -> list[str]:
    """Give those of ``there`` that NCCL would take for ``eth,ib``, ``=eth0``, ``^docker`` or ``mlx5_0:1``.

    A leading ``^`` excludes, a leading ``=`` asks for whole names; a port after a colon does not change the device.
    """
    text = value.strip()
    exclude = text.startswith("^")
    exact = text.removeprefix("^").startswith("=")
    wanted = [each.partition(":")[0].strip() for each in text.removeprefix("^").removeprefix("=").split(",")]
    wanted = [each for each in wanted if each]
    if not wanted:
        return list(there)

    def named(name: str) -> bool:
        return any(name == each if exact else name.startswith(each) for each in wanted)

    return [each for each in there if named(each) != exclude]
