"""The isolation benchmark: who hangs, what the service says of it, when the promise is kept, and how it is told."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as command
from benchmarks import hanging_server, isolation_pairs, table
from benchmarks.errors import BenchmarkFailed, NoPeers
from benchmarks.figures import Arrival
from benchmarks.hanging import open_hanging
from benchmarks.host import Stood, open_watch, piece_us, stood
from benchmarks.isolation import Isolated
from benchmarks.isolation_figures import Apart, Disturbed, Healthy, IsolationFigures, Late, Pair, rows, summary
from benchmarks.isolation_load import mixed
from benchmarks.load import Item
from benchmarks.peer_figures import healthy
from benchmarks.peer_sides import PEERS, SCRIPTS, require_installed, versions
from benchmarks.run import Plan
from benchmarks.service_log import ServiceLog

APART = Apart(
    sent=1200, attempted=300, held=1000, attempts=500, reasons={"no-room": 900, "breaker-open": 400}, opened=10
)


def run(p99: float, *, bound: bool = False, apart: Apart | None = None, others: float = 0.01) -> Healthy:
    return Healthy(
        sent=100,
        arrived=99 if bound else 100,
        started=Late(1.0, p99, p99 * 2, bound),
        received=Late(1.5, p99 + 0.5, p99 * 2, bound),
        published_per_s=299.6,
        cpu_ms=1.234,
        others_share=others,
        apart=apart,
    )


def pair(alone: float, beside: float) -> Pair:
    return Pair(run(alone), run(beside, apart=APART))


def test_ten_of_a_hundred_merchants_hang_always_the_same_ones() -> None:
    sent = mixed("x", 250, "http://well/", "http://hangs/")
    assert [len(each) for each in (sent.all, sent.healthy, sent.others)] == [250, 225, 25]
    assert len({item.merchant for item in sent.all}) == 100
    assert len({item.merchant for item in sent.others}) == 10
    assert not {item.merchant for item in sent.others} & {item.merchant for item in sent.healthy}
    assert ({item.url for item in sent.healthy}, {item.url for item in sent.others}) == (
        {"http://well/"},
        {"http://hangs/"},
    )
    alone = mixed("x", 250, "http://well/", "http://well/")
    assert [item.id for item in alone.healthy] == [item.id for item in sent.healthy]


@pytest.mark.parametrize(
    ("alone", "beside", "met"),
    [
        pytest.param(20.0, 30.0, True, id="one and a half times"),
        pytest.param(20.0, 30.1, False, id="a little more"),
        pytest.param(4.0, 9.0, True, id="5 ms more, which is more than twice"),
        pytest.param(4.0, 9.1, False, id="a little more than 5 ms"),
        pytest.param(50.0, 75.0, True, id="at the bound of the baseline"),
        pytest.param(50.1, 50.1, False, id="beyond the bound of the baseline, even without any harm"),
        pytest.param(20.0, 10.0, True, id="better"),
    ],
)
def test_the_promise_is_kept_up_to_its_very_bounds(alone: float, beside: float, met: bool) -> None:
    assert pair(alone, beside).met is met


@pytest.mark.parametrize(("second", "met"), [(pair(20, 21), True), (pair(20, 31), False)], ids=["kept", "broken"])
def test_one_pair_of_ours_breaks_the_promise_and_no_peer_does(second: Pair, met: bool) -> None:
    figures = IsolationFigures({"notifier": [pair(10, 10), second], "celery": [pair(1000, 60_000)]})
    assert figures.met is met
    assert summary(figures)["met"] is met


def test_the_table_shows_each_pair_the_spread_and_a_verdict_on_ours_alone() -> None:
    figures = IsolationFigures(
        {"notifier": [pair(10, 12), pair(20, 50)], "celery": [Pair(run(900), run(70_000, bound=True))]}
    )
    told = rows(figures)
    cells = {row[0]: row[1:] for row in told}
    assert {len(row) for row in told} == {5}
    assert cells["notifier, pair 1"] == ["10.0", "12.0", "1.20", "met"]
    assert cells["notifier, pair 2"] == ["20.0", "50.0", "2.50", "missed"]
    assert cells["notifier, median (min-max)"] == ["15.0 (10.0-20.0)", "31.0 (12.0-50.0)", "1.85 (1.20-2.50)", ""]
    assert cells["celery, pair 1"] == ["900.0", "≥ 70,000", "77.78", ""]
    assert [row[1:3] for row in told if row[0] == "  healthy delivered, of"] == [
        ["200 of 200", "200 of 200"],
        ["100 of 100", "99 of 100"],
    ]
    assert [row[1:3] for row in told if row[0] == "  CPU ms per notification"] == [["1.23", "1.23"]] * 2
    assert cells["  … times held, no-room"] == ["", "1,800", "", ""]
    assert cells["  … breakers that opened, a run"] == ["", "10 10", "", ""]
    assert len(table.aligned(told).splitlines()) == len(told)


def test_standstills_of_the_machine_are_told_run_by_run_where_they_can_be_seen() -> None:
    first, second = (
        Pair(replace(run(10), stood=Stood(ms, 108, 3)), replace(run(12), stood=Stood(ms / 2, 108, 7))) for ms in (70, 0)
    )
    cells = {row[0]: row[1:3] for row in rows(IsolationFigures({"notifier": [first, second]}))}
    assert cells["  standstills of the machine, ms"] == ["70 0", "35 0"]
    assert cells["  … of the latest 108, late at one"] == ["3 3", "7 7"]
    unseen = rows(IsolationFigures({"notifier": [pair(10, 12)]}))
    assert not [row for row in unseen if "standstills" in row[0]]


class Pairs(isolation_pairs.IsolationPairs):
    """Whose runs are not made, but taken from these, in turn."""

    def __init__(self, left: Sequence[Healthy]) -> None:
        self.said: list[str] = []
        self.names: list[str] = []
        self.hung: list[bool] = []
        nothing: Any = None
        super().__init__(Plan(0, 300, 40), 1, [], nothing, nothing, Path(), self.said.append)
        self._left = list(left)

    async def _measured(self, side: str, name: str, *, hang: bool) -> Healthy:
        self.names.append(name)
        self.hung.append(hang)
        return self._left.pop(0)


@pytest.mark.parametrize(
    ("stood_ms", "kept", "again"),
    [
        pytest.param([100.0, 0.0], [100.0, 0.0], 0, id="little"),
        pytest.param([None, None], [None, None], 0, id="nobody may watch"),
        pytest.param([9.0, 101.0, 100.5, 50.0], [9.0, 50.0], 2, id="twice too long"),
        pytest.param([0.0, 101.0, 102.0, 103.0, 104.0], [0.0, 104.0], 3, id="for ever: what came last counts"),
    ],
)
async def test_a_run_in_which_the_machine_stood_still_is_done_again_and_told(
    monkeypatch: pytest.MonkeyPatch, stood_ms: list[float | None], kept: list[float | None], again: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})  # 0.25 % of 40 s are 100 ms
    pairs = Pairs([replace(run(22.0), stood=None if ms is None else Stood(ms, 108, 59)) for ms in stood_ms])
    figures = await pairs.measure()
    [measured] = figures.pairs["notifier"]
    assert [one.stood and one.stood.ms for one in (measured.alone, measured.beside)] == kept
    assert len(figures.disturbed) == len([line for line in pairs.said if "once more" in line]) == again
    assert len(set(pairs.names)) == len(pairs.names) == len(stood_ms), "a namespace of its own for each"
    assert len(json.loads(json.dumps(summary(figures)))["disturbed"]) == again


@pytest.mark.parametrize(
    ("took", "hung", "kept", "again"),
    [
        pytest.param([66.0, 72.0], [0, 1], (66.0, 72.0), [], id="a tenth is alike"),
        pytest.param([72.0, 66.0], [0, 1], (72.0, 66.0), [], id="and the other way round"),
        pytest.param([None, 72.0], [0, 1], (None, 72.0), [], id="nobody may watch"),
        pytest.param([66.0, 73.0, 70.0], [0, 1, 0], (70.0, 73.0), [66.0], id="the older one again"),
        pytest.param([80.0, 70.0, 90.0, 85.0], [0, 1, 0, 1], (90.0, 85.0), [80.0, 70.0], id="in turn"),
        pytest.param(
            [50.0, 60.0, 70.0, 80.0, 90.0],
            [0, 1, 0, 1, 0],
            (90.0, 80.0),
            [50.0, 60.0, 70.0],
            id="what came last counts",
        ),
    ],
)
async def test_a_pair_in_which_the_machine_was_not_as_fast_in_both_runs_is_done_again_run_by_run_and_told(
    took: list[float | None], hung: list[int], kept: tuple[float | None, float], again: list[float]
) -> None:
    pairs = Pairs([replace(run(22.0), piece_us=each) for each in took])
    figures = await pairs.measure()
    [measured] = figures.pairs["notifier"]
    assert pairs.hung == [bool(each) for each in hung]
    assert (measured.alone.piece_us, measured.beside.piece_us) == kept
    assert [each.run.piece_us for each in figures.disturbed] == again
    assert [each.hang for each in figures.disturbed] == pairs.hung[: len(again)]
    assert len([line for line in pairs.said if "not as fast" in line]) == len(again)
    assert len(set(pairs.names)) == len(pairs.names), "a namespace of its own for each"


def test_how_fast_the_machine_was_is_told_run_by_run_where_it_can_be_seen() -> None:
    first, second = (Pair(replace(run(10), piece_us=us), replace(run(12), piece_us=us + 2)) for us in (66.4, 70.0))
    cells = {row[0]: row[1:3] for row in rows(IsolationFigures({"notifier": [first, second]}))}
    assert cells["  a piece of work, µs"] == ["66 70", "68 72"]
    assert not [row for row in rows(IsolationFigures({"notifier": [pair(10, 12)]})) if "piece" in row[0]]


def test_the_speed_is_the_mean_of_the_cores_while_the_load_came() -> None:
    due = {"first": 100.0, "last": 110.0}
    one = [(97.9, 1.0), (98.0, 60.0), (105.0, 80.0), (112.0, 100.0), (112.1, 1.0)]
    assert piece_us([one, [(105.0, 60.0)]], due) == pytest.approx(70.0)
    with pytest.raises(BenchmarkFailed, match="a core told nothing of its speed"):
        piece_us([one, [(97.9, 60.0)]], due)


def test_what_was_done_again_is_told_with_its_figure() -> None:
    assert Disturbed(3, True, replace(run(22.0), stood=Stood(321.0, 108, 59))).sentence == (
        "pair 3, one in ten hangs: p99 22.0 ms in a run in which the machine stood still for 321 ms "
        "(59 of its latest 108 were late at a standstill): done again"
    )
    assert Disturbed(3, False, replace(run(22.0), piece_us=83.25), 66.0).sentence == (
        "pair 3, nobody hangs: p99 22.0 ms in a run in which the machine took 83.2 µs for what took 66.0 µs in the "
        "other run of the pair: done again"
    )


@pytest.mark.parametrize(
    ("due", "late_ms", "through_it"),
    [
        pytest.param(100.03, 40.0, 1, id="waited during all the rest of it"),
        pytest.param(99.99, 20.0, 1, id="was to begin when it began"),
        pytest.param(100.12, 5.0, 1, id="behind what had become due meanwhile"),
        pytest.param(99.9, 50.0, 0, id="began before it"),
        pytest.param(100.15, 5.0, 0, id="long after it"),
    ],
)
def test_late_at_a_standstill_is_what_waited_then_or_just_behind_it(
    due: float, late_ms: float, through_it: int
) -> None:
    assert stood([(100.0, 100.07)], {"n": due}, {"n": late_ms}) == Stood(pytest.approx(70.0), 1, through_it)


def test_only_the_latest_hundredth_is_looked_at() -> None:
    late = {str(number): float(number) for number in range(300)}
    assert stood([(0.0, 1000.0)], dict.fromkeys(late, 10.0), late).latest == 3


def _may_go_ahead_of_all() -> bool:
    """Whether this user may have the priority of the watch; tried, and taken back."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        return False
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return True


