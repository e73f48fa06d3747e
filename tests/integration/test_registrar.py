"""The registrar with a real database and a real copy: what it writes, tells and answers, and how it catches up."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from notifier.agent import copying
from notifier.agent import registrar as module
from notifier.agent.registrar import Registrar
from notifier.domain.merchant import Standing
from notifier.domain.signature import Secret
from notifier.errors import Conflict, DatabaseUnavailable, InvalidMerchant, NotFound, PeerGone, RegistryUnreadable
from notifier.ledger import merchants
from notifier.ledger.database import Database
from notifier.ledger.migrating import migrate
from notifier.registry.cache import Registry
from notifier.registry.replica import FILE, ReplicaWriter
from notifier.settings import Settings

NOW = 1_800_000_000.0
URL = "https://shop.example/hook"


class Flaky(Database):
    """A database that can be taken away."""

    def __init__(self, inner: Database) -> None:
        self._inner = inner
        self.away = False

    @property
    def dialect(self) -> str:
        return self._inner.dialect

    def insert(self, table: Any) -> Any:
        return self._inner.insert(table)

    @contextlib.asynccontextmanager
    async def begin(self) -> AsyncIterator[Any]:
        self._refuse()
        async with self._inner.begin() as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[Any]:
        self._refuse()
        async with self._inner.connect() as connection:
            yield connection

    def _refuse(self) -> None:
        if self.away:
            raise DatabaseUnavailable("the ledger's database is away")


class Machine:
    """One agent's registrar, and what it told. told: the words; fleet: what the others are told."""

    def __init__(self, database: Database, directory: Path, name: str = "one") -> None:
        self.database = Flaky(database)
        self.now = NOW
        self.told: list[tuple[Mapping[str, Any], bool]] = []
        self.fleet: list[tuple[int, bool]] = []
        self.slots: Sequence[Mapping[str, Any]] = [
            {"slot": "tier:1s", "epoch": 1, "result": "applied", "version": 1},
            {"slot": "api", "epoch": 1, "result": "applied", "version": 1},
            {"slot": "agent", "epoch": 1, "result": "applied", "version": 1},
        ]
        self.others: list[Mapping[str, Any]] = []
        self.news = asyncio.Event()
        self.replica = ReplicaWriter(directory / name / FILE)
        self.registry = Registry(directory / name)
        self.registrar = Registrar(
            self.database, self.replica, self._push, self._fleet, lambda: self.now, Settings(machine=name)
        )

    async def _push(self, word: Mapping[str, Any], critical: bool) -> Sequence[Mapping[str, Any]]:
        self.told.append((dict(word), critical))
        self.news.set()
        return self.slots

    async def _fleet(self, version: int, critical: bool) -> Sequence[Mapping[str, Any]]:
        self.fleet.append((version, critical))
        return self.others

    async def change(self, op: str, merchant: str = "shop", /, why: str | None = None, **fields: Any) -> dict[str, Any]:
        return await self.registrar.change(op, merchant, fields, "ops", why)

    def url(self, merchant: str = "shop") -> str | None:
        """As a process of this machine sees it."""
        self.registry.refresh(self.registrar.version)
        found = self.registry.get(merchant)
        return None if found is None else found.url

    async def word(self, **wanted: Any) -> Mapping[str, Any]:
        """The next word that says this, awaited."""
        async with asyncio.timeout(20):
            while True:
                for word, _ in self.told:
                    if wanted.items() <= word.items():
                        return word
                self.news.clear()
                await self.news.wait()


@pytest.fixture
async def machine(database: Database, tmp_path: Path) -> AsyncIterator[Machine]:
    machine = Machine(database, tmp_path)
    await machine.registrar.start()
    yield machine
    await machine.registrar.close()
    machine.registry.close()


@pytest.fixture
async def second(database: Database, tmp_path: Path) -> AsyncIterator[Machine]:
    machine = Machine(database, tmp_path, "two")
    await machine.registrar.start()
    yield machine
    await machine.registrar.close()
    machine.registry.close()


async def test_an_empty_registry_is_a_complete_one(machine: Machine) -> None:
    assert machine.told == [({"version": 0, "stale_since": None, "repairs": 0}, False)]
    assert (machine.registrar.version, machine.registrar.stale_since, machine.url()) == (0, None, None)


