"""Two or many snapshots side by side: what can be compared, what differs, and what that explains."""

from __future__ import annotations

from envdoctor.compare.flat import flatten, flatten_facts
from envdoctor.compare.traits import OWN, SETTLED, VOLATILE, slack_of

__all__ = ["OWN", "SETTLED", "VOLATILE", "flatten", "flatten_facts", "slack_of"]
