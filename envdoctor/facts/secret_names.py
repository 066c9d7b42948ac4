"""[payload] Words in the name of a variable that mark its value as a secret: it is never collected."""

from __future__ import annotations

SECRET_WORDS = ("TOKEN", "SECRET", "PASSWORD", "PASSWD", "KEY", "CREDENTIAL", "AUTH", "JWT")
