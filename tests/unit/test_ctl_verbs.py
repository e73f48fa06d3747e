"""The verbs of `notifier ctl`: what they ask of the master, what they say of its answers, how they exit."""

from __future__ import annotations

import gc
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pretending import SLOTS, Master, Result

from notifier import cli
from notifier.cli import ctl_line
from notifier.errors import NoMaster, PeerGone, RequestFailed


@pytest.fixture(scope="module", autouse=True)
def _no_leftovers() -> None:
    """What earlier tests left to be collected may close itself in the session's event loop (aio_pika's connections do),
    and a command, which brings a loop of its own, leaves this thread without one.
    """
    gc.collect()


@pytest.fixture
def master(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Master:
    fake = Master()

    class Operator:
        @classmethod
        async def connect(cls, directory: Path) -> Master:
            fake.directory = directory
            return fake

    monkeypatch.setattr(ctl_line, "Operator", Operator)
    monkeypatch.setenv("NOTIFIER_RUNTIME_DIR", "/somewhere")
    monkeypatch.chdir(tmp_path)
    return fake


Ctl = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ctl(master: Master, capsys: pytest.CaptureFixture[str]) -> Ctl:
    def call(*arguments: str) -> tuple[int, str, str]:
        code = cli.execute(["ctl", *arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def entry(version: int, key: str, **differs: Any) -> dict[str, Any]:
    return {
        "key": key, "value": True, "version": version, "who": "ada uid=1 pid=2", "why": None, "until": None,
        "since": "2026-11-21T09:00:00.000Z",
    } | differs  # fmt: skip


# --- the line


def test_the_runtime_directory_of_the_settings_is_where_it_connects_and_it_lets_go(ctl: Ctl, master: Master) -> None:
    assert ctl("ping")[0] == 0
    assert master.directory == Path("/somewhere")
    assert [verb for verb, _ in master.asked] == ["ping", "close"]


def test_ping_tells_the_pid_and_how_fast(ctl: Ctl) -> None:
    code, out, _ = ctl("ping")
    assert code == 0
    assert re.fullmatch(r"the master answers: pid 7, [\d.]+ ms\n", out)
    told = json.loads(ctl("ping", "--json")[1])
    assert (told["pid"], told["version"]) == (7, 1)
    assert 0 < told["ms"] < 5000


def test_without_a_service_every_verb_exits_with_1_and_a_sentence(
    ctl: Ctl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("NOTIFIER_RUNTIME_DIR", str(tmp_path))
    for words in ("status", "ping", "pause 5s", "block m", "events --follow", "shutdown", "stats --watch", "send x"):
        code, out, err = ctl(*words.split())
        assert (code, out) == (1, "")
        assert err.startswith(f"notifier: no service is running here: nobody listens at {tmp_path}/control.sock.")
        assert "NOTIFIER_RUNTIME_DIR" in err


def test_who_may_not_is_told_so(ctl: Ctl, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(directory: Path) -> None:
        raise NoMaster(f"{directory} may be used only by the user who runs the service and by root")

    monkeypatch.setattr(ctl_line.Operator, "connect", refused)
    code, _, err = ctl("ping")
    assert code == 1
    assert "may be used only by the user who runs the service and by root" in err


def test_a_master_that_goes_while_it_is_asked_is_told_as_that(ctl: Ctl, master: Master) -> None:
    master.answers["restart"] = PeerGone("the pipe was closed")
    code, _, err = ctl("restart")
    assert code == 1
    assert err.startswith("notifier: the service ended before it answered (the pipe was closed)")
    assert master.asked[-1][0] == "close"


def test_a_refusal_of_the_master_is_its_own_sentence(ctl: Ctl, master: Master) -> None:
    master.answers["reload"] = RequestFailed("prefetch in notifier.toml is 'x'")
    assert ctl("reload") == (1, "", "notifier: prefetch in notifier.toml is 'x'\n")


# --- what is set


@pytest.mark.parametrize(
    ("words", "request_", "said"),
    [
        (["pause", "5s"], ("push", "pause/tier:5s", {"paused": True}, True),
         "tier:5s is paused: live in 1 of 1 process"),
        (["pause", "all"], ("push", "pause/all", {"paused": True}, True), "all is paused: live in 3 of 3 processes"),
        (["set", "tier:1s", "prefetch=50"], ("push", "set/tier:1s/prefetch", 50, False),
         "tier:1s: prefetch = 50: live in 1 of 1 process"),
        (["set", "all", "concurrency=default"], ("clear", "set/all/concurrency", None, False),
         "all: concurrency = default: live in 3 of 3 processes"),
        (["log-level", "debug"], ("push", "log-level/all", "debug", False),
         "all: log level = debug: live in 3 of 3 processes"),
        (["log-level", "default", "30s"], ("clear", "log-level/tier:30s", None, False),
         "tier:30s: log level = default: live in 1 of 1 process"),
    ],
)  # fmt: skip
def test_an_override_is_one_key_and_its_answer_says_where_it_is_live(
    ctl: Ctl, master: Master, words: list[str], request_: tuple[str, str, Any, bool], said: str
) -> None:
    assert ctl(*words) == (0, f"{said}\n", "")
    ((verb, body),) = master.pushed()
    assert (verb, body["key"], body.get("value"), body["critical"]) == request_
    assert body["why"] is None
    assert body.get("for") is None


@pytest.mark.parametrize(
    "words", [["pause", "5s"], ["block", "m"], ["set", "5s", "prefetch=9"], ["log-level", "debug"]]
)
def test_an_override_carries_why_and_ends_by_itself(ctl: Ctl, master: Master, words: list[str]) -> None:
    code, out, _ = ctl(*words, "--for", "1h30m", "--reason", "the moon")
    assert code == 0
    ((_, body),) = master.pushed()
    assert (body["for"], body["why"]) == (5400, "the moon")
    assert re.search(r" until (\d{4}-\d\d-\d\dT)?\d\d:\d\d:\d\dZ: live in ", out)


def test_the_reason_of_a_block_goes_with_what_is_held(ctl: Ctl, master: Master) -> None:
    ctl("block", "m", "--reason", "charged twice")
    assert master.pushed()[0][1]["value"] == {"blocked": True, "reason": "charged twice"}


def test_several_things_are_set_in_one_command(ctl: Ctl, master: Master) -> None:
    assert ctl("set", "5s", "prefetch=50", "concurrency=7")[0] == 0
    assert [(body["key"], body["value"]) for _, body in master.pushed()] == [
        ("set/tier:5s/prefetch", 50),
        ("set/tier:5s/concurrency", 7),
    ]


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        ({"result": "gone"}, "tier:5s has no process just now; its next one has it before it does anything"),
        ({"result": "timeout", "restarted": True},
         "tier:5s did not answer in time and was killed; its next process has it before it does anything"),
        ({"result": "timeout", "restarted": False},
         "tier:5s did not answer in time; it may not have it yet (`notifier ctl status` tells)"),
        ({"result": "error", "error": "no\nway"}, "tier:5s could not apply it, and tries again: no\\x0away"),
    ],
)  # fmt: skip
def test_a_process_that_lacks_it_is_named_and_the_exit_code_is_1(
    ctl: Ctl, master: Master, result: Result, sentence: str
) -> None:
    master.results["tier:5s"] = result
    assert ctl("pause", "all") == (1, "all is paused: live in 2 of 3 processes\n", f"notifier: {sentence}\n")
    code, out, _ = ctl("pause", "all", "--json")
    told = json.loads(out)
    assert code == 1
    assert told["ok"] is False
    assert told["changes"][0]["live"] == 2
    assert told["changes"][0]["slots"][1] == {"slot": "tier:5s", "epoch": 1, **result}


def test_a_process_that_is_not_meant_does_not_count(ctl: Ctl, master: Master) -> None:
    master.results["tier:1s"] = {"result": "timeout", "restarted": False}
    assert ctl("pause", "5s") == (0, "tier:5s is paused: live in 1 of 1 process\n", "")
    assert json.loads(ctl("pause", "5s", "--json")[1])["changes"][0]["addressed"] == ["tier:5s"]


def test_what_is_not_written_down_is_told(ctl: Ctl, master: Master) -> None:
    master.saved = False
    code, _, err = ctl("block", "m")
    assert code == 0
    assert "would be lost with the master" in err


@pytest.mark.parametrize(
    "words", [["pause", "7s"], ["set", "7s", "prefetch=1"], ["log-level", "debug", "7s"], ["resume", "7s"]]
)
def test_nothing_is_set_for_a_tier_that_is_not_there(ctl: Ctl, master: Master, words: list[str]) -> None:
    code, out, err = ctl(*words)
    assert (code, out) == (1, "")
    assert err == "notifier: no process is called 'tier:7s'; there are all, tier, tier:1s, tier:30s, tier:5s\n"
    assert master.pushed() == []


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["pause"], 2, "Missing argument 'TIER'"),
        (["pause", "7x"], 1, "'7x' is not a tier"),
        (["pause", "5s", "--for", "10"], 2, "'10' is not a span of time: write it as 30s, 10m, 1h30m or 2d"),
        (["block", ""], 1, "is not a merchant id"),
        (["set", "5s", "prefetch"], 2, "'prefetch' is none of prefetch=N, concurrency=N"),
        (["set", "5s", "speed=9"], 2, "'speed=9' is none of prefetch=N, concurrency=N"),
        (["set", "5s", "prefetch=0"], 2, "N is a number from 1 to 2000, or default"),
        (["set", "5s", "prefetch=2001"], 2, "N is a number from 1 to 2000, or default"),
        (["set", "5s", "prefetch=1.5"], 2, "N is a number from 1 to 2000, or default"),
        (["set", "5s", "prefetch=default", "--for", "1m"], 2, "what goes back to the settings has no end"),
        (["log-level", "loud"], 2, "'loud' is none of debug, info, warning, error, default"),
        (["send", "x", "--data", "{"], 2, "not JSON"),
        (["send", "x", "--timeout", "5"], 2, "'5' is not a span of time"),
        (["events"], 2, "what is over is in the log; add --follow"),
        (["events", "--follow", "--level", "loud"], 2, "'loud' is none of debug, info, warning, error"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_before_anything_is_asked(
    ctl: Ctl, master: Master, words: list[str], code: int, complaint: str
) -> None:
    got, out, err = ctl(*words)
    assert (got, out) == (code, "")
    assert complaint in err
    assert [verb for verb, _ in master.asked if verb != "close"] == []


# --- what is taken back


def test_a_pause_is_taken_back_by_the_name_it_was_set_with(ctl: Ctl, master: Master) -> None:
    master.entries = [entry(1, "pause/tier:5s"), entry(2, "pause/tier:1s"), entry(3, "block/tier:5s")]
    assert ctl("resume", "5s") == (0, "tier:5s is resumed: live in 1 of 1 process\n", "")
    assert [(verb, body["key"]) for verb, body in master.pushed()] == [("clear", "pause/tier:5s")]


def test_resume_all_takes_every_pause_back(ctl: Ctl, master: Master) -> None:
    master.entries = [entry(1, "pause/tier:5s"), entry(2, "block/m"), entry(3, "pause/all"), entry(4, "pause/tier")]
    assert ctl("resume", "all") == (0, "all is resumed: live in 3 of 3 processes\n", "")
    assert [body["key"] for _, body in master.pushed()] == ["pause/tier:5s", "pause/all", "pause/tier"]


def test_a_tier_that_another_pause_covers_stays_paused_and_that_is_said(ctl: Ctl, master: Master) -> None:
    master.entries = [entry(1, "pause/tier:5s"), entry(2, "pause/all"), entry(3, "pause/tier:1s")]
    code, out, err = ctl("resume", "5s")
    assert (code, out) == (1, "tier:5s is resumed: live in 1 of 1 process\n")
    assert err == "notifier: tier:5s stays paused by the pause of all: notifier ctl resume all\n"
    assert json.loads(ctl("resume", "5s", "--json")[1])["ok"] is False


def test_what_was_not_paused_or_blocked_is_told_as_that(ctl: Ctl, master: Master) -> None:
    assert ctl("resume", "5s") == (0, "tier:5s has no pause of its own\n", "")
    assert ctl("unblock", "m") == (0, "m was not blocked on this machine\n", "")
    assert json.loads(ctl("unblock", "m", "--json")[1]) == {"ok": True, "changes": []}
    assert master.pushed() == []


def test_a_block_is_taken_back_although_there_are_pages_of_them(ctl: Ctl, master: Master) -> None:
    master.entries = [entry(number, f"block/m{number}") for number in range(1, 8)]
    assert ctl("unblock", "m7") == (0, "m7 is no longer blocked: live in 3 of 3 processes\n", "")
    assert [(verb, body["key"]) for verb, body in master.pushed()] == [("clear", "block/m7")]


# --- what is looked at


def test_status_is_the_page_and_as_json_all_there_is(ctl: Ctl, master: Master) -> None:
    master.slots[1] |= {"state": "backoff", "pid": None, "uptime": None, "reason": "exit code 3"}
    master.entries = [entry(number, f"block/m{number}", why="x") for number in range(1, 4)]
    code, out, err = ctl("status")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0].startswith("2 of 3 processes ready, 1 backoff; up ")
    assert lines[1] == "! tier:5s waits to be started again; its last end: exit code 3"
    assert lines[3].split()[:3] == ["SLOT", "STATE", "PID"]
    assert [line.split()[0] for line in lines[4:7]] == SLOTS
    assert [line.split()[:2] for line in lines[9:]] == [["block", "m3"], ["block", "m2"], ["block", "m1"]]
    told = json.loads(ctl("status", "--json")[1])
    assert [slot["slot"] for slot in told["slots"]] == SLOTS
    assert [entry["key"] for entry in told["entries"]] == ["block/m1", "block/m2", "block/m3"]


def test_stats_have_a_row_per_process_and_their_sum(ctl: Ctl, master: Master) -> None:
    master.slots[2]["statistics"] = {}
    code, out, _ = ctl("stats")
    rows = [re.split(r" {2,}", line) for line in out.splitlines()]
    assert code == 0
    assert rows[1] == ["tier:1s", "ready", "2/200", "1.5", "1,200", "1,000", "200", "0", "0", "4 ms", "38 ms", "up"]
    assert rows[3] == ["tier:30s", "ready", *["–"] * 10]
    assert rows[4] == ["total", "4", "3.0", "2,400", "2,000", "400", "0", "0"]
    told = json.loads(ctl("stats", "--json")[1])
    assert told["total"]["attempts"] == 2400
    assert told["slots"][2] == {"slot": "tier:30s", "state": "ready", "statistics": {}}


def test_inflight_lists_the_oldest_first_and_names_who_did_not_answer(ctl: Ctl, master: Master) -> None:
    def work(name: str, since: str | None) -> dict[str, Any]:
        return {"notification": name, "merchant": "m\x1b[2J", "url": "http://x/", "tier": "1s", "attempt": 2,
                "since": since, "state": "calling"}  # fmt: skip

    works = [work("late", "2026-11-21T09:00:02.000Z"), work("waits", None), work("early", "2026-11-21T09:00:01.000Z")]
    master.answers["send"] = {
        "replies": [
            {"slot": "tier:1s", "epoch": 1, "result": "done", "data": {"works": works, "total": 1003}},
            {"slot": "tier:5s", "epoch": 1, "result": "timeout", "error": "'inflight' was not answered within 10 s"},
        ]
    }
    code, out, err = ctl("inflight", "all")
    lines = out.splitlines()
    assert code == 1
    assert [line.split()[0] for line in lines] == ["NOTIFICATION", "early", "late", "waits", "and"]
    assert lines[1].split()[1] == "m\\x1b[2J"
    assert lines[-1] == "and 1000 more"
    assert err == "notifier: tier:5s: 'inflight' was not answered within 10 s\n"
    assert ("send", {"to": "all", "action": "inflight", "timeout": 10}) in master.asked
    told = json.loads(ctl("inflight", "all", "--json")[1])
    assert [work["notification"] for work in told["works"]] == ["early", "late", "waits"]
    assert (told["ok"], told["total"], len(told["missing"])) == (False, 1003, 1)


def test_nothing_in_flight_is_said(ctl: Ctl, master: Master) -> None:
    master.answers["send"] = {"replies": [{"slot": "tier:5s", "epoch": 1, "result": "done", "data": {"works": []}}]}
    assert ctl("inflight", "5s") == (0, "nothing is in flight\n", "")


def test_stacks_are_printed_also_the_last_ones_of_a_process_that_is_gone(ctl: Ctl, master: Master) -> None:
    master.answers["stacks"] = {
        "slots": [
            {"slot": "tier:1s", "epoch": 3, "pid": 9, "text": "thread 1\n  here\n"},
            {"slot": "tier:5s", "result": "gone", "last": "thread 1\n  there\n"},
            {"slot": "tier:30s", "result": "gone", "last": None},
        ]
    }
    code, out, err = ctl("stacks")
    assert code == 1
    assert "== tier:1s, pid 9, epoch 3\nthread 1\n  here\n" in out
    assert "== tier:5s, where its last process stood when it hung\nthread 1\n  there\n" in out
    assert err.splitlines() == [
        "notifier: tier:5s: has no process just now",
        "notifier: tier:30s: has no process just now",
    ]


def test_events_are_lines_until_the_service_ends(ctl: Ctl, master: Master) -> None:
    master.happening = [
        {"ts": "2026-11-21T09:00:00.123Z", "event": "child.ended", "level": "warning", "slot": "tier:5s", "pid": 9,
         "reason": 'SIGKILL "by" someone', "old_pid": None},
        {"ts": "2026-11-21T09:00:00.124Z", "event": "control", "level": "debug", "verb": "status"},
        {"ts": "2026-11-21T09:00:00.125Z", "event": "child.backoff", "level": "info", "seconds": 0.512345},
    ]  # fmt: skip
    code, out, err = ctl("events", "--follow")
    assert code == 1
    assert err == "notifier: the service has ended\n"
    assert out.splitlines() == [
        '2026-11-21T09:00:00.123Z child.ended      slot=tier:5s pid=9 reason="SIGKILL \\"by\\" someone"',
        "2026-11-21T09:00:00.125Z child.backoff    seconds=0.512",
    ]
    _, out, _ = ctl("events", "--follow", "--level", "debug", "--json")
    assert [json.loads(line) for line in out.splitlines()] == master.happening


# --- what processes are made to do


def test_drain_names_those_that_did_not_end(ctl: Ctl, master: Master) -> None:
    master.answers["drain"] = {
        "slots": [{"slot": "tier:1s", "result": "drained"}, {"slot": "tier:5s", "result": "timeout"}]
    }
    code, out, err = ctl("drain")
    assert code == 1
    assert out == "tier:1s is drained, and stays away until: notifier ctl restart tier:1s\n"
    assert err == "notifier: tier:5s has not ended in time\n"
    assert ("drain", {"to": "all"}) in master.asked


@pytest.mark.parametrize("words", [["restart", "5s"], ["restart", "5s", "--rolling"]])
def test_restart_tells_each_process_as_it_is_now(ctl: Ctl, master: Master, words: list[str]) -> None:
    master.answers["restart"] = {
        "slots": [
            {"slot": "tier:5s.0", "result": "restarted", "epoch": 2, "pid": 99, "seconds": 1.234},
            {"slot": "tier:5s.1", "result": "timeout", "error": "tier:5s.1 is backoff, not ready again"},
            {"slot": "tier:5s.2", "result": "untouched", "error": "tier:5s.1 did not become ready"},
        ]
    }
    code, out, err = ctl(*words)
    assert code == 1
    assert out == "tier:5s.0 is ready again after 1.2 s, pid 99, epoch 2\n"
    assert err.splitlines() == [
        "notifier: tier:5s.1: tier:5s.1 is backoff, not ready again",
        "notifier: tier:5s.2: tier:5s.1 did not become ready",
    ]
    assert ("restart", {"to": "tier:5s"}) in master.asked


@pytest.mark.parametrize(
    ("done", "said"),
    [
        ({"live": [], "restart": [], "service": []}, "nothing has changed\n"),
        ({"live": ["log.level", "prefetch"], "restart": ["egress.timeout"], "service": ["namespace"]},
         "in force now: log.level, prefetch\nafter `notifier ctl restart`: egress.timeout\n"
         "after the service was stopped and started: namespace\n"),
    ],
)  # fmt: skip
def test_reload_tells_what_is_in_force_when(ctl: Ctl, master: Master, done: dict[str, list[str]], said: str) -> None:
    master.answers["reload"] = done
    assert ctl("reload") == (0, said, "")
    assert json.loads(ctl("reload", "--json")[1]) == done


@pytest.mark.parametrize(("words", "quick"), [([], False), (["--quick"], True)])
def test_shutdown_returns_when_the_line_has_ended(ctl: Ctl, master: Master, words: list[str], quick: bool) -> None:
    master.answers["shutdown"] = {}
    master.happening = [{"ts": "x", "event": "service.stopping", "level": "info"}]
    with subprocess.Popen(["true"]) as ended:  # a pid that nobody has
        ended.wait()
    master.answers["ping"] = {"pid": ended.pid, "version": 1}
    assert ctl("shutdown", *words) == (0, "the service has ended\n", "")
    assert ("shutdown", {"quick": quick}) in master.asked


def test_send_asks_for_no_reply_unless_told_to(ctl: Ctl, master: Master) -> None:
    master.answers["send"] = {
        "replies": [
            {"slot": "tier:1s", "epoch": 1, "result": "sent"},
            {"slot": "tier:5s", "epoch": 0, "result": "waits"},
            {"slot": "tier:30s", "epoch": 1, "result": "busy", "error": "it does not read"},
        ]
    }
    code, out, err = ctl("send", "refresh", "--data", '{"a": [1]}')
    assert code == 1
    assert out == "tier:1s: sent\ntier:5s: it waits there until the process is ready\n"
    assert err == "notifier: tier:30s: it does not read\n"
    assert (
        "send", {"to": "all", "action": "refresh", "data": {"a": [1]}, "reply": False, "timeout": 30},
    ) in master.asked  # fmt: skip


def test_send_with_request_prints_the_answers(ctl: Ctl, master: Master) -> None:
    master.answers["send"] = {"replies": [{"slot": "tier:5s", "epoch": 1, "result": "done", "data": {"price": "7 €"}}]}
    code, out, err = ctl("send", "price", "--to", "5s", "--request", "--timeout", "1.5s")
    assert (code, out, err) == (0, 'tier:5s: {"price": "7 €"}\n', "")
    assert master.asked[0][1] == {"to": "tier:5s", "action": "price", "data": None, "reply": True, "timeout": 1.5}
