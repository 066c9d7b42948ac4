"""[payload] What somebody requires of the machine: by preflight(), by the configuration, or by --require."""

from __future__ import annotations

from typing import Optional, Tuple

from envdoctor.facts import Fact, read_from
from envdoctor.facts.dataclass import dataclass


@dataclass(frozen=True)
class Need:
    """One requirement: ``torch`` ``>=2.9``, ``gpus`` ``>=8``, ``bf16`` ``native``, ``packages.numpy`` ``>=1.26``."""

    name: str = ""
    wanted: str = ""


@dataclass(frozen=True)
class Required(Fact):
    """Everything that is required. No probe collects it: it is what the caller asked for."""

    needs: Tuple[Need, ...] = read_from("require", ())

    def wanted(self, name: str) -> Optional[str]:
        """Give what is wanted of ``name``, or None when nothing is."""
        for each in self.needs:
            if each.name == name:
                return each.wanted
        return None