async def test_a_change_is_in_the_database_and_the_copy_and_told_before_it_is_answered(machine: Machine) -> None:
    answer = await machine.change("add", url=URL, headers={"X-Key": "hunter2"})
    row = await merchants.get(machine.database, "shop")
    assert row is not None
    assert (row.version, row.url, row.standing) == (1, URL, "enabled")
    assert machine.told[-1] == ({"version": 1, "stale_since": None, "repairs": 0}, False)
    assert machine.fleet == [(1, False)]
    assert machine.url() == URL
    assert answer["merchant"]["url"] == URL
    assert answer["live"] == {
        "live": 2,
        "of": 2,
        "slots": [dict(slot) for slot in machine.slots[:2]],
        "machines": [],
        "missing": [],
    }


async def test_the_secret_is_answered_by_add_and_rotate_and_by_nothing_else(machine: Machine) -> None:
    secret = (await machine.change("add", url=URL))["secret"]
    assert Secret.parse(secret)
    new = (await machine.change("rotate"))["secret"]
    assert new != secret
    for op, fields in (("set", {"rate": 1}), ("block", {}), ("unblock", {}), ("disable", {}), ("enable", {})):
        answer = await machine.change(op, **fields)
        assert "secret" not in answer
        assert secret.removeprefix("whsec_") not in str(answer)
    machine.registry.refresh(machine.registrar.version)
    found = machine.registry.get("shop")
    assert found is not None
    assert [each.text for each in found.signing(int(NOW * 1000))] == [new, secret]


async def test_what_switches_a_merchant_off_insists_here_and_on_the_other_machines(machine: Machine) -> None:
    await machine.change("add", url=URL)
    for op, critical in (("block", True), ("unblock", False), ("disable", True), ("enable", False), ("remove", True)):
        await machine.change(op)
        assert (machine.told[-1][1], machine.fleet[-1][1]) == (critical, critical), op


async def test_removing_answers_with_what_there_was_and_a_removed_merchant_can_be_added_again(machine: Machine) -> None:
    await machine.change("add", url=URL)
    assert (await machine.change("remove"))["merchant"]["url"] == URL
    assert machine.url() is None
    with pytest.raises(NotFound):
        await machine.change("set", rate=1)
    await machine.change("add", url="https://new.example/")
    assert machine.url() == "https://new.example/"


async def test_a_merchant_that_was_only_blocked_is_forgotten_with_its_block_and_shown_as_free(machine: Machine) -> None:
    blocked = (await machine.change("block", "stranger", "fraud"))["merchant"]
    assert (blocked["added"], blocked["standing"], blocked["why"], blocked["who"]) == (False, "blocked", "fraud", "ops")
    free = (await machine.change("unblock", "stranger"))["merchant"]
    assert (free["added"], free["standing"], free["blocked"]) == (False, "enabled", None)
    machine.registry.refresh(2)
    assert machine.registry.get("stranger") is None


async def test_what_does_not_have_a_change_is_named_and_the_change_stands(machine: Machine) -> None:
    machine.slots = [
        {"slot": "tier:1s", "epoch": 1, "result": "applied", "version": 1},
        {"slot": "tier:3s", "epoch": 1, "result": "timeout", "restarted": False},
        {"slot": "tier:5s", "epoch": 1, "result": "timeout", "restarted": True},
        {"slot": "tier:15s", "epoch": 1, "result": "gone"},
        {"slot": "tier:30s", "epoch": 1, "result": "error", "error": "no"},
        {"slot": "agent", "epoch": 1, "result": "timeout"},
    ]
    machine.others = [
        {"machine": "two", "live": 5, "of": 5},
        {"machine": "three", "error": "did not answer within 5 s"},
    ]
    live = (await machine.change("add", url=URL))["live"]
    assert (live["live"], live["of"]) == (3, 5)
    assert live["machines"] == [{"machine": "two", "live": 5, "of": 5}]
    assert live["missing"] == ["tier:3s", "tier:30s", "three"]
    assert machine.url() == URL


async def test_a_master_that_is_gone_does_not_take_a_change_back(machine: Machine, monkeypatch: Any) -> None:
    async def broken(word: Mapping[str, Any], critical: bool) -> Sequence[Mapping[str, Any]]:
        raise PeerGone("the master is gone")

    monkeypatch.setattr(machine.registrar, "_push", broken)
    live = (await machine.change("add", url=URL))["live"]
    assert (live["live"], live["missing"]) == (0, ["this machine"])
    assert machine.url() == URL


