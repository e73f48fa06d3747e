"""Merchants that are held back: what the keys say, and the sentences for whoever looks at them at night."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from notifier.api.pages import causes
from notifier.api.resting import MOST, resting
from notifier.cli import ctl_rest, ctl_view
from notifier.delivery.breaker import Breakers
from notifier.domain.rest import Overflow, Rest, overflows, rests
from notifier.sections import Breaker
from tests.unit.pretending import Master

NOW = datetime(2026, 11, 21, 10, 0, 0, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)


def told(**more: Any) -> dict[str, Any]:
    """What a tier process tells of a breaker that has just opened."""
    return {
        "state": "open", "since": NOW_MS - 60_000, "until": NOW_MS + 30_000, "at": NOW_MS, "failed": 19, "of": 20,
        "pause": 30.0, "tier": "1s", "slot": "tier:1s",
    } | more  # fmt: skip


def entry(key: str, value: Any) -> dict[str, Any]:
    return {
        "key": key, "value": value, "who": "tier:1s", "why": None, "version": 1, "until": None,
        "since": "2026-11-21T09:59:00.000Z",
    }  # fmt: skip


def test_what_a_breaker_tells_the_others_is_what_is_read() -> None:
    changes: list[Any] = []
    breakers = Breakers(Breaker(attempts=2), 10.0, lambda merchant, value: changes.append(value), clock=lambda: 1000.0)
    for _ in range(2):
        breakers.attempted("a/b", acknowledged=False)
    assert Rest.read("breaker/a/b", changes[-1]) == Rest("a/b", False, 1_000_000, 1_030_000, 2, 2, 30.0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("breaker/m", None),
        ("breaker/m", True),
        ("breaker/m", {"state": "ajar", "since": 1, "until": 2, "failed": 1, "of": 1, "pause": 1}),
        ("breaker/m", {"state": "open"}),
        ("overflow/m", told()),
        ("block/m", told()),
    ],
)
def test_what_is_no_breaker_is_none(key: str, value: Any) -> None:
    assert Rest.read(key, value) is None


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("overflow/5s/a/b", {"since": 7, "slot": "tier:5s"}, Overflow("a/b", "5s", 7)),
        ("overflow/5s/m", None, None),
        ("overflow/5s", {"since": 7}, None),
        ("overflow//m", {"since": 7}, None),
        ("breaker/m", {"since": 7}, None),
    ],
)
def test_an_overflow_names_tier_and_merchant(key: str, value: Any, found: Overflow | None) -> None:
    assert Overflow.read(key, value) == found


def test_those_that_began_last_come_first() -> None:
    state = {f"breaker/{name}": told(since=since) for name, since in (("a", 1), ("b", 3), ("c", 3))}
    assert [rest.merchant for rest in rests(state.items())] == ["b", "c", "a"]
    state = {"overflow/1s/a": {"since": 1}, "overflow/2s/b": {"since": 2}}
    assert [lane.merchant for lane in overflows(state.items())] == ["b", "a"]


def test_thousands_of_breakers_are_counted_and_the_newest_told() -> None:
    state = {f"breaker/m{number}": told(since=number) for number in range(1000)}
    state |= {"breaker/probed": told(state="half-open", since=5000), "overflow/1s/m": {"since": 1}, "pause/all": {}}
    shown = resting(state)
    assert len(shown["breakers"]) == MOST
    assert shown["breakers"][0] == {
        "merchant": "probed", "state": "half-open", "since": "1970-01-01T00:00:05.000Z", "failed": 19, "of": 20,
        "until": "2026-11-21T10:00:30.000Z", "pause_s": 30.0, "tier": "1s", "slot": "tier:1s",
    }  # fmt: skip
    assert shown["overflows"] == [{"merchant": "m", "tier": "1s", "since": "1970-01-01T00:00:00.001Z"}]
    assert shown["held_back"] == {"open": 1000, "half-open": 1, "overflows": {"1s": 1}}


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        (
            "breaker/shop-7",
            told(),
            "shop-7 is given a rest since 09:59:00Z: 19 of 20 attempts failed; the next attempt is made at 10:00:30Z, "
            "in 30s, what else is due is held until one succeeds. To call it at once: notifier ctl close shop-7",
        ),
        (
            "breaker/shop\n7",
            told(state="half-open"),
            "shop\\x0a7 is given a rest since 09:59:00Z: 19 of 20 attempts failed; one attempt is under way, to see "
            "whether it answers again, what else is due is held until one succeeds. To call it at once: notifier ctl "
            "close shop\\x0a7",
        ),
        (
            "breaker/shop-7",
            told(until=NOW_MS - 1),
            "shop-7 is given a rest since 09:59:00Z: 19 of 20 attempts failed; the next attempt is made with what is "
            "due next, what else is due is held until one succeeds. To call it at once: notifier ctl close shop-7",
        ),
        (
            "overflow/1m30s/shop-7",
            {"since": NOW_MS - 1000, "slot": "tier:1m30s"},
            "shop-7 has no room in tier 1m30s since 09:59:59Z: it is slow and has much to get; what has no room is "
            "held and goes on in order, nobody else waits for it",
        ),
    ],
)
def test_the_status_page_says_why_until_when_and_what_to_do(key: str, value: Any, sentence: str) -> None:
    assert ctl_rest.sentences([entry(key, value)], NOW) == [sentence]


def test_the_status_page_is_no_list_of_all_merchants() -> None:
    found = [entry(f"breaker/m{number}", told()) for number in range(25)]
    lines = ctl_rest.sentences(found, NOW)
    assert len(lines) == 11
    assert lines[-1] == "15 more merchants are given a rest: notifier ctl status --json"


def test_what_the_processes_tell_each_other_is_nothing_that_an_operator_set(capsys: pytest.CaptureFixture[str]) -> None:
    status = {
        "since": "2026-11-21T08:00:00.000Z",
        "pid": 7,
        "version": 1,
        "state": "running",
        "saved": True,
        "slots": [],
    }
    ctl_view.print_page(status, [entry("breaker/m", told()), entry("overflow/1s/m", {"since": NOW_MS})], NOW)
    out = capsys.readouterr().out
    assert "! m is given a rest" in out
    assert "! m has no room in tier 1s" in out
    assert "SET BY OPERATORS" not in out


def test_a_page_says_until_when_what_comes_next_and_offers_to_end_it() -> None:
    rest = Rest.read("breaker/a/b", told())
    assert rest is not None
    cause = causes.of_rest(rest)
    assert cause.sentence == "a/b is given a rest until 21 Nov 10:00:30 UTC: 19 of 20 attempts failed."
    assert "When that is over, a single attempt is made, as soon as one is due." in cause.explanation
    assert [(way.label, way.where) for way in cause.ways] == [("Call a/b now", "/merchants/a%2Fb/close")]
    probed = Rest.read("breaker/a/b", told(state="half-open"))
    assert probed is not None
    assert causes.of_rest(probed).sentence.startswith(
        "a/b is being tried with a single attempt, after a rest: 19 of 20"
    )


def test_what_is_held_for_an_open_breaker_says_what_that_breaker_says_and_what_it_failed_with() -> None:
    group = {"merchant": "m", "status": "held", "reason": "breaker-open", "count": 3, "newest": NOW_MS}
    rest = Rest.read("breaker/m", told())
    cause = causes.of_group({**group, "rest": rest, "last_error": "connect"}, None)
    assert "m is given a rest until" in cause.sentence
    assert cause.explanation.startswith("m cannot be reached: nobody answers at its address. When that is over,")
    assert [way.label for way in cause.ways] == ["Call m now"]
    elsewhere = causes.of_group({**group, "rest": None}, None)
    assert elsewhere.sentence == "m failed so often that it is given a rest."


async def test_a_breaker_is_closed_by_hand_in_all_tiers_or_was_not_open() -> None:
    master = Master()
    master.slots[-1] |= {"slot": "agent", "groups": ["agent"]}
    master.entries = [entry("breaker/m", told())]
    closed = await ctl_rest._close(master, "m", "they say it is mended")
    tiers = len(master.slots) - 1
    assert (closed.ok, closed.said) == (
        True,
        f"the breaker of m is closed, it is called again: live in {tiers} of {tiers} processes",
    )
    ((verb, body),) = master.pushed()
    assert (verb, body["key"], body["why"]) == ("clear", "breaker/m", "they say it is mended")
    other = await ctl_rest._close(master, "n", None)
    assert (other.ok, other.said) == (True, "the breaker of n was not open on this machine")
    assert len(master.pushed()) == 1
