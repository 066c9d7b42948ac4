"""The only room that starts processes on the doctor's side: the patient's interpreter, and the commands of a fix."""

from __future__ import annotations

from envdoctor.runner.collection import Collection, collect
from envdoctor.runner.starting import Ready

__all__ = ["Collection", "Ready", "collect"]
