"""The merchant's wish when to be called again: RFC 9110 §10.2.3."""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime

from notifier.domain.tier import LONGEST

_SECONDS = re.compile(r"[0-9]+")


def seconds(stated: str | None, now: float) -> float | None:
    """`Retry-After` as seconds from now, 0 to the longest tier; None when absent or not understood.

    stated: the header, seconds or an HTTP date. now: Unix seconds.
    """
    if stated is None:
        return None
    text = stated.strip()
    if _SECONDS.fullmatch(text):
        return float(LONGEST) if len(text) > 9 else _bounded(int(text))
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    if moment.tzinfo is None:  # the asctime form names no zone; HTTP dates are always GMT
        moment = moment.replace(tzinfo=UTC)
    return _bounded(moment.timestamp() - now)


def _bounded(wait: float) -> float:
    return min(max(float(wait), 0.0), float(LONGEST))
