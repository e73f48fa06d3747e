"""Extensions in a real service: the examples of docs/extensions.md, hooks, schedules, and modules that are no good."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import signal
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from notifier.supervision.operator import Operator
from tests.acceptance.control import Producer, operator_of, slot_of, until_slot
from tests.acceptance.service import NOTIFIER, TIERS_ALONE, environment, running

DOCS = Path(__file__).parents[2] / "docs" / "extensions.md"
LADDER = "1s,2s,3s"
SLOTS = ("tier:1s", "tier:2s", "tier:3s")


def example(name: str, directory: Path) -> None:
    """Write a module as it stands in the docs."""
    found = re.findall(r"<!-- test: (\S+) -->\n```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    (directory / name).write_text(dict(found)[name])


async def sent(operator: Operator, action: str, data: Any = None, to: str = "tier") -> dict[str, Any]:
    """The data that each process answered with."""
    answer = await operator.ask("send", {"to": to, "action": action, "data": data})
    assert {reply["result"] for reply in answer["replies"]} == {"done"}, answer
    return {reply["slot"]: reply["data"] for reply in answer["replies"]}


async def until(operator: Operator, action: str, wanted: Any, timeout: float = 30) -> dict[str, Any]:
    """Ask all processes again and again until `wanted` of what they answer is true."""
    async with asyncio.timeout(timeout):
        while True:
            answers = await sent(operator, action)
            if wanted(answers):
                return answers


async def test_000_a_blacklist_is_refreshed_in_every_consumer_process_by_one_push_which_says_in_how_many(
    broker: Any, namespace: str, tmp_path: Path
) -> None:
    example("blacklist.py", tmp_path)
    database = tmp_path / "database"
    database.write_text("spam\n")
    variables = environment(
        broker.url, namespace, NOTIFIER_LADDER=LADDER, NOTIFIER_EXTENSIONS="blacklist",
        NOTIFIER_CALLBACK="blacklist:callback", BLACKLIST=str(database), NOTIFIER_LOG__LEVEL="info",
    )  # fmt: skip
    async with (
        running(variables, cwd=tmp_path) as service,
        operator_of(variables) as operator,
        Producer(variables) as producer,
    ):
        (before,) = await producer.send(["m"], "http://127.0.0.1:9", 1)
        assert (await service.event("attempt", notification=before))["decision"] == "complete"
        database.write_text("spam\n{}\n")
        assert await sent(operator, "blacklist.updated") == dict.fromkeys(SLOTS, 2)
        (after,) = await producer.send(["m"], "http://127.0.0.1:9", 1)
        for tier in ("1s", "2s", "3s"):  # each of its attempts is in another process
            attempt = await service.event("attempt", notification=after, tier=tier)
            assert attempt["detail"] == "it holds a word of the blacklist"
        os.kill((await slot_of(operator, "tier:1s"))["pid"], signal.SIGKILL)
        await until_slot(operator, "tier:1s", epoch=2, state="ready")
        (again,) = await producer.send(["m"], "http://127.0.0.1:9", 1)
        attempt = await service.event("attempt", notification=again, tier="1s")
        assert attempt["detail"] == "it holds a word of the blacklist", "the new process never worked without it"


async def test_004_a_cache_is_pushed_on_change_checked_by_one_process_and_forced_by_all(
    broker: Any, namespace: str, tmp_path: Path
) -> None:
    example("rates.py", tmp_path)
    source = tmp_path / "source"
    source.write_text(json.dumps({"version": 1, "rates": {"EUR": 1.1}}))
    common = {"NOTIFIER_LADDER": "1s,2s", "NOTIFIER_EXTENSIONS": "rates", "RATES": str(source)}
    variables = environment(broker.url, namespace, **common, RATES_CHECK="3600", RATES_FORCE="3600")
    async with running(variables, cwd=tmp_path), operator_of(variables) as operator:
        source.write_text(json.dumps({"version": 2, "rates": {"EUR": 1.2}}))
        assert await sent(operator, "rates.refresh", "push") == dict.fromkeys(SLOTS[:2], 2)
        shown = await sent(operator, "rates.show")
        assert {tuple(each["history"]) for each in shown.values()} == {("start", "push")}
    variables = environment(broker.url, namespace, **common, RATES_CHECK="0.5", RATES_FORCE="3600")
    async with running(variables, cwd=tmp_path), operator_of(variables) as operator:
        source.write_text(json.dumps({"version": 3, "rates": {}}))
        shown = await until(operator, "rates.show", lambda all_: all(each["version"] == 3 for each in all_.values()))
        assert {tuple(each["history"]) for each in shown.values()} == {("start", "pull")}, "once, by one of them"
    variables = environment(broker.url, namespace, **common, RATES_CHECK="3600", RATES_FORCE="0.5")
    async with running(variables, cwd=tmp_path), operator_of(variables) as operator:
        source.write_text(json.dumps({"version": 4, "rates": {}}))
        shown = await until(operator, "rates.show", lambda all_: all(each["version"] == 4 for each in all_.values()))
        assert {tuple(each["history"][:2]) for each in shown.values()} == {("start", "force")}, "each by itself"


WITNESS = """
import asyncio, os
from notifier import logs
async def callback(notification):
    raise RuntimeError("the callback is broken")
