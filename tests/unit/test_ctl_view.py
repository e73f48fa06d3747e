"""The page of `notifier ctl status`: what is wrong first, then the processes, then what operators have set."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from notifier.cli import ctl_trouble, ctl_view
from notifier.cli.ctl_trouble import Trouble

NOW = datetime(2026, 11, 21, 10, 0, 0, tzinfo=UTC)
FLOWING = {"in_flight": 3, "prefetch": 200, "late_p99_ms": 38.2, "link": "up", "careful": False}


def slot(name: str = "tier:5s", **differs: Any) -> dict[str, Any]:
    usual = {
        "slot": name, "groups": ["tier", name], "state": "ready", "pid": 77, "epoch": 1,
        "since": "2026-11-21T09:00:00.000Z", "started": "2026-11-21T09:00:00.000Z", "uptime": 3600.2, "restarts": 0,
        "reason": None, "degraded": False, "applied": 42, "wanted": 42, "errors": {}, "silent": 0.4, "waiting": 0,
        "note": None, "statistics": FLOWING,
    }  # fmt: skip
    return usual | differs


def service(*slots: dict[str, Any], **differs: Any) -> dict[str, Any]:
    return {
        "pid": 7, "since": "2026-11-21T08:00:00.000Z", "state": "running", "version": 42, "saved": True,
        "state_entries": 0, "slots": list(slots),
    } | differs  # fmt: skip


def entry(key: str, value: Any = True, **differs: Any) -> dict[str, Any]:
    usual = {
        "key": key, "value": value, "version": 1, "who": "ada uid=1000 pid=5", "why": None, "until": None,
        "since": "2026-11-21T09:30:00.000Z",
    }  # fmt: skip
    return usual | differs


def troubles(*slots: dict[str, Any], **differs: Any) -> list[Trouble]:
    return ctl_trouble.of_service(service(*slots, **differs), NOW)


def test_a_service_that_is_well_has_no_trouble() -> None:
    assert troubles(slot(), slot("agent", statistics={})) == []


def test_stale_merchants_are_told_once_for_all_processes() -> None:
    stale = FLOWING | {"registry": {"version": 7, "stale_since": "2026-11-21T09:00:00.000Z"}}
    fresh = FLOWING | {"registry": {"version": 7, "stale_since": None}}
    [trouble] = troubles(slot(statistics=stale), slot("tier:3s", statistics=stale), slot("api", statistics=fresh))
    assert not trouble.bad
    assert trouble.sentence.startswith("2 of 3 processes know the merchants as they were at 2026-11-21T09:00:00.000Z")
    assert troubles(slot(statistics=fresh)) == []


def test_what_the_service_tells_its_own_processes_is_not_among_what_operators_set(
    capsys: pytest.CaptureFixture[str],
) -> None:
    own = entry("registry", {"version": 7, "stale_since": None, "run": "ab"})
    ctl_view.print_page(service(slot()), [own], NOW)
    assert "SET BY OPERATORS" not in capsys.readouterr().out
    ctl_view.print_page(service(slot()), [own, entry("block/shop-7")], NOW)
    told = capsys.readouterr().out
    assert "block shop-7" in told
    assert "registry" not in told


def test_a_pause_is_no_trouble_it_was_wanted() -> None:
    assert troubles(slot(state="paused")) == []


@pytest.mark.parametrize(
    ("differs", "bad", "sentence"),
    [
        ({"degraded": True, "state": "backoff", "since": "2026-11-21T09:58:00Z", "reason": "SIGKILL"}, True,
         "tier:5s ends again and again, backoff for 2m; its last end: SIGKILL"),
        ({"state": "backoff", "pid": None, "reason": "exit code 3"}, True,
         "tier:5s waits to be started again; its last end: exit code 3"),
        ({"state": "stopped", "pid": None}, True, "tier:5s is stopped, until: notifier ctl restart tier:5s"),
        ({"state": "down", "pid": None}, True, "tier:5s has no process"),
        ({"state": "starting", "since": "2026-11-21T09:59:50Z", "reason": "exit code 3"}, True,
         "tier:5s is starting for 10s; its last end: exit code 3"),
        ({"state": "draining", "since": "2026-11-21T09:59:50Z", "reason": "exit code 3"}, True,
         "tier:5s is draining for 10s"),
        ({"note": "waiting for RabbitMQ"}, True, "tier:5s waiting for RabbitMQ"),
        ({"silent": 12.34}, True, "tier:5s gives no sign of life for 12s"),
        ({"errors": {"pause/all": "no\x1b[31m way"}, "applied": 41}, True,
         "tier:5s cannot apply pause/all: no\\x1b[31m way"),
        ({"applied": 41}, False, "tier:5s has version 41 of 42 of what operators set"),
        ({"waiting": 2}, False, "tier:5s: 2 messages wait until it is ready"),
        ({"statistics": {**FLOWING, "link": "down"}}, True, "tier:5s has no connection to RabbitMQ"),
        ({"slot": "agent", "statistics": {"database": "down", "database_why": "the disk\x1b is full"}}, True,
         "agent writes nothing down: the disk\\x1b is full"),
        ({"statistics": {**FLOWING, "late_p99_ms": 2300}}, False,
         "tier:5s is late: one attempt in a hundred by 2.3 s or more"),
        ({"statistics": {**FLOWING, "careful": True}}, False,
         "tier:5s goes carefully, since the process before it died: see docs/operations.md"),
    ],
)  # fmt: skip
def test_each_trouble_is_a_sentence(differs: dict[str, Any], bad: bool, sentence: str) -> None:
    assert troubles(slot(**differs)) == [Trouble(bad, sentence)]


@pytest.mark.parametrize("state", ["starting", "draining"])
def test_what_has_only_begun_is_no_trouble(state: str) -> None:
    assert troubles(slot(state=state, since="2026-11-21T09:59:58Z")) == []


def test_the_worst_comes_first() -> None:
    found = troubles(slot(applied=1), slot("tier:1s", state="stopped"), saved=False, state="stopping")
    assert [(trouble.bad, trouble.sentence.split()[0]) for trouble in found] == [
        (True, "what"),
        (True, "tier:1s"),
        (False, "the"),
        (False, "tier:5s"),
    ]


def test_the_first_line_counts_the_states() -> None:
    status = service(
        slot(), slot("tier:1s", state="paused"), slot("tier:3s", state="paused"), slot("api", state="down")
    )
    assert ctl_view.headline(status, NOW) == (
        "1 of 4 processes ready, 2 paused, 1 down; up 2h, master pid 7, version 42"
    )


def test_the_table_of_the_processes_as_it_stands() -> None:
    slots = [
        slot(),
        slot("tier:1m30s", state="paused", applied=41, uptime=3.21, epoch=12, restarts=11,
             reason="SIGKILL by someone else: out of memory?", pid=1234567),
        slot("tier:1s", state="down", pid=None, uptime=None, applied=None, statistics={}),
    ]  # fmt: skip
    entries = [entry("pause/tier:1m30s", until="2026-11-21T10:10:00.000Z"), entry("block/tier:5s")]
    assert ctl_view.slot_lines(slots, entries, NOW) == [
        "SLOT        STATE       PID    UP  EPOCH   VERSION  IN FLIGHT  LATE P99  PAUSED                  RESTARTS",
        "tier:5s     ready        77    1h      1        42      3/200     38 ms  –                       0",
        "tier:1m30s  paused  1234567  3.2s     12  41 of 42      3/200     38 ms  by ada until 10:10:00Z  "
        "11, last: SIGKILL by someone else: out of memory?",
        "tier:1s     down          –     –      1         –          –         –  –                       0",
    ]


def test_each_pause_that_covers_a_process_is_told() -> None:
    pauses = [
        entry("pause/tier:1m30s", until="2026-11-21T10:10:00.000Z"),
        entry("pause/tier", who="root uid=0 pid=1"),
        entry("pause/tier:1s", who="bob uid=1001 pid=1"),
    ]
    line = ctl_view.slot_lines([slot("tier:1m30s", state="paused")], pauses, NOW)[1]
    assert "  by ada until 10:10:00Z; by root  " in line


def test_what_operators_have_set_is_listed_with_who_until_and_why_newest_first() -> None:
    entries = [
        entry("block/shop/7", {"blocked": True}, why="charged\ntwice"),
        entry("set/tier:5s/prefetch", 50, until="2026-11-21T10:10:00.000Z", since="2026-11-20T09:00:00Z"),
    ]
    assert ctl_view.entry_lines(entries, NOW) == [
        "SET BY OPERATORS       WHO           SINCE                 UNTIL                WHY",
        "tier:5s prefetch = 50  ada uid=1000  2026-11-20T09:00:00Z  10:10:00Z, 10m left  –",
        "block shop/7           ada uid=1000  09:30:00Z             taken back           charged\\x0atwice",
    ]


def test_thousands_of_blocks_do_not_bury_the_page() -> None:
    lines = ctl_view.entry_lines([entry(f"block/m{number}") for number in range(1000)], NOW)
    assert len(lines) == 1 + ctl_view.SHOWN + 1
    assert lines[1].startswith("block m999 ")
    assert lines[-1] == f"and {1000 - ctl_view.SHOWN} older ones: notifier ctl status --json"


@pytest.mark.parametrize(
    ("key", "value", "meaning"),
    [
        ("pause/all", {"paused": True}, "pause all"),
        ("block/a/b/c", {"blocked": True}, "block a/b/c"),
        ("set/all/concurrency", 7, "all concurrency = 7"),
        ("log-level/tier:5s", "debug", "tier:5s log level = debug"),
        ("x/blacklist", {"version": 3}, 'x/blacklist = {"version": 3}'),
        ("x/long", "y" * 500, 'x/long = "' + "y" * 70),
    ],
)
def test_a_key_is_told_as_what_it_means(key: str, value: Any, meaning: str) -> None:
    assert ctl_view.meaning(key, value) == meaning
