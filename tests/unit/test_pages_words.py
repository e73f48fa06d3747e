"""Numbers, moments and drawings of the pages, and that whatever is put into a page is text."""

from __future__ import annotations

from typing import Any

import pytest

from notifier.api.pages import causes, story, words
from notifier.api.pages.charts import curve, staircase
from notifier.api.pages.course import SPANS, lines, together
from notifier.api.pages.frame import local
from notifier.api.pages.looking import Undelivered
from notifier.api.pages.overview import overview, totals, troubles_of
from notifier.api.pages.rendering import render
from tests.unit.pages_examples import NOW, NOW_MS, attempt, courses, iso, live, notification, registered, slot, tier

NOTHING = Undelivered([], 0, 0, frozenset())


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (words.span(0.2), "0 s"),
        (words.span(59), "59 s"),
        (words.span(4830), "1 h 20 min"),
        (words.span(40_000), "11 h"),
        (words.span(90_000), "1 d 1 h"),
        (words.millis(None), "–"),
        (words.millis(0.44), "0.4 ms"),
        (words.millis(999), "999 ms"),
        (words.millis(1234), "1.2 s"),
        (words.millis(412_000), "6 min 52 s"),
        (words.number(48_210), "48,210"),
        (words.compact(340), "340"),
        (words.compact(1240), "1.2k"),
        (words.compact(340_000), "340k"),
        (words.rate(0), "0"),
        (words.rate(0.44), "0.4"),
        (words.rate(196.4), "196"),
        (words.percent(1.0), "100 %"),
        (words.percent(0.9999), "99.9 %"),
        (words.percent(0.0001), "< 0.1 %"),
        (words.percent(0.0), "0 %"),
        (words.nth(1), "1st"),
        (words.nth(12), "12th"),
        (words.nth(23), "23rd"),
        (words.many(1, "notification"), "1 notification"),
        (words.many(1204, "notification"), "1,204 notifications"),
        (words.listed("1s,3s"), "1s → 3s"),
        (words.listed([f"{n}s" for n in range(1, 16)]), "1s → 2s → 3s → 4s → 5s → … → 14s → 15s"),
    ],
)
def test_values_are_read_as_people_write_them(said: str, wanted: str) -> None:
    assert said == wanted


def test_moments_say_the_day_unless_it_is_today() -> None:
    assert ">12:00:00<" in words.when(NOW_MS, NOW)
    assert ">20 Nov 12:00<" in words.when(iso(86_400), NOW)
    assert ">21 Nov 2025 12:00<" in words.when(iso(365 * 86_400), NOW)
    assert ">12:00:00.000<" in words.when(iso(0), NOW, exact=True)
    assert ">2 min 20 s ago<" in words.ago(iso(140), NOW)
    assert ">in 9 s<" in words.ago(iso(-9), NOW)


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        ("/merchants/a?b=c&d=%20e", "/merchants/a?b=c&d=%20e"),
        ("https://evil.example/", "/"),
        ("//evil.example/", "/"),
        ("/\\evil.example/", "/"),
        ("/a\r\nSet-Cookie: x=y", "/"),
        ("", "/"),
    ],
)
def test_a_form_leads_to_pages_of_this_service_alone(target: str, wanted: str) -> None:
    assert local(target) == wanted


def test_a_curve_ends_at_the_right_edge_and_fills_the_height_at_its_peak() -> None:
    drawn = curve([0, 5, 10], peak=10, slots=3)
    assert drawn.line == "M0.0 98.0L150.0 51.0L300.0 4.0"
    assert drawn.area == drawn.line + "L300 98L0.0 98Z"
    assert curve([1], 1, 3).line == ""


def test_a_curve_has_no_line_where_nothing_was() -> None:
    drawn = curve([5, 0, 0, 0, 5], peak=5, slots=5)
    assert drawn.line == "M0.0 4.0L75.0 98.0M225.0 98.0L300.0 4.0"
    assert curve([0, 0, 0], peak=1, slots=3).area == ""


def test_the_courses_of_all_tiers_add_up() -> None:
    assert together({"1s": [(1, 2)] * SPANS, "3s": [(10, 20)] * SPANS}) == [(11, 22)] * SPANS
    assert lines([(50, 5)] * SPANS).peak == 10


def test_a_climbing_notification_is_a_staircase_with_the_next_attempt_on_it() -> None:
    drawn = staircase(notification(), NOW_MS)
    assert drawn is not None
    assert [stair.tier for stair in drawn.stairs] == ["1s", "3s", "5s", "15s", "30s"]
    assert [stair.walked for stair in drawn.stairs] == [True, True, True, False, False]
    assert [point.tone for point in drawn.points] == ["bad", "bad", "bad", "next"]
    late = drawn.points[2]
    assert late.due is not None
    assert late.x > late.due
    assert drawn.now is not None
    assert drawn.points[2].x < drawn.now < drawn.points[3].x
    assert all(one.y > other.y for one, other in zip(drawn.stairs, drawn.stairs[1:], strict=False))


def test_a_delivered_notification_ends_where_it_was_delivered() -> None:
    shown = notification(status="completed", attempts=1)
    shown["attempt_log"] = [attempt(1, 0, "1s", 15, 3.0, error=None, status=204)]
    drawn = staircase(shown, NOW_MS)
    assert drawn is not None
    assert len(drawn.stairs) == 1
    assert [point.tone for point in drawn.points] == ["good"]
    assert drawn.now is None