def _write_down_half_a_second(directory: Path) -> None:
    for file in directory.glob("standstills-*"):
        with file.open("a") as told:
            told.write("100.0 100.5\n200.0 2")  # the second one is still being written


async def test_a_core_that_may_be_watched_is_and_its_standstills_are_read(tmp_path: Path) -> None:
    async with open_watch(tmp_path) as watch:
        _write_down_half_a_second(tmp_path)
        said = watch.stood({"n": 100.1}, {"n": 1.0})
    assert (said is not None) == _may_go_ahead_of_all()
    assert said is None or (said.ms >= 500.0 and said.through_it == said.latest == 1)


def _wait_for_pieces(directory: Path) -> None:
    """Until each core has told of some."""
    deadline = time.monotonic() + 20
    while not all(file.read_text().count("\n") > 2 for file in directory.glob("pieces-*")):
        assert time.monotonic() < deadline, "a watched core told nothing of its speed"
        time.sleep(0.02)


async def test_how_fast_a_watched_core_is_is_written_down_several_times_a_second(tmp_path: Path) -> None:
    began = time.time()
    async with open_watch(tmp_path) as watch:
        if _may_go_ahead_of_all():
            await asyncio.to_thread(_wait_for_pieces, tmp_path)
        said = watch.piece_us({"first": began, "last": time.time()})
    assert (said is not None) == _may_go_ahead_of_all()
    assert said is None or 1.0 < said < 10_000.0


