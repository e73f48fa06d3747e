"""The commands that ask the agent, and those for all machines: what they ask for, and what they say of the answers."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from pretending import SLOTS, Master, slot

from notifier import cli
from notifier.cli import agent_line, ctl_line

Call = Callable[..., tuple[int, str, str]]
LIVE = {"live": 5, "of": 5, "slots": [], "machines": [], "missing": []}
HERE = {"machine": "a", "here": True, "heard_s": 0.0, "twin": False, "registry": 7, "since": "2026-11-21T08:00:00.000Z"}
THERE = {**HERE, "machine": "b", "here": False, "heard_s": 1.2}


class Agent(Master):
    """A master with an agent. told: the data of its actions, in order. says: what it answers, by action."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.says: dict[str, Any] = {}
        self.reply: dict[str, Any] = {}
        self.fleet = [HERE]
        self.elsewhere: dict[str, Any] = {}
        self.there = Master()
        self.slots.append(slot("agent") | {"groups": ["agent"], "statistics": {"fleet": self.fleet}})

    async def ask(self, verb: str, body: Mapping[str, Any] | None = None, *, timeout: float = 30.0) -> Any:
        if verb != "send":
            return await super().ask(verb, body, timeout=timeout)
        assert body is not None
        assert body["to"] == "agent"
        self.told.append((body["action"], body["data"]))
        if self.reply:
            return {"replies": [{"slot": "agent", "epoch": 1, **self.reply}]}
        data = (
            await self._ask_fleet(body["data"]) if body["action"] == "fleet.ask" else self.says.get(body["action"], {})
        )
        return {"replies": [{"slot": "agent", "epoch": 1, "result": "done", "data": data}]}

    async def _ask_fleet(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Machine b answers as a master does."""
        if self.elsewhere:
            return self.elsewhere
        assert data["machine"] == "b"
        answer = await self.there.ask(data["verb"], data["body"], timeout=data["timeout"])
        return {"ok": {"machines": [{"machine": "b", "answer": answer}], "missing": []}}


@pytest.fixture(scope="module", autouse=True)
def _no_leftovers() -> None:
    """See test_ctl_verbs."""
    gc.collect()


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Agent:
    fake = Agent()

    class Operator:
        @classmethod
        async def connect(cls, directory: Path) -> Agent:
            return fake

    monkeypatch.setattr(ctl_line, "Operator", Operator)
    monkeypatch.setattr(agent_line, "who", lambda: "ada")
    for module in ("merchants", "notifications", "tokens", "ctl_block", "ctl_fleet", "replays"):
        monkeypatch.setattr(f"notifier.cli.{module}.who", lambda: "ada")
    monkeypatch.chdir(tmp_path)
    return fake


@pytest.fixture
def call(agent: Agent, capsys: pytest.CaptureFixture[str]) -> Call:
    def call(*arguments: str) -> tuple[int, str, str]:
        code = cli.execute(list(arguments))
        out, err = capsys.readouterr()
        return code, out, err

    return call


# --- what the agent is asked for

CHANGE = {"merchant": "m", "fields": {}, "who": "ada", "why": None, "for": None}


@pytest.mark.parametrize(
    ("words", "action", "data", "said"),
    [
        (
            ["merchants", "add", "m", "--url", "https://m.example/", "--ladder", "1s,3s", "--ack", "body=success"],
            "merchants.change",
            {
                **CHANGE,
                "op": "add",
                "fields": {"url": "https://m.example/", "ladder": "1s,3s", "ack": "body=success"},
            },
            "m is registered: live in 5 of 5 processes",
        ),
        (
            ["merchants", "set", "m", "--url", "none", "--ladder", "default", "--ack", "default", "--rate", "2.5"],
            "merchants.change",
            {**CHANGE, "op": "set", "fields": {"url": None, "ladder": None, "ack": None, "rate": 2.5}},
            "m is changed: live in 5 of 5 processes",
        ),
        (
            ["merchants", "set", "m", "--header", "X-Shop: a: b", "--header", "X-Old:", "--concurrency", "9"],
            "merchants.change",
            {**CHANGE, "op": "set", "fields": {"headers": {"X-Shop": "a: b", "X-Old": None}, "concurrency": 9}},
            "m is changed: live in 5 of 5 processes",
        ),
        (
            ["merchants", "set", "m", "--concurrency", "default", "--rate", "default"],
            "merchants.change",
            {**CHANGE, "op": "set", "fields": {"concurrency": None, "rate": None}},
            "m is changed: live in 5 of 5 processes",
        ),
        (
            ["merchants", "remove", "m", "--yes", "--reason", "gone"],
            "merchants.change",
            {**CHANGE, "op": "remove", "why": "gone"},
            "m is removed: live in 5 of 5 processes",
        ),
        (
            ["merchants", "rotate", "m", "--grace", "7d"],
            "merchants.change",
            {**CHANGE, "op": "rotate", "for": 604_800.0},
            "m has a new secret: live in 5 of 5 processes",
        ),
        (
            ["merchants", "rotate", "m", "--grace", "0s", "--secret", "whsec_x"],
            "merchants.change",
            {**CHANGE, "op": "rotate", "for": 0.0, "fields": {"secret": "whsec_x"}},
            "m has a new secret: live in 5 of 5 processes",
        ),
        (["merchants", "enable", "m"], "merchants.change", {**CHANGE, "op": "enable"}, "m is enabled: live in 5 of 5"),
        (
            ["merchants", "disable", "m", "--reason", "over"],
            "merchants.change",
            {**CHANGE, "op": "disable", "why": "over"},
            "m is disabled: live in 5 of 5 processes",
        ),
        (
            ["merchants", "block", "m", "--for", "2h", "--reason", "INC-1"],
            "merchants.change",
            {**CHANGE, "op": "block", "why": "INC-1", "for": 7200.0},
            "m is blocked: live in 5 of 5 processes",
        ),
        (
            ["ctl", "block", "m", "--reason", "INC-1"],
            "merchants.change",
            {**CHANGE, "op": "block", "why": "INC-1"},
            "m is blocked: live in 5 of 5 processes",
        ),
        (
            ["ctl", "unblock", "m"],
            "merchants.change",
            {**CHANGE, "op": "unblock"},
            "m is no longer blocked: live in 5 of 5 processes",
        ),
        (["merchants", "test", "m"], "merchants.test", {"merchant": "m", "who": "ada"}, "ntf_1"),
        (
            ["notifications", "replay", "ntf_1"],
            "notifications.replay",
            {"id": "ntf_1", "who": "ada"},
            "ntf_1 is sent again, run 1",
        ),
        (
            ["notifications", "cancel", "ntf_1", "--reason", "refunded"],
            "notifications.cancel",
            {"id": "ntf_1", "who": "ada", "why": "refunded"},
            "ntf_1 is cancelled: live in 5 of 5 processes",
        ),
        (
            ["tokens", "add", "merchant", "--merchant", "m", "--note", "theirs"],
            "tokens.add",
            {"role": "merchant", "merchant": "m", "note": "theirs", "who": "ada"},
            "ntk_x",
        ),
        (
            ["tokens", "remove", "tok_1"],
            "tokens.remove",
            {"id": "tok_1", "who": "ada"},
            "tok_1 is removed, and worthless within 5 s",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_changes_something_is_asked_of_the_agent(
    call: Call, agent: Agent, words: list[str], action: str, data: dict[str, Any], said: str
) -> None:
    agent.says = {
        "merchants.change": {"ok": {"merchant": {"id": "m"}, "live": LIVE}},
        "merchants.test": {"ok": {"id": "ntf_1"}},
        "notifications.replay": {"ok": {"id": "ntf_1", "run": 1}},
        "notifications.cancel": {"ok": {"id": "ntf_1", "status": "stopped", "live": LIVE}},
        "tokens.add": {"ok": {"id": "tok_1", "token": "ntk_x"}},
        "tokens.remove": {"ok": {"id": "tok_1"}},
    }
    code, out, err = call(*words)
    assert (code, err) == (0, "")
    assert out.startswith(said)
    assert agent.told == [(action, data)]
    assert agent.pushed() == []


@pytest.mark.parametrize("words", [["merchants", "add", "m"], ["merchants", "rotate", "m"]])
def test_a_secret_is_shown_when_it_is_made_and_only_then(call: Call, agent: Agent, words: list[str]) -> None:
    agent.says["merchants.change"] = {"ok": {"merchant": {"id": "m"}, "secret": "whsec_new", "live": LIVE}}
    assert call(*words)[1].splitlines()[1] == "its secret, shown only now: whsec_new"
    assert json.loads(call(*words, "--json")[1])["secret"] == "whsec_new"


def test_a_secret_can_come_from_a_file_and_is_then_in_no_list_of_processes(
    call: Call, agent: Agent, tmp_path: Path
) -> None:
    agent.says["merchants.change"] = {"ok": {"merchant": {"id": "m"}, "live": LIVE}}
    (tmp_path / "secret").write_text("whsec_file\n")
    assert call("merchants", "add", "m", "--secret", "@secret")[0] == 0
    assert agent.told[0][1]["fields"] == {"secret": "whsec_file"}
    code, _, err = call("merchants", "add", "m", "--secret", "@nowhere")
    assert (code, err) == (1, "notifier: the secret's file nowhere cannot be read: No such file or directory\n")


@pytest.mark.parametrize(
    ("live", "said", "sentences"),
    [
        ({**LIVE, "machines": [{"machine": "b", "live": 3, "of": 3}]}, "live in 8 of 8 processes", []),
        (
            {
                **LIVE,
                "live": 4,
                "slots": [
                    {"slot": "tier:1s", "epoch": 1, "result": "applied", "version": 3},
                    {"slot": "tier:5s", "epoch": 1, "result": "timeout", "restarted": False},
                ],
                "missing": ["tier:5s"],
            },
            "live in 4 of 5 processes",
            ["tier:5s did not answer in time; it may not have it yet (`notifier ctl status` tells)"],
        ),
        (
            {**LIVE, "machines": [{"machine": "b", "live": 2, "of": 3}], "missing": ["c"]},
            "live in 7 of 8 processes",
            [
                "machine b has it in 2 of 3 processes",
                "machine c does not have it yet: it did not answer, or could not; it looks for changes every 10 s",
            ],
        ),
    ],
    ids=["two machines", "a process here", "other machines"],
)
@pytest.mark.parametrize("words", [["merchants", "block", "m"], ["ctl", "block", "m"]], ids=" ".join)
def test_who_does_not_have_a_change_is_named_and_the_exit_code_is_1(
    call: Call, agent: Agent, words: list[str], live: dict[str, Any], said: str, sentences: list[str]
) -> None:
    agent.says["merchants.change"] = {"ok": {"merchant": {"id": "m"}, "live": live}}
    code, out, err = call(*words)
    assert (code, out) == (int(bool(sentences)), f"m is blocked: {said}\n")
    assert err.splitlines() == [f"notifier: {sentence}" for sentence in sentences]
    told = json.loads(call(*words, "--json")[1])
    assert told["ok"] is not bool(sentences)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"problem": {"kind": "not-found", "detail": "there is no merchant 'm'"}}, "there is no merchant 'm'"),
        ({"problem": {"kind": "conflict", "detail": "it is there\nalready"}}, "it is there\\x0aalready"),
        ({"problem": {"kind": "invalid", "detail": "url: no"}}, "url: no"),
        ({"problem": {"kind": "unavailable", "detail": "the database is away"}}, "the database is away"),
        ({"problem": {"kind": "of tomorrow", "detail": "something"}}, "something"),
        (None, "the agent's answer cannot be understood: do service and command come from the same notifier?"),
    ],
)
def test_what_the_agent_refuses_is_its_own_sentence(call: Call, agent: Agent, answer: Any, said: str) -> None:
    agent.says["merchants.change"] = answer
    assert call("merchants", "add", "m") == (1, "", f"notifier: {said}\n")


def test_what_happened_to_each_of_several_is_told(call: Call, agent: Agent) -> None:
    agent.says["notifications.cancel"] = {"problem": {"kind": "conflict", "detail": "it is finished"}}
    code, out, err = call("notifications", "cancel", "x", "y", "x")
    assert (code, out, err) == (1, "", "notifier: it is finished\n" * 2)
    told = json.loads(call("notifications", "cancel", "x", "--json")[1])
    assert told == {"ok": False, "items": [{"id": "x", "error": "it is finished"}]}


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (["merchants", "add", ""], 1, "is not a merchant id"),
        (["merchants", "set", "m"], 2, "say what to change"),
        (["merchants", "set", "m", "--concurrency", "many"], 2, "'many' is no whole number"),
        (["merchants", "set", "m", "--rate", "fast"], 2, "'fast' is no number"),
        (["merchants", "set", "m", "--header", "X-Shop"], 2, "write a header as 'NAME: VALUE'"),
        (["merchants", "remove", "m"], 2, "add --yes to mean it"),
        (["merchants", "block", "m", "--for", "soon"], 2, "is not a span of time"),
        (["notifications", "replay"], 2, "name notifications, or choose them"),
        (["notifications", "replay", "x", "--status", "held"], 2, "name notifications, or choose them"),
        (["notifications", "replay", "x", "--dry-run"], 2, "--dry-run and --follow go with a filter"),
        (["notifications", "cancel"], 2, "name the notifications"),
        (["notifications", "replays", "--stop"], 2, "name the job"),
        (["notifications", "export"], 2, "--csv"),
        (["notifications", "list", "--since", "yesterday"], 2, "neither a moment"),
        (["ctl", "--fleet", "shutdown"], 2, "shutdown is not for all machines at once"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_meant_is_told_before_anything_is_asked(
    call: Call, agent: Agent, words: list[str], code: int, part: str
) -> None:
    found, out, err = call(*words)
    assert (found, out) == (code, "")
    assert part in err
    assert agent.told == []


# --- without a registry


@pytest.mark.parametrize(
    ("reply", "says", "why"),
    [
        ({}, {"problem": {"kind": "unavailable", "detail": "the database is away"}}, "the database is away"),
        ({"result": "timeout", "error": "not answered within 20 s"}, {}, "the agent did not do it (not answered "),
        ({"result": "gone"}, {}, "the agent did not do it (gone)"),
    ],
    ids=["no database", "a silent agent", "no agent just now"],
)
def test_a_block_that_the_registry_cannot_take_holds_on_this_machine_and_says_so(
    call: Call, agent: Agent, reply: dict[str, Any], says: dict[str, Any], why: str
) -> None:
    agent.reply, agent.says["merchants.change"] = reply, says
    code, out, err = call("ctl", "block", "m", "--reason", "INC-1", "--for", "1h")
    assert code == 0
    assert out.endswith(": live in 4 of 4 processes\n")
    assert out.startswith("m is blocked on this machine until ")
    assert err.startswith(f"notifier: {why}")
    assert "so m is blocked on this machine alone, not in the registry" in err
    ((verb, body),) = agent.pushed()
    assert (verb, body["key"], body["value"]) == ("push", "block/m", {"blocked": True, "reason": "INC-1"})
    assert (body["for"], body["critical"]) == (3600, True)


def test_a_wrong_merchant_is_not_blocked_on_this_machine_instead(call: Call, agent: Agent) -> None:
    agent.says["merchants.change"] = {"problem": {"kind": "invalid", "detail": "a reason is one line"}}
    assert call("ctl", "block", "m") == (1, "", "notifier: a reason is one line\n")
    assert agent.pushed() == []


def test_unblock_takes_back_the_block_in_the_registry_and_the_one_of_this_machine(call: Call, agent: Agent) -> None:
    agent.says["merchants.change"] = {"ok": {"merchant": {"id": "m"}, "live": LIVE}}
    agent.entries = [
        {"key": "block/m", "value": {"blocked": True}, "version": 1, "who": "x", "why": None, "until": None,
         "since": "2026-11-21T09:00:00.000Z"}
    ]  # fmt: skip
    _, out, _ = call("ctl", "unblock", "m")
    assert out == (
        "m is no longer blocked: live in 5 of 5 processes; its block on this machine is taken back, too: "
        "live in 4 of 4 processes\n"
    )
    assert [(verb, body["key"]) for verb, body in agent.pushed()] == [("clear", "block/m")]


def test_unblock_says_when_the_registry_could_not_be_asked(call: Call, agent: Agent) -> None:
    agent.says["merchants.change"] = {"problem": {"kind": "unavailable", "detail": "the database is away"}}
    assert call("ctl", "unblock", "m") == (
        1,
        "m may be blocked still\n",
        "notifier: the registry could not be asked, and may block it: the database is away\n",
    )


def test_unblock_of_a_merchant_that_nobody_knows_says_that_it_was_not_blocked(call: Call, agent: Agent) -> None:
    agent.says["merchants.change"] = {"problem": {"kind": "not-found", "detail": "there is no merchant 'm'"}}
    assert call("ctl", "unblock", "m") == (0, "m was not blocked on this machine\n", "")


# --- the fleet


def test_a_verb_for_all_machines_is_done_by_each_and_each_answers_for_itself(call: Call, agent: Agent) -> None:
    agent.fleet.append(THERE)
    agent.there.results["tier:5s"] = {"result": "gone"}
    code, out, err = call("ctl", "--fleet", "pause", "tier", "--for", "10m", "--reason", "moving")
    assert code == 1
    here, there = out.splitlines()
    assert here.startswith("a: tier is paused until ")
    assert here.endswith("live in 3 of 3 processes")
    assert there.startswith("b: tier is paused until ")
    assert there.endswith("live in 2 of 3 processes")
    assert err == "notifier: b: tier:5s has no process just now; its next one has it before it does anything\n"
    assert [(body["key"], body["for"], body["why"]) for _, body in agent.pushed()] == [("pause/tier", 600, "moving")]
    ((_, body),) = agent.there.pushed()
    assert (body["key"], body["why"], body["who"]) == ("pause/tier", "moving", "ada on a")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["status"], ["== a\n3 of 4", "== b\n3 of 3"]),
        (["ping"], ["a: the master answers: pid 7, ", "b: the master answers: pid 7, "]),
        (["resume", "5s"], ["a: tier:5s has no pause of its own\n", "b: tier:5s has no pause of its own\n"]),
        (["set", "5s", "prefetch=7"], ["a: tier:5s: prefetch = 7: live in 1 of 1", "b: tier:5s: prefetch = 7: live"]),
        (["log-level", "debug", "5s"], ["a: tier:5s: log level = debug: live in 1", "b: tier:5s: log level = debug"]),
    ],
    ids=lambda value: value[0],
)
def test_verbs_that_make_sense_for_all_machines(call: Call, agent: Agent, words: list[str], parts: list[str]) -> None:
    agent.fleet.append(THERE)
    agent.slots[-1]["state"] = "starting"
    code, out, err = call("ctl", "--fleet", *words)
    assert (code, err) == (0, "")
    assert all(part in out for part in parts), out
    told = json.loads(call("ctl", "--fleet", *words, "--json")[1])
    assert [machine["machine"] for machine in told["machines"]] == ["a", "b"]
    assert told["ok"] is True


@pytest.mark.parametrize(
    ("elsewhere", "said"),
    [
        (
            {"machines": [{"machine": "b", "error": "b did not answer in 10 s"}], "missing": ["b"]},
            "b did not answer in 10 s",
        ),
        ({"machines": [{"machine": "b", "error": "no process is called x"}], "missing": []}, "no process is called x"),
        (
            {"machines": [{"machine": "b", "answer": {}}, {"machine": "b", "answer": {}}], "missing": []},
            "2 services call themselves so: give each a NOTIFIER_MACHINE of its own",
        ),
    ],
    ids=["silent", "refuses", "twins"],
)
@pytest.mark.parametrize("words", [["status"], ["pause", "5s"], ["ping"]], ids=lambda words: words[0])
def test_a_machine_that_does_not_do_it_is_named(
    call: Call, agent: Agent, words: list[str], elsewhere: dict[str, Any], said: str
) -> None:
    agent.fleet.append(THERE)
    agent.elsewhere = {"ok": elsewhere}
    code, out, err = call("ctl", "--fleet", *words)
    assert code == 1
    assert out.startswith(("a: ", "== a\n"))
    assert err == f"notifier: b: {said}\n"
    code, out, _ = call("ctl", "--fleet", *words, "--json")
    told = json.loads(out)
    assert (code, told["ok"], told["machines"][1]["error"]) == (1, False, said)


def test_a_fleet_shows_its_machines(call: Call, agent: Agent) -> None:
    agent.fleet.append(THERE)
    agent.there.slots[0]["statistics"]["url"] = "http://127.0.0.1:8680/"
    code, out, err = call("ctl", "fleet")
    rows = [line.split() for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert rows[0] == ["MACHINE", "READY", "SINCE", "HEARD", "REGISTRY", "API"]
    assert (rows[1][:4], rows[1][-3:]) == (["a", "4", "of", "4"], ["here", "7", "–"])
    assert (rows[2][:4], rows[2][-4:]) == (["b", "3", "of", "3"], ["1.2s", "ago", "7", "http://127.0.0.1:8680/"])
    told = json.loads(call("ctl", "fleet", "--json")[1])
    assert [(each["machine"], each["ready"], each["of"]) for each in told["machines"]] == [("a", 4, 4), ("b", 3, 3)]


def test_messages_that_were_not_believed_are_told(call: Call, agent: Agent) -> None:
    agent.slots[-1]["statistics"]["fleet_dropped"] = {"stale": 1, "forged": 3}
    code, _, err = call("ctl", "fleet")
    assert code == 0
    assert "messages that were not believed: 3 forged, 1 stale. Have all machines one signing secret" in err


def test_twins_and_silent_machines_are_told(call: Call, agent: Agent) -> None:
    agent.fleet[0] = {**HERE, "twin": True}
    agent.fleet.append({**HERE, "here": False, "twin": True})
    agent.elsewhere = {"ok": {"machines": [{"machine": "a", "error": "a did not answer"}], "missing": ["a"]}}
    code, out, err = call("ctl", "fleet")
    assert code == 1
    assert [line.split()[-1] for line in out.splitlines()[1:]] == ["TWIN", "TWIN"]
    assert "notifier: a: a did not answer" in err


@pytest.mark.parametrize("words", [["ctl", "fleet"], ["ctl", "--fleet", "status"], ["ctl", "--fleet", "pause", "5s"]])
def test_without_an_agent_no_other_machine_is_known(call: Call, agent: Agent, words: list[str]) -> None:
    agent.slots.pop()
    assert [each["slot"] for each in agent.slots] == SLOTS
    code, out, err = call(*words)
    assert (code, out) == (1, "")
    assert "this service runs without an agent (notifier run --no-agent), so it knows no other machine" in err