@pytest.mark.parametrize("ladder", [None, [], ["nonsense"]])
def test_without_a_ladder_there_is_no_staircase(ladder: Any) -> None:
    assert staircase(notification(ladder=ladder), NOW_MS) is None


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        (
            {"status": "completed", "attempts": 3, "finished_at": iso(-2)},
            "Delivered at the 3rd attempt, 18 s after it was accepted.",
        ),
        ({"status": "held", "reason": "blocked"}, "Kept back: the merchant is blocked."),
        ({"status": "stopped", "reason": "cancelled: a mistake"}, "Cancelled."),
        ({"status": "exhausted", "attempts": 5}, "Not delivered: 5 attempts, and none was acknowledged."),
        ({"status": "accepted", "run": 1}, "Waiting to be sent again."),
    ],
)
def test_a_notification_says_in_a_sentence_how_it_stands(more: dict[str, Any], wanted: str) -> None:
    assert story.headline(notification(**more)) == wanted


def test_what_happened_is_told_newest_first() -> None:
    titles = [entry["title"] for entry in story.entries(notification())]
    assert titles == [
        "3rd attempt: 500 Internal Server Error",
        "2nd attempt: timeout",
        "1st attempt: 500 Internal Server Error",
        "Accepted",
    ]


def test_attempts_are_counted_on_after_it_was_sent_again() -> None:
    shown = notification(status="completed", attempts=4, run=1)
    shown["attempt_log"].append(attempt(1, 0, "1s", 2, 3.0, run=1, error=None, status=200))
    assert story.entries(shown)[0]["title"] == "4th attempt: 200 OK"
    assert story.headline(shown).startswith("Delivered at the 4th attempt")


@pytest.mark.parametrize(
    ("more", "sentence", "way"),
    [
        (
            {},
            "Tier 5s is paused since 21 Nov 11:53 UTC by root until 21 Nov 12:30 UTC: "
            "the network of Lyon is being moved.",
            "Resume 5s",
        ),
        (
            {"tiers": [tier("3s", slots=[{"slot": "tier:3s", "state": "stopped", "restarts": 0}])]},
            "Tier 3s is switched off: its process was drained.",
            "Start 3s",
        ),
        ({"tiers": [tier("3s", head_late_ms=61_000)]}, "Tier 3s is 1 min 1 s behind.", None),
        (
            {"tiers": [], "slots": [slot("agent", state="degraded", degraded=True, reason="exit code 1")]},
            "Agent keeps ending: exit code 1.",
            None,
        ),
        ({"tiers": [], "poison": 2}, "2 messages could not be read.", None),
        ({"tiers": [], "problems": ["the database is away"]}, "The database is away.", None),
    ],
)
def test_what_is_wrong_with_the_service_is_told_before_the_merchants(
    more: dict[str, Any], sentence: str, way: str | None
) -> None:
    (trouble,) = troubles_of(live(**more))
    assert trouble["sentence"] == sentence
    assert (trouble["way"].label if trouble["way"] else None) == way


def test_the_first_page_says_nothing_of_what_merchants_got_while_the_ledger_is_away() -> None:
    view = overview(live(totals=None, problems=["the database is away"]), {}, None, [])
    assert view["headline"] == "The service needs you."
    assert "cannot be told" in view["lead"]
    assert "undelivered" not in view["lead"]


def test_the_first_page_says_who_is_switched_off_although_nothing_is_held_for_them() -> None:
    off = causes.of_standing(registered("blue-bikes", standing="blocked", until=iso(-60), since=iso(60), who="root"))
    assert off is not None
    view = overview(live(tiers=[], slots=[]), {}, NOTHING, [], [off])
    assert view["headline"] == "One merchant is switched off."
    around = {"here": "/", "undelivered": 0, "sought": "", "said": None, "signed_in": False}
    page = render("overview.html", NOW, view=view, frame=around)
    assert "blue-bikes is blocked until 21 Nov 12:01 UTC. Since 21 Nov 11:59 UTC, by root." in page
    assert "Unblock blue-bikes</button>" in page


def test_the_shares_of_the_statuses_fill_the_bar() -> None:
    shares = totals({"completed": 3, "held": 1, "exhausted": 0})
    assert [(each["status"], each["x"], each["width"]) for each in shares] == [("held", 0, 25), ("completed", 25, 75)]


def test_whatever_is_put_into_a_page_is_text() -> None:
    harm = "<script>alert(1)</script>"
    shown = notification(merchant=harm, reference=harm, payload=harm, url=f"https://x/{harm}")
    shown["attempt_log"] = [attempt(1, 0, "1s", 15, 3.0, detail=harm, answer=harm, sent_headers={harm: harm})]
    view = {
        "it": shown,
        "place": "/notifications/x",
        "headline": harm,
        "cause": None,
        "chart": staircase(shown, NOW_MS),
        "chart_said": harm,
        "log": story.entries(shown),
        "next_at": None,
        "payload": harm,
        "may_cancel": True,
        "may_replay": True,
    }
    around = {"here": "/", "undelivered": 3, "sought": harm, "said": {"tone": "good", "words": harm}, "signed_in": True}
    page = render("notification.html", NOW, view=view, frame=around)
    assert harm not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 8


def test_no_page_brings_styles_or_scripts_of_its_own_which_the_policy_would_refuse() -> None:
    view = overview(live(), courses(), NOTHING, [])
    around = {"here": "/", "undelivered": 0, "sought": "", "said": None, "signed_in": False}
    page = render("overview.html", NOW, view=view, frame=around)
    assert " style=" not in page
    assert " onclick=" not in page
    assert page.count("<script") == page.count('<script src="/static/') == 1
