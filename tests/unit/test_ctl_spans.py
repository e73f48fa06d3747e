"""Spans and moments of time, as operators write and read them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from notifier.cli import ctl_spans
from notifier.errors import InvalidInput

NOW = datetime(2026, 11, 21, 10, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("10m", 600), ("1h30m", 5400), ("2d", 172_800), ("1w1d", 691_200), ("1.5s", 1.5), ("0.25h", 900)],
)
def test_a_span_is_read(text: str, seconds: float) -> None:
    assert ctl_spans.parse(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "m", "10 m", "-5s", "1h1h", "0s", "1e3s", "5x", "1.s", "10m "])
def test_what_is_no_span_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"is not a span of time: write it as 30s, 10m, 1h30m or 2d"):
        ctl_spans.parse(text)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-3, "0s"), (0, "0s"), (0.04, "0s"), (1.56, "1.6s"), (9.94, "9.9s"), (9.96, "10s"), (59.6, "1m"), (60, "1m"),
        (61, "1m1s"), (3599.6, "1h"), (3600, "1h"), (3661, "1h1m"), (86_400, "1d"), (90_061, "1d1h"),
        (8_640_000, "100d"),
    ],
)  # fmt: skip
def test_a_span_is_spelled_in_its_two_largest_units(seconds: float, said: str) -> None:
    assert ctl_spans.spelled(seconds) == said


@pytest.mark.parametrize(
    ("iso", "said"),
    [
        ("2026-11-21T23:59:59.999Z", "23:59:59Z"),
        ("2026-11-22T00:00:00.000Z", "2026-11-22T00:00:00Z"),
        ("2026-11-21T10:00:00+02:00", "08:00:00Z"),
    ],
)
def test_a_moment_has_its_date_unless_that_is_todays(iso: str, said: str) -> None:
    assert ctl_spans.moment(iso, NOW) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "–"), ("x", "–"), (True, "–"), (0, "0 ms"), (38.4, "38 ms"), (999.4, "999 ms"), (2345, "2.3 s"),
        (90_000, "1m30s"),
    ],
)  # fmt: skip
def test_lateness_has_the_unit_that_fits(value: object, said: str) -> None:
    assert ctl_spans.milliseconds(value) == said
