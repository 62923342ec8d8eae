"""Numbers and names as one line of plain text, for terminals and Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]+")


def clean(text: object) -> str:
    """One line without control characters: a column name must not move the cursor or turn the reading direction."""
    return _CONTROL.sub(" ", str(text))


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def number(value: Any) -> str:
    """Three significant digits; "?" for what is not known."""
    if value is None or isinstance(value, str):
        return str(value or "?")
    return f"{value:.3g}" if math.isfinite(value) else "?"


def interval(estimate: Mapping[str, Any] | None) -> str:
    """`0.887 (0.845–0.920)`; the reason in words when there is no number."""
    if not estimate or estimate.get("value") is None:
        return str((estimate or {}).get("status", "not available")).replace("_", " ")
    low, high = estimate.get("low"), estimate.get("high")
    if low is None or high is None:
        return number(estimate["value"])
    between = "–" if min(low, high) >= 0 else " to "  # a dash beside a minus sign cannot be read
    return f"{number(estimate['value'])} ({number(low)}{between}{number(high)})"
