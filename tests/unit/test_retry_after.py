"""`Retry-After`: seconds or a date, bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.domain.tier import LONGEST
from notifier.webhook.retry_after import seconds

NOW = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110


@pytest.mark.parametrize(
    ("stated", "wait"),
    [
        (None, None),
        ("0", 0.0),
        ("7", 7.0),
        (" 120 ", 120.0),
        (str(LONGEST + 1), float(LONGEST)),
        ("9" * 5000, float(LONGEST)),
        ("Sun, 06 Nov 1994 08:50:37 GMT", 60.0),
        ("Sunday, 06-Nov-94 08:50:37 GMT", 60.0),
        ("Sun Nov  6 08:50:37 1994", 60.0),
        ("Sun, 06 Nov 1994 08:00:00 GMT", 0.0),
        ("Sun, 06 Nov 2094 08:49:37 GMT", float(LONGEST)),
        ("Sun, 06 Nov 99999999 08:49:37 GMT", None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("1e3", None),
    ],
)
def test_a_wish_is_read_as_seconds_from_now(stated: str | None, wait: float | None) -> None:
    assert seconds(stated, NOW) == wait


@given(st.text())
def test_no_text_can_raise_or_leave_the_bounds(stated: str) -> None:
    wait = seconds(stated, NOW)
    assert wait is None or 0 <= wait <= LONGEST