def register(extension):
    def note(what):
        logs.event("witness", slot=extension.slot, epoch=extension.epoch, what=what)
    @extension.on_start
    async def start(): note("on_start")
    @extension.on_ready
    async def ready(): note("on_ready")
    @extension.on_control
    async def control(control): note(f"on_control {control.kind} {control.name} {control.value} {control.sender}")
    @extension.on_exception
    async def exception(error): note(f"on_exception {type(error).__name__} {error}")
    @extension.on_drain
    async def drain(): note("on_drain")
    @extension.on_shutdown
    async def shutdown(): note("on_shutdown")
    @extension.on_ready
    async def hangs():
        if os.environ.get("HANG"):
            while True:
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    pass
    @extension.on_shutdown
    async def hangs_at_the_end(): await asyncio.sleep(3600 if os.environ.get("HANG") else 0)
    @extension.action("hello")
    async def hello(data, sender): return [data, sender.slot]
    @extension.follow("colour")
    async def colour(key, value):
        if value == "mauve": raise ValueError("no such colour")
        note(f"follow {key} {value}")
    @extension.every(0.5, by="one", jitter=0)
    async def once():
        note("one begins"); await asyncio.sleep(0.1); note("one ends")
    @extension.every(0.2, by="all", jitter=0)
    async def each():
        note("all begins"); await asyncio.sleep(0.5); note("all ends")