async def test_a_refused_change_changes_and_tells_nothing(machine: Machine) -> None:
    await machine.change("add", url=URL)
    told = len(machine.told)
    with pytest.raises(Conflict):
        await machine.change("add", url=URL)
    with pytest.raises(InvalidMerchant):
        await machine.change("set", url="nowhere")
    with pytest.raises(NotFound):
        await machine.change("set", "nobody", rate=1)
    assert (len(machine.told), machine.registrar.version) == (told, 1)
    assert (await merchants.stand(machine.database))[1] == 1


async def test_a_change_without_a_database_is_refused(machine: Machine) -> None:
    machine.database.away = True
    with pytest.raises(DatabaseUnavailable):
        await machine.change("add", url=URL)
    assert machine.fleet == []


async def test_changes_at_the_same_time_all_arrive(machine: Machine) -> None:
    await asyncio.gather(*(machine.change("add", f"shop-{n}", url=f"https://{n}.example/") for n in range(20)))
    assert machine.registrar.version == 20
    assert [machine.url(f"shop-{n}") for n in range(20)] == [f"https://{n}.example/" for n in range(20)]
    assert machine.told[-1][0]["version"] == 20


async def test_two_machines_that_change_something_at_the_same_moment_do_not_wait_for_each_other(
    machine: Machine, second: Machine, monkeypatch: Any
) -> None:
    async def to_second(version: int, critical: bool) -> Sequence[Mapping[str, Any]]:
        live = await second.registrar.follow(version, critical)
        return [{"machine": "two", "live": live["live"], "of": live["of"]}]

    async def to_first(version: int, critical: bool) -> Sequence[Mapping[str, Any]]:
        live = await machine.registrar.follow(version, critical)
        return [{"machine": "one", "live": live["live"], "of": live["of"]}]

    monkeypatch.setattr(machine.registrar, "_fleet", to_second)
    monkeypatch.setattr(second.registrar, "_fleet", to_first)
    async with asyncio.timeout(20):
        answers = await asyncio.gather(
            *(second.change("add", f"late-{n}", url=URL) for n in range(5)),
            *(machine.change("add", f"early-{n}", url=URL) for n in range(5)),
        )
    assert [answer["live"]["missing"] for answer in answers] == [[]] * 10
    for name in [f"{when}-{n}" for when in ("late", "early") for n in range(5)]:
        assert (machine.url(name), second.url(name)) == (URL, URL)


async def test_another_machines_change_is_taken_over_when_told(machine: Machine, second: Machine) -> None:
    await machine.change("add", url=URL)
    await machine.change("block")
    assert second.url() is None
    live = await second.registrar.follow(2, critical=True)
    assert (live["live"], live["of"], live["missing"]) == (2, 2, [])
    assert second.told[-1] == ({"version": 2, "stale_since": None, "repairs": 0}, True)
    assert second.url() == URL


async def test_a_machine_with_another_database_says_so(machine: Machine) -> None:
    with pytest.raises(RegistryUnreadable, match="machine one is at version 0 of the registry, not 7"):
        await machine.registrar.follow(7)