def test_the_summary_is_json_and_holds_every_figure_and_the_most_that_others_used() -> None:
    figures = IsolationFigures({"notifier": [pair(10, 12), Pair(run(1), run(1, others=0.4))]})
    told = json.loads(json.dumps(summary(figures)))
    assert told["pairs"]["notifier"][0]["beside"]["apart"]["reasons"] == {"no-room": 900, "breaker-open": 400}
    assert told["pairs"]["notifier"][0]["ratio"] == pytest.approx(1.2)
    assert told["others_share"] == 0.4
    assert figures.others_share == 0.4


def test_what_never_came_is_counted_as_late_as_it_was_known_to_be() -> None:
    assert Late.of([1.0] * 98, [500.0, 900.0]) == Late(1.0, 500.0, 900.0, True)
    assert Late.of([1.0, 2.0, 3.0]) == Late(2.0, 3.0, 3.0, False)


def told(*events: Mapping[str, Any]) -> ServiceLog:
    log = ServiceLog()
    log.read(["Traceback of something else", "", *(json.dumps(event) for event in events)])
    return log


def attempt(each: str, number: int = 1, late: float | None = 2.5) -> dict[str, Any]:
    return {"event": "attempt", "notification": each, "attempt": number, **({} if late is None else {"late_ms": late})}


