"""NVIDIA's Xid catalogue: what each code means and what NVIDIA says to do."""

from __future__ import annotations

import functools

import msgspec

from envdoctor.knowledge import rows

# NVIDIA's actions in words, from the catalogue's own vocabulary.
ACTIONS = {
    "IGNORE": "nothing to do",
    "RESTART_APP": "restart the application; if it returns, look for the fault in the program",
    "RESET_GPU": "drain the GPU and reset it",
    "RESTART_BM": "restart the machine",
    "RESTART_VM": "restart the virtual machine",
    "CONTACT_SUPPORT": "run the vendor's field diagnostics and contact support",
    "CHECK_MECHANICALS": "check seating, power cables and cooling, then contact support",
    "UPDATE_SWFW": "update driver and firmware",
}


class Xid(msgspec.Struct, frozen=True):
    """One code: ``action`` in NVIDIA's vocabulary, ``training_relevant`` by this project's own selection."""

    code: int
    mnemonic: str
    description: str
    action: str
    training_relevant: bool
    source: str

    @property
    def advice(self) -> str:
        """The action in words; a workflow that the catalogue only names is passed on by name."""
        return ACTIONS.get(
            self.action, f"follow NVIDIA's workflow {self.action}" if self.action else "not in the table"
        )

    @property
    def harmless(self) -> bool:
        """Tell whether NVIDIA says to ignore it, or blames the application."""
        return self.action in {"IGNORE", "RESTART_APP"}


@functools.cache
def xids() -> dict[int, Xid]:
    """Give the catalogue by code."""
    return {
        int(row["xid"]): Xid(
            int(row["xid"]), row["mnemonic"], row["description"], row["immediate_action"].strip(),
            row["training_relevant"] == "yes", row["source"],
        )
        for row in rows("xid.csv")
        if row["xid"].isdigit()
    }  # fmt: skip