async def test_a_change_that_nobody_told_is_found_by_the_next_look(
    machine: Machine, database: Database, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(module, "CHECK", 0.02)
    late = Machine(database, tmp_path, "two")
    await late.registrar.start()
    try:
        await machine.change("add", url=URL)
        await late.word(version=1)
        assert late.url() == URL
        await machine.change("disable")
        await late.word(version=2)
        assert [critical for word, critical in late.told if word["version"] == 2] == [True]
    finally:
        await late.registrar.close()
        late.registry.close()


async def test_what_changed_without_a_version_is_found_by_a_comparison(machine: Machine) -> None:
    await machine.change("add", url=URL)
    await machine.change("add", "other", url=URL)
    assert machine.url() == URL
    with contextlib.closing(sqlite3.connect(machine.replica.path)) as connection, connection:
        connection.execute("UPDATE merchants SET body = replace(body, 'shop.', 'evil.') WHERE id = 'shop'")
        connection.execute("DELETE FROM merchants WHERE id = 'other'")
        connection.execute("INSERT INTO merchants VALUES ('stranger', 1, '{}', 0)")
    await machine.registrar.refresh()
    await machine.registrar.refresh(forced=True)
    assert machine.told[-1] == ({"version": 2, "stale_since": None, "repairs": 1}, True)  # one of them is gone
    assert [machine.url(name) for name in ("shop", "other", "stranger")] == [URL, URL, None]


async def test_a_comparison_does_not_lose_what_another_machine_changes_meanwhile(
    machine: Machine, second: Machine, monkeypatch: Any
) -> None:
    monkeypatch.setattr(copying, "PAGE", 2)
    for name in "abcdef":
        await machine.change("add", name, url=URL)
    await second.registrar.refresh()
    await machine.change("set", "a", url="https://new.example/")  # second does not know: its row stands in another page
    compared = asyncio.create_task(second.registrar._compared())
    unknown: list[str] = []
    for each in "bcdef":
        await machine.change("set", each, url="https://new.example/")
        unknown += [name for name in "abcdef" if second.replica.merchant(name) is None]
    assert await compared is False
    assert unknown == []
    assert second.told[-1][0]["repairs"] == 0
    await second.registrar.refresh(forced=True)
    assert [second.url(name) for name in "abcdef"] == ["https://new.example/"] * 6
    assert second.told[-1][0]["repairs"] == 0


async def test_a_change_waits_for_a_page_of_a_comparison_and_not_for_all(machine: Machine, monkeypatch: Any) -> None:
    monkeypatch.setattr(copying, "PAGE", 1)
    for number in range(10):
        await machine.change("add", f"shop-{number}", url=URL)
    pages, second_page = 0, asyncio.Event()
    whole = merchants.whole

    async def counted(*arguments: Any) -> Any:
        nonlocal pages
        pages += 1
        if pages == 2:
            second_page.set()
        return await whole(*arguments)

    monkeypatch.setattr(merchants, "whole", counted)
    comparing = asyncio.create_task(machine.registrar.refresh(forced=True))
    async with asyncio.timeout(20):
        await second_page.wait()
    await machine.change("set", "shop-9", rate=1)
    assert not comparing.done()
    await comparing
    assert pages > 10
    assert machine.registrar.version == 11


async def test_the_first_comparison_comes_soon_after_the_start(
    machine: Machine, database: Database, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(module, "CHECK", 0.02)
    await machine.change("add", url=URL)
    restarted = Machine(database, tmp_path, "two")
    restarted.replica.open()
    await restarted.registrar.start()
    with contextlib.closing(sqlite3.connect(restarted.replica.path)) as connection, connection:
        connection.execute("UPDATE merchants SET body = '{}'")
    try:
        await restarted.word(repairs=1)
        assert restarted.url() == URL
    finally:
        await restarted.registrar.close()
        restarted.registry.close()


async def test_a_copy_of_another_registry_is_made_anew(machine: Machine, tmp_path: Path) -> None:
    for name in "abc":
        await machine.change("add", name, url=URL)
    await machine.registrar.close()
    url = f"sqlite:///{tmp_path}/other.db"
    await migrate(url)
    other = await Database.open(url)
    moved = Machine(other, tmp_path)
    for name in "bdef":
        await merchants.change(other, name, lambda row: merchants.Row("", 0, "{}", "enabled", None, None, 0))
    await moved.registrar.start()
    try:
        moved.registry.refresh(4)
        assert [moved.registry.get(name) is not None for name in "abcdef"] == [False, True, False, True, True, True]
    finally:
        await moved.registrar.close()
        moved.registry.close()
        await other.close()


async def test_a_database_that_was_set_back_is_followed(machine: Machine) -> None:
    await machine.change("add", "a", url=URL)
    await machine.change("add", "b", url=URL)
    assert (machine.url("a"), machine.url("b")) == (URL, URL)
    async with machine.database.begin() as connection:  # as a backup of the first moment would be
        await connection.exec_driver_sql("DELETE FROM merchants WHERE id = 'b'")
        await connection.exec_driver_sql("UPDATE registry_version SET version = 1")
    await machine.registrar.refresh()
    assert machine.told[-1][0] == {"version": 1, "stale_since": None, "repairs": 1}
    assert (machine.url("a"), machine.url("b")) == (URL, None)


async def test_a_damaged_copy_is_made_anew(machine: Machine) -> None:
    for number in range(50):
        await machine.change("add", f"shop-{number}", url=URL)
    machine.replica.close()
    pages = bytearray(machine.replica.path.read_bytes())
    pages[4096:] = b"\xff" * (len(pages) - 4096)
    machine.replica.path.write_bytes(bytes(pages))
    machine.replica._open_connection = sqlite3.connect(
        machine.replica.path, isolation_level=None, check_same_thread=False
    )
    await machine.registrar.refresh(forced=True)
    assert [machine.url(f"shop-{number}") for number in range(50)] == [URL] * 50


async def test_with_the_database_down_the_processes_begin_with_the_copy_as_it_is_and_are_told_so(
    machine: Machine, database: Database, tmp_path: Path, monkeypatch: Any
) -> None:
    await machine.change("add", url=URL)
    await machine.registrar.close()
    monkeypatch.setattr(module, "CHECK", 0.02)
    again = Machine(database, tmp_path)
    again.now, again.database.away = NOW + 3600, True
    await again.registrar.start()
    try:
        assert again.told[0] == ({"version": 1, "stale_since": "2027-01-15T08:00:00.000Z", "repairs": 0}, False)
        assert (again.registrar.stale_since, again.url()) == (int(NOW * 1000), URL)
        again.database.away = False
        await again.word(stale_since=None, version=1)
        assert again.registrar.stale_since is None
    finally:
        await again.registrar.close()
        again.registry.close()


async def test_without_a_copy_and_without_a_database_nobody_is_told_anything_until_it_is_back(
    database: Database, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(module, "URGENT", 0.02)
    machine = Machine(database, tmp_path)
    machine.database.away = True
    await machine.registrar.start()
    try:
        assert machine.told == []
        with pytest.raises(RegistryUnreadable):
            machine.registry.refresh()
        machine.database.away = False
        await machine.word(version=0, stale_since=None)
        assert machine.registry.refresh() is None
    finally:
        await machine.registrar.close()
        machine.registry.close()


async def test_a_database_that_goes_while_the_service_runs_is_told_once(machine: Machine, monkeypatch: Any) -> None:
    await machine.registrar.close()
    monkeypatch.setattr(module, "CHECK", 0.01)
    await machine.registrar.start()
    looks = 0
    counted = asyncio.Event()

    def refuse() -> None:
        nonlocal looks
        looks += 1
        if looks == 5:
            counted.set()
        raise DatabaseUnavailable("away")

    monkeypatch.setattr(machine.database, "_refuse", refuse)
    async with asyncio.timeout(20):
        await counted.wait()
    assert [word["stale_since"] for word, _ in machine.told].count("2027-01-15T08:00:00.000Z") == 1


async def test_a_cancellation_is_in_the_copy_before_it_is_answered(machine: Machine) -> None:
    live = await machine.registrar.cancel("ntf_1", 0, "taken back", int(NOW * 1000) + 1)
    assert (live["live"], live["of"], machine.fleet) == (2, 2, [(1, False)])
    registry = Registry(machine.replica.path.parent, clock=lambda: NOW)
    registry.refresh(1)
    assert (registry.cancelled("ntf_1", 0), registry.cancelled("ntf_1", 1)) == ("taken back", None)
    registry.close()
    machine.now = NOW + 1
    await machine.registrar.refresh(forced=True)
    assert await merchants.all_cancellations(machine.database, 0) == []
    assert machine.replica._connection.execute("SELECT count(*) FROM cancellations").fetchone() == (0,)


async def test_an_endpoint_that_is_gone_disables_its_merchant_once(machine: Machine) -> None:
    await machine.change("add", url=URL)
    at = int(NOW * 1000)
    assert await machine.registrar.gone("shop", URL, at, "answered 410 Gone")
    assert machine.told[-1][1] is True
    assert not await machine.registrar.gone("shop", URL, at, "answered 410 Gone")
    await machine.change("set", url="https://new.example/")
    machine.now += 1
    await machine.change("enable")
    assert not await machine.registrar.gone("shop", "https://new.example/", at, "answered 410 Gone")
    assert not await machine.registrar.gone("nobody", URL, at, "answered 410 Gone")
    rows = await merchants.standings(machine.database, ["shop", "nobody"], at)
    assert rows == {"shop": (Standing.ENABLED, "https://new.example/")}


async def test_a_copy_that_cannot_be_written_is_named_and_the_change_stands(machine: Machine) -> None:
    await machine.change("add", url=URL)
    lock = sqlite3.connect(machine.replica.path, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    try:
        live = (await machine.change("set", url="https://new.example/"))["live"]
    finally:
        lock.execute("ROLLBACK")
        lock.close()
    assert (live["live"], live["missing"]) == (0, ["one"])
    assert machine.url() == URL
    await machine.registrar.refresh()
    assert machine.url() == "https://new.example/"


async def test_whoever_waits_for_changes_is_woken(machine: Machine) -> None:
    machine.registrar.changed.clear()
    await machine.change("add", url=URL)
    assert machine.registrar.changed.is_set()