def held(each: str, reason: str = "no-room") -> dict[str, Any]:
    return {"event": "held", "notification": each, "reason": reason}


def test_the_lateness_is_that_of_the_first_attempt() -> None:
    log = told(attempt("a"), attempt("a", 2, 900.0), attempt("b", late=7.0), {"event": "child.ready", "slot": "agent"})
    assert log.late_of(["b", "a"]) == [7.0, 2.5]
    assert log.attempts == {("a", 1): 1, ("a", 2): 1, ("b", 1): 1}


@pytest.mark.parametrize("unmeasured", [attempt("b", late=None), held("b")], ids=["without its lateness", "only held"])
def test_a_notification_without_a_measured_lateness_fails_the_run(unmeasured: Mapping[str, Any]) -> None:
    with pytest.raises(BenchmarkFailed, match="no lateness of 1 notifications \\(such as b\\)"):
        told(attempt("a"), unmeasured).late_of(["a", "b"])


def test_what_was_attempted_or_held_is_accounted_for_and_nothing_else() -> None:
    log = told(
        attempt("a"),
        held("b"),
        held("b", "breaker-open"),
        {"event": "breaker", "state": "open", "merchant": "m"},
        {"event": "breaker", "state": "open", "merchant": "m"},
        {"event": "breaker", "state": "half-open", "merchant": "n"},
    )
    assert (log.accounted(["a", "b"]), log.accounted(["a", "c"])) == (True, False)
    assert (log.held, log.reasons, log.opened) == ({"b": 2}, {"no-room": 1, "breaker-open": 1}, {"m"})


def test_a_healthy_notification_that_was_held_is_told_of() -> None:
    log = told(attempt("a"), held("b"), held("hangs"))
    assert log.held_among(["a"]) is None
    assert log.held_among(["a", "b"]) == "1 notifications of healthy merchants were held (such as b)"


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        pytest.param([("h", 1), ("h", 2)], None, id="the same"),
        pytest.param([("h", 2), ("h", 1)], None, id="in another order"),
        pytest.param([("h", 1)], "2 attempts, and 1 requests came; they differ in attempt 2 of h", id="one never came"),
        pytest.param(
            [("h", 1), ("h", 2), ("h", 2)], "and 3 requests came; they differ in attempt 2 of h", id="one twice"
        ),
        pytest.param([("h", 1), ("h", 2), ("a", 1)], "they differ in attempt 1 of a", id="a healthy one came there"),
    ],
)
def test_what_the_service_tells_of_hanging_merchants_is_what_came_to_them(
    requests: Sequence[tuple[str, int]], expected: str | None
) -> None:
    log = told(attempt("a"), attempt("h"), attempt("h", 2))
    untrue = log.untrue_of(["h"], [Arrival(1.0, each, number) for each, number in requests])
    assert untrue is None if expected is None else untrue is not None and expected in untrue


def test_messages_bring_no_ladder_so_that_what_fails_climbs_the_default_one() -> None:
    side = Isolated("amqp://localhost/", "bench")
    headers = side.headers(Item("n", "shop-5", "http://x/", b"{}"), 5000)
    assert "ladder" not in headers
    assert (headers["due-at"], headers["step"]) == (5000, 0)
    assert side.work()[-1] == "run"
    assert side.environment["NOTIFIER_LOG__FORMAT"] == "json"