"""


async def test_003_hooks_hear_start_control_exceptions_drain_and_shutdown_and_hanging_ones_are_cut(
    broker: Any, namespace: str, tmp_path: Path
) -> None:
    (tmp_path / "witness.py").write_text(WITNESS)
    variables = environment(
        broker.url, namespace, NOTIFIER_LADDER="1s", NOTIFIER_EXTENSIONS="witness", HANG="yes",
        NOTIFIER_CALLBACK="witness:callback",
    )  # fmt: skip
    async with (
        running(variables, cwd=tmp_path) as service,
        operator_of(variables) as operator,
        Producer(variables) as producer,
    ):
        assert await sent(operator, "hello", {"a": 1}) == {"tier:1s": [{"a": 1}, "ctl"]}
        answer = await operator.ask("push", {"key": "x/colour", "value": "red"})
        assert answer["slots"][0]["result"] == "applied"
        answer = await operator.ask("push", {"key": "x/colour", "value": "mauve"})
        assert "no such colour" in answer["slots"][0]["error"]
        await producer.send(["m"], "http://127.0.0.1:9", 1)
        await service.event("witness", what="on_exception RuntimeError the callback is broken")
        await service.event("extension.cut", what="witness:on_ready", seconds=5.0)
        assert await service.stop() == 0
        await service.event("extension.cut", what="witness:on_shutdown", seconds=3.0)
    seen = [event["what"] for event in service.events if event["event"] == "witness"]
    assert seen[0] == "on_start"
    assert seen.index("on_start") < seen.index("on_ready") < seen.index("on_drain") < seen.index("on_shutdown")
    assert "on_control action hello {'a': 1} ctl" in seen
    assert "on_control state x/colour red None" in seen
    assert "follow x/colour red" in seen
    assert "on_exception RuntimeError the callback is broken" in seen
    assert any(line.startswith("on_exception TimeoutError witness:on_ready") for line in seen)


@pytest.mark.alone
async def test_a_schedule_for_one_is_done_by_one_taken_over_when_that_dies_and_never_overlaps(
    broker: Any, namespace: str, tmp_path: Path
) -> None:
    (tmp_path / "witness.py").write_text(WITNESS)
    variables = environment(broker.url, namespace, NOTIFIER_LADDER=LADDER, NOTIFIER_EXTENSIONS="witness")
    async with running(variables, cwd=tmp_path) as service, operator_of(variables) as operator:
        await service.several(4, "witness", what="one ends")
        done = await service.several(4, "witness", what="one begins")
        assert {run["slot"] for run in done} == {"tier:1s"}
        for first in ("tier:1s", "tier:2s"):
            os.kill((await slot_of(operator, first))["pid"], signal.SIGKILL)
        ended = len(await service.several(4, "witness", what="one ends"))
        after = await service.several(ended + 4, "witness", what="one ends")
        gap = seconds(after[ended]) - seconds(after[ended - 1])
        assert gap < 0.5 + 0.1 + 0.5 + 1.5, "another one took over within an interval, a look and a busy machine"
        runs = [event for event in service.events if event["event"] == "witness" and event["what"].startswith("one")]
        await service.several(4, "witness", what="all ends", slot="tier:3s")
        all_runs = [event for event in service.events if event["event"] == "witness" and "all " in event["what"]]
    whose = [(run["slot"], run["epoch"], run["what"]) for run in sorted(runs, key=lambda run: str(run["ts"]))]
    for (slot, epoch, what), (next_slot, next_epoch, next_what) in itertools.pairwise(whose):
        if what == "one begins" and next_what == "one ends":
            assert (slot, epoch) == (next_slot, next_epoch)
        elif what == "one begins":  # it was killed in the midst of it
            assert epoch == 1
            assert slot in ("tier:1s", "tier:2s")
        else:
            assert next_what == "one begins"
    for slot in SLOTS:
        moments = [run["what"] for run in all_runs if (run["slot"], run["epoch"]) == (slot, 1)]
        assert set(moments[::2]) <= {"all begins"}
        assert set(moments[1::2]) <= {"all ends"}


def seconds(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["ts"]).timestamp()


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ((), "import nothing_of_that_name", "extension 'bad' cannot be imported: ModuleNotFoundError"),
        pytest.param(
            TIERS_ALONE, "x = 1", "extension 'bad' has no function register(extension)", marks=pytest.mark.long
        ),
        pytest.param(
            TIERS_ALONE,
            "def register(extension): 1/0",
            "extension 'bad' failed in register(): ZeroDivisionError",
            marks=pytest.mark.long,
        ),
        pytest.param(
            TIERS_ALONE,
            "def register(extension):\n @extension.on_start\n def f(): pass",
            "'f' is not a coroutine function",
            marks=pytest.mark.long,
        ),
        (
            TIERS_ALONE,
            "from notifier.errors import ConfigurationError\ndef register(extension):\n @extension.on_start\n"
            " async def f(): raise ConfigurationError('RATES is not set')",
            "extension bad: RATES is not set",
        ),
    ],
    ids=["import", "no register", "register fails", "no coroutine", "on_start refuses"],
)
async def test_a_bad_module_ends_the_service_with_78_and_a_sentence(
    broker: Any, namespace: str, tmp_path: Path, arguments: tuple[str, ...], code: str, sentence: str
) -> None:
    (tmp_path / "bad.py").write_text(code)
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="1s", NOTIFIER_EXTENSIONS="bad")
    process = await asyncio.create_subprocess_exec(
        NOTIFIER, "run", *arguments, env=variables, cwd=tmp_path, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(30):
        _, err = await process.communicate()
    assert process.returncode == 78
    assert sentence in err.decode()
