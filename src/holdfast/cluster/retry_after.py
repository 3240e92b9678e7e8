"""When an overloaded host wants to be asked again."""

from __future__ import annotations

import time
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdfast.http.responses import Response

__all__ = ["retry_after"]


def retry_after(response: Response) -> float:
    """Return the seconds that a Retry-After asks to wait, 0 without one (RFC 9110 10.2.3)."""
    value = response.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    if not value:
        return 0.0
    try:
        when = parsedate_to_datetime(value)
        if when.tzinfo is None:  # asctime's form names no zone: it is UTC (RFC 9110 5.6.7)
            when = when.replace(tzinfo=UTC)
        return max(when.timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return 0.0
