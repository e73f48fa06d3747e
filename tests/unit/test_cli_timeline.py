"""One notification in a terminal: its ladder as a timeline, and the tables around it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from notifier.cli import merchants_view, notifications_view, timeline
from notifier.domain.decision import HoldReason

NOW = datetime(2026, 11, 21, 10, 0, 10, tzinfo=UTC)


def at(second: float) -> str:
    return f"2026-11-21T10:00:{second:06.3f}Z"


def notification(**differs: Any) -> dict[str, Any]:
    return {
        "id": "ntf_1",
        "merchant": "shop",
        "reference": "order-42",
        "url": None,
        "ladder": ["1s", "3s", "5s"],
        "status": "attempted",
        "reason": None,
        "detail": None,
        "run": 0,
        "attempts": 1,
        "step": 1,
        "tier": "3s",
        "due_at": at(14),
        "accepted_at": at(0),
        "updated_at": at(1),
        "finished_at": None,
        "last_error": "status",
        "last_status": 500,
        "content_type": "application/json",
        "payload_kept": True,
        "payload": "{}",
        "payload_base64": "e30=",
        "attempt_log": [attempt()],
        "events": [event("accepted", 0)],
    } | differs


def attempt(**differs: Any) -> dict[str, Any]:
    return {
        "attempt": "u1",
        "run": 0,
        "number": 1,
        "step": 0,
        "tier": "1s",
        "due": at(1),
        "started": at(1.004),
        "late_ms": 4.0,
        "duration_ms": 12.3,
        "address": "127.0.0.1:80",
        "sent_headers": {},
        "status": 500,
        "error": "status",
        "detail": "answered 500",
        "answer": "oh\nno",
        "answer_base64": "",
        "decision": "next-tier",
        "next_tier": "3s",
    } | differs


def event(kind: str, second: float, **differs: Any) -> dict[str, Any]:
    return {
        "kind": kind,
        "run": 0,
        "at": at(second),
        "tier": "1s",
        "reason": None,
        "detail": None,
        "who": None,
    } | differs


def drawn(of: dict[str, Any]) -> list[str]:
    """Its lines without what is only distance."""
    return [" ".join(line.text.split()) for line in timeline.lines(of, NOW)[1:]]


def test_what_happened_what_is_due_and_what_may_follow_stand_in_this_order() -> None:
    assert drawn(notification()) == [
        "• 1s 10:00:00.000Z accepted",
        "✗ 1/3 1s 10:00:01.000Z 10:00:01.004Z 4 ms 12 ms 500 · “oh no”",
        "◷ 2/3 3s 10:00:14.000Z in 4s",
        "○ 3/3 5s 5s after the step before, if that fails",
    ]


@pytest.mark.parametrize(
    ("differs", "said"),
    [
        (
            {"error": "timeout", "status": None, "answer": "", "detail": "no answer in 10 s"},
            "timeout · no answer in 10 s",
        ),
        ({"error": "dns", "status": None, "answer": None, "detail": ""}, "dns"),
        (
            {"error": "wrong-answer", "status": 200, "answer": "fail", "detail": "not success"},
            "wrong-answer · 200 · not success · “fail”",
        ),
        ({"answer": "", "detail": "answered 500"}, "500 · answered 500"),
        ({"error": None, "status": 200, "answer": "success", "decision": "complete"}, "200 · acknowledged · “success”"),
        ({"error": None, "status": None, "answer": "", "decision": "complete"}, "acknowledged"),
        ({"answer": "\x1b[2Jgone"}, "500 · “\\x1b[2Jgone”"),
        ({"answer": "x" * 300}, f"500 · “{'x' * 100}…”"),
    ],
)
def test_what_came_of_an_attempt_is_one_line(differs: dict[str, Any], said: str) -> None:
    line = drawn(notification(attempt_log=[attempt(**differs)]))[1]
    assert line.endswith(f"12 ms {said}")


@pytest.mark.parametrize("reason", HoldReason)
def test_whatever_is_held_says_when_it_goes_on(reason: HoldReason) -> None:
    shown = notification(status="held", reason=str(reason), step=0, tier="1s", due_at=None, attempt_log=[], events=[])
    (line, *_) = drawn(shown)
    assert line.startswith("‖ 1/3 1s ")
    assert "when the reason is gone" not in line, "which says nothing"


@pytest.mark.parametrize(
    ("differs", "lines"),
    [
        (
            {"status": "completed", "attempt_log": [attempt(decision="complete", error=None, status=200, answer="")],
             "events": [event("completed", 1.1)]},
            ["✓ 1/3 1s 10:00:01.000Z 10:00:01.004Z 4 ms 12 ms 200 · acknowledged"],
        ),
        (
            {"status": "held", "reason": "blocked", "step": 0, "tier": "1s", "due_at": None, "attempt_log": [],
             "events": [event("held", 1, reason="blocked", detail="INC-1")]},
            ["‖ 1s 10:00:01.000Z held (blocked: INC-1)",
             "‖ 1/3 1s when the block is over: notifier merchants unblock shop",
             "○ 2/3 3s 3s after the step before, if that fails", "○ 3/3 5s 5s after the step before, if that fails"],
        ),
        (
            {"status": "stopped", "attempt_log": [],
             "events": [event("stopped", 1, reason="cancelled", detail="cancelled by ada: refunded", who="ada")]},
            ["■ 1s 10:00:01.000Z stopped (cancelled by ada: refunded)"],
        ),
        (
            {"status": "poisoned", "attempt_log": [], "events": [event("poisoned", 1, reason="no text")]},
            ["☠ 1s 10:00:01.000Z went to the poison queue (no text)"],
        ),
        (
            {"status": "accepted", "ladder": None, "attempts": 0, "step": None, "tier": "1s", "due_at": None,
             "attempt_log": [], "events": []},
            ["◷ 1 1s – waits"],
        ),
        (
            {"status": "accepted", "ladder": ["1s"], "step": 0, "tier": "1s", "due_at": at(1), "attempt_log": [],
             "events": []},
            ["◷ 1/1 1s 10:00:01.000Z overdue by 9s"],
        ),
    ],
    ids=["completed", "held", "cancelled", "poisoned", "of a foreign producer", "overdue"],
)  # fmt: skip
def test_each_status_has_its_lines(differs: dict[str, Any], lines: list[str]) -> None:
    assert drawn(notification(**differs)) == lines


def test_each_run_after_the_first_has_a_line_before_it_and_other_days_have_their_date() -> None:
    again = "2026-11-22T00:00:01.000Z"
    of = notification(
        status="completed",
        run=1,
        attempt_log=[
            attempt(decision="exhausted"),
            attempt(run=1, due=again, started=again, decision="complete", error=None, status=204, answer="", step=2),
        ],
        events=[
            event("exhausted", 1.1),
            {**event("replayed", 0), "at": "2026-11-22T00:00:00.000Z", "run": 1, "who": "ada"},
        ],
    )
    assert drawn(of) == [
        "✗ 1/3 1s 10:00:01.000Z 10:00:01.004Z 4 ms 12 ms 500 · “oh no”",
        "┄ run 1",
        "↻ 1s 2026-11-22T00:00:00.000Z sent again by ada",
        "✓ 3/3 1s 2026-11-22T00:00:01.000Z 2026-11-22T00:00:01.000Z 4 ms 12 ms 204 · acknowledged",
    ]


def test_marks_have_their_colours_also_where_a_row_is_broken_into_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    of = notification(attempt_log=[attempt(answer="word " * 30), attempt(number=2, decision="complete", error=None)])
    lines = timeline.lines(of, NOW)
    colours = [line.colour for line in lines]
    broken = [line for line in lines if line.text.startswith(" " * 20)]
    assert broken
    assert {line.colour for line in broken} == {"red"}
    assert colours[0] is None
    assert "green" in colours
    assert "cyan" in colours


def test_a_notification_is_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    notifications_view.print_whole(notification(payload='{"a":\x1b1}', detail="why", status="held", reason="blocked"))
    out = capsys.readouterr().out.splitlines()
    assert out[:7] == [
        "notification  ntf_1",
        "status        held (blocked): why",
        "merchant      shop",
        "reference     order-42",
        "url           the merchant's registered one",
        "ladder        1s 3s 5s",
        "accepted      2026-11-21T10:00:00.000Z",
    ]
    assert out[-2:] == ["payload:", '{"a":\\x1b1}']


@pytest.mark.parametrize(
    ("differs", "said"),
    [
        ({"payload_kept": False, "payload": None}, "payload: gone, as retention.payloads says"),
        ({"payload": None}, "payload: no text; print it with --payload"),
        ({"payload": "x" * 2000}, "payload, its beginning:"),
    ],
)
def test_what_of_a_payload_cannot_be_shown_is_told(
    capsys: pytest.CaptureFixture[str], differs: dict[str, Any], said: str
) -> None:
    notifications_view.print_whole(notification(**differs))
    assert said in capsys.readouterr().out.splitlines()


def test_a_merchant_is_shown_whole_without_its_secrets() -> None:
    merchant = {
        "id": "shop",
        "added": True,
        "url": "https://shop.example/",
        "ladder": ["1s", "3s"],
        "ack": None,
        "concurrency": 4,
        "rate": None,
        "effective": {"concurrency": 4, "rate": 50.0},
        "headers": {"X-Shop": "***"},
        "standing": "blocked",
        "why": "INC-1",
        "since": at(0),
        "until": at(59),
        "who": "ada",
        "disabled": None,
        "blocked": None,
        "secrets": [{"until": None}, {"until": at(30)}],
        "version": 7,
        "changed_at": at(0),
    }
    assert merchants_view.whole(merchant, NOW) == [
        "merchant      shop",
        "standing      blocked since 10:00:00Z by ada until 10:00:59Z: INC-1",
        "url           https://shop.example/",
        "ladder        1s 3s",
        "acknowledges  the service's rule",
        "at once       4 in each tier",
        "a second      50 in each tier, the service's bound",
        "headers       X-Shop",
        "secrets       one, one more until 10:00:30Z",
        "changed       2026-11-21T10:00:00.000Z, version 7",
    ]