def test_a_peer_is_measured_by_what_its_tasks_and_the_receiver_wrote_down() -> None:
    due = {"a": 100.0, "b": 101.0, "c": 102.0, "hangs": 103.0}
    started = [Arrival(100.010, "a", 1), Arrival(101.5, "b", 1), Arrival(101.2, "b", 1), Arrival(103.001, "hangs", 1)]
    figures = healthy(["a", "b", "c"], due, started, [Arrival(100.020, "a", 1)], 132.0, 0.008, 0.05)
    assert (figures.sent, figures.arrived) == (3, 1)
    assert (figures.published_per_s, figures.cpu_ms) == (pytest.approx(1.0), pytest.approx(2.0))
    assert (figures.started.p50, figures.started.most) == (pytest.approx(200.0), pytest.approx(30_000.0))
    assert (figures.received.p50, figures.received.bound) == (pytest.approx(30_000.0), True)


def test_a_peer_that_did_not_publish_everything_is_no_measurement() -> None:
    with pytest.raises(BenchmarkFailed, match="1 notifications were not published"):
        healthy(["a", "b"], {"a": 1.0}, [], [], 2.0, 0.0, 0.0)


@pytest.mark.parametrize("name", PEERS)
def test_every_peer_has_its_script_and_runs_in_an_environment_of_its_own(name: str) -> None:
    peer = PEERS[name]
    assert (SCRIPTS / peer.script).is_file()
    assert ".venv-peers/bin/" in peer.command[0]
    assert peer.producer(Path("items"), 300.0, Path("due"))[-3:] == ["items", "300.0", "due"]


def test_peers_that_are_not_installed_are_told_of_with_the_command_that_does_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("benchmarks.peer_sides.ENVIRONMENT", tmp_path)
    with pytest.raises(NoPeers, match="make bench-peers"):
        require_installed()
    (tmp_path / "ready").touch()
    require_installed()


def test_the_versions_are_those_of_the_peers_own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("benchmarks.peer_sides.ENVIRONMENT", tmp_path)
    installed = tmp_path / "lib/python3.11/site-packages/celery-5.0.1.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: celery\nVersion: 5.0.1\n")
    assert versions(["celery"]) == {"celery": "5.0.1"}
    assert versions([]) == {}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], (3, 200, 20, [])),
        (["--only", "isolation"], (5, 300, 40, [])),
        (["--only", "isolation", "--pairs", "1", "--seconds", "9"], (1, 300, 9, [])),
        (["--only", "isolation", "--peers"], (5, 300, 40, list(PEERS))),
        (["--only", "isolation", "--peers", "celery", "--pairs", "2"], (2, 300, 40, ["celery"])),
    ],
)
def test_isolation_has_defaults_of_its_own(arguments: Sequence[str], expected: tuple[int, int, int, list[str]]) -> None:
    options = command._options(arguments)
    assert (options.pairs, options.rate, options.seconds, options.peers) == expected


@pytest.mark.parametrize(
    "arguments", [["--peers"], ["--only", "api", "--peers"], ["--only", "isolation", "--peers", "x"]]
)
def test_peers_without_isolation_are_a_usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command._options(arguments)
    assert ended.value.code == 2
    assert "--peers" in capsys.readouterr().err


def test_the_sentence_above_the_table_says_what_was_done() -> None:
    said = isolation_pairs.sentence(Plan(0, 300, 40))
    assert "100 merchants, 300 notifications a second for 40 s" in said
    assert "10 of them hang" in said


async def test_a_merchant_that_hangs_takes_the_request_writes_it_down_and_never_answers(tmp_path: Path) -> None:
    async with open_hanging(tmp_path) as hanging:
        host, port = hanging.url.removeprefix("http://").rstrip("/").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nWebhook-Id: ntf_1\r\nnotifier-")
        await writer.drain()
        writer.write(b"attempt: 2\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        async with asyncio.timeout(5):
            while not hanging.requests():  # noqa: ASYNC110  # another process writes a file, which tells nobody
                await asyncio.sleep(0.01)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await reader.read(1)
        writer.close()
        await writer.wait_closed()
    assert [(each.id, each.attempt) for each in hanging.requests()] == [("ntf_1", 2)]


def test_a_request_that_names_nothing_is_written_down_as_such() -> None:
    assert hanging_server.line(b"GET / HTTP/1.1\r\n\r\n", 1.0) == "1.000 - -"
