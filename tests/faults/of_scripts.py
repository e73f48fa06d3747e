"""Faults of merchants that answer as scripted, hang, or have names that cannot be looked up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from tests.faults.errors import DidNotBite
from tests.faults.field import Field
from tests.faults.load import MERCHANTS, Wanted
from tests.faults.verdict import COMPLETED, EXHAUSTED, Window

#: Seconds for a whole callback, in these faults: what hangs is given up before a ladder is.
TIMEOUT = {"NOTIFIER_EGRESS__TIMEOUT": "3", "NOTIFIER_EGRESS__CONNECT_TIMEOUT": "2"}
#: Breakers that try again soon, so that what they hold is released while somebody looks.
SOON = {"NOTIFIER_BREAKER__PAUSE": "2", "NOTIFIER_BREAKER__LONGEST_PAUSE": "8"}
#: What acknowledges, so that a wrong body can be wrong.
ACK = {"NOTIFIER_ACK": "body=success"}
#: By path: script, attempts until it is acknowledged. Each word that `notifier simulate` knows is in one of them.
MENDING: Mapping[str, tuple[str, int]] = {
    "ok": ("ok", 1),
    "500": ("500,ok", 2),
    "404": ("404,503:2,ok", 3),
    "timeout": ("timeout,ok", 2),
    "wrong-body": ("wrong-body,ok-json,ok", 3),
    "redirect": ("redirect,ok", 2),
    "slow": ("slow:1", 1),
    "huge": ("huge,ok", 2),
    "429": ("429:2,ok", 2),
}
#: Those that never acknowledge: what their notifications may end as, and after how many attempts.
FAILING: Mapping[str, tuple[str, int, str]] = {
    "always-500": ("500", 3, "exhausted"),
    "always-timeout": ("timeout", 3, "exhausted"),
    "always-reset": ("reset", 3, "exhausted"),
    "gone": ("410", 1, "stopped"),
}
SCRIPTS: Mapping[str, str] = {
    **{f"/{path}": script for path, (script, _) in MENDING.items()},
    **{f"/{path}": script for path, (script, _, _) in FAILING.items()},
}
#: Notifications for each script that mends itself, fewer than open a breaker; and for each that fails, far more.
_FEW, _MANY = 8, 40
#: Of the merchants of the load, those that hang in one fault.
_TENTH = MERCHANTS // 10
#: Seconds in which everybody hangs: two attempts of three may be spoiled.
_ALL_HANG = 5.0


async def scripted(field: Field, number: int) -> Window:
    """Merchants with each script of `notifier simulate`, all at once; those that always fail are cut off."""
    merchants = field.around.simulated
    assert merchants is not None
    began, before = time.time() * 1000, merchants.answered.copy()
    opened = field.service.told("breaker")
    sent = await field.load.send(
        [
            Wanted(path, f"{path}-{number}", f"{merchants.url}/{path}", attempts)
            for path, (_, attempts) in MENDING.items()
            for _ in range(_FEW)
        ]
        + [
            Wanted(
                path, f"{path}-{number}", f"{merchants.url}/{path}", attempts,
                frozenset({end, "held"}), breaks=path == "always-reset",
            )
            for path, (_, attempts, end) in FAILING.items()
            for _ in range(_MANY)
        ]
    )  # fmt: skip
    await field.service.until_told("breaker", opened + 1, timeout=60)  # of those that always fail
    mending = {each.id for each in sent if each.ends == COMPLETED}
    await _ended(field, mending, {"completed"})
    await _ended(field, {each.id for each in sent} - mending, {"exhausted", "stopped", "held"})
    words = {word.split(":")[0] for script in SCRIPTS.values() for word in script.split(",")}
    answered = {word.split(":")[0] for word in merchants.answered - before}
    if unanswered := words - answered:
        raise DidNotBite(f"nobody was answered {sorted(unanswered)}")
    return Window(began, began, began)


async def tenth_hangs(field: Field, number: int) -> Window:
    """A tenth of the merchants hang for the whole timeout, again and again; no healthy one is held for that: neither
    until now nor for a while, after which it was released and is in a further run.
    """
    began = time.time() * 1000
    ids = set()
    for _ in range(6):
        hanging = [f"hanging-{number}-{at}" for at in range(_TENTH)]
        sent = await field.load.send(
            [Wanted("mute", name, f"{field.receiver.url}/mute/{name}", 2) for name in hanging for _ in range(8)]
        )
        ids |= {each.id for each in sent}
        await asyncio.sleep(1)  # a stream of them, beside that of the healthy ones
    await _ended(field, ids, {"completed"})
    timed_out = await field.books.count(
        f"SELECT count(*) FROM attempts WHERE error = 'timeout' AND merchant LIKE 'hanging-{number}-%'"
    )
    if timed_out < len(ids):
        raise DidNotBite(f"{timed_out} of {len(ids)} attempts timed out")
    held = await field.books.count(
        "SELECT count(*) FROM notifications "
        f"WHERE merchant LIKE 'm__' AND (run > 0 OR status = 'held') AND accepted_at >= {int(began)}"
    )
    if held:
        raise AssertionError(f"{held} notifications of healthy merchants were held")
    return Window(began, began, began)


async def all_hang(field: Field, number: int) -> Window:
    """Every merchant hangs for a while; what they were called with meanwhile times out, waits, or is held."""
    began = time.time() * 1000
    field.receiver.hang_all()
    await asyncio.sleep(_ALL_HANG)  # the length of it is what is tested
    field.receiver.let_go()
    ended = time.time() * 1000
    await field.calm()
    timed_out = await field.books.count(
        f"SELECT count(*) FROM attempts WHERE error = 'timeout' AND started >= {int(began)}"
    )
    if not timed_out:
        raise DidNotBite("no attempt timed out")
    # no spans: whoever is called hangs for all of it
    return Window(began, ended, time.time() * 1000)


async def names_fail(field: Field, number: int) -> Window:
    """Hosts that no name server knows, and hosts whose name servers do not answer; then they are found again."""
    world = field.around.world
    assert world is not None
    began, port = time.time() * 1000, field.receiver.url.rpartition(":")[2]
    mending, gone, mute = f"mending-{number}", f"gone-{number}", f"mute-{number}"
    world.name(**{mending: "fail", gone: "fail", mute: "hang"})
    lost = frozenset({*EXHAUSTED, "held"})
    sent = await field.load.send(
        [
            Wanted(fate, name, f"http://{name}.test:{port}/prompt/{name}", attempts, may_end)
            for fate, name, attempts, may_end in (
                ("mending", mending, 0, COMPLETED),
                ("gone", gone, 0, lost),
                ("mute", mute, 0, lost),
            )
            for _ in range(_FEW)
        ]
    )
    failed = f"SELECT count(DISTINCT notification) FROM attempts WHERE merchant = '{mending}' AND error = 'dns'"
    async with asyncio.timeout(60):
        while await field.books.count(failed) < _FEW:  # noqa: ASYNC110  a database tells nobody
            await asyncio.sleep(0.1)
    world.name(**{mending: "127.0.0.1", gone: "fail", mute: "hang"})
    await _ended(field, {each.id for each in sent if each.ends == COMPLETED}, {"completed"})
    await _ended(field, {each.id for each in sent if each.ends != COMPLETED}, {"exhausted", "held"})
    if not all(world.asked(name) for name in (mending, gone, mute)):
        raise DidNotBite("not every name was looked up")
    return Window(began, began, began)


async def _ended(field: Field, ids: set[str], wanted: set[str]) -> None:
    """Wait until the ledger has all of these as one of that."""
    names, stated = "', '".join(sorted(ids)), "', '".join(sorted(wanted))
    query = f"SELECT count(*) FROM notifications WHERE id IN ('{names}') AND status IN ('{stated}')"
    ended = 0
    try:
        async with asyncio.timeout(120):
            while (ended := await field.books.count(query)) < len(ids):  # noqa: ASYNC110  a database tells nobody
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise AssertionError(f"{ended} of {len(ids)} notifications are {sorted(wanted)} in time") from None
