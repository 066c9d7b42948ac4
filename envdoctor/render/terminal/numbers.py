"""Measured numbers in words, with as many digits as they deserve."""

from __future__ import annotations


def number(value: float | None) -> str:
    """Put a value in words: 1,300, 25.9, 7.20, 0.116; ``-`` where there is none."""
    if value is None:
        return "-"
    if abs(value) < 1:
        return f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def percent(value: float | None, digits: int = 0) -> str:
    """Put a share in words; nothing where there is none."""
    return f"{value:.{digits}f}%" if value is not None else ""
