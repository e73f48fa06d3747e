"""The registry in the database: versions in the order of commit, whole transactions, and queries that know the time."""

from __future__ import annotations

import asyncio

import pytest

from notifier.domain.merchant import Standing
from notifier.errors import Conflict
from notifier.ledger import merchants
from notifier.ledger.database import Database
from notifier.ledger.merchants import Alter, Cancellation, Row

NOW = 1_000_000


def to(body: str | None = "{}", standing: str = "enabled", until: int | None = None, url: str | None = None) -> Alter:
    def alter(row: Row | None) -> Row:
        return Row("ignored", 0, body, standing, until, url, NOW)

    return alter


async def test_a_registry_that_never_changed_is_named_by_the_first_who_asks(database: Database) -> None:
    assert await merchants.get(database, "a") is None
    assert await merchants.changed_since(database, 0) == merchants.Changes([], [], 0, more=False)
    stands = await asyncio.gather(*(merchants.stand(database) for _ in range(5)))
    assert [version for _, version in stands] == [0] * 5
    assert len({origin for origin, _ in stands}) == 1
    await merchants.change(database, "a", to())
    assert await merchants.stand(database) == (stands[0][0], 1)


async def test_each_change_raises_the_version_and_the_row_bears_it(database: Database) -> None:
    first = await merchants.change(database, "a", to("1", url="https://a.example/"))
    origin, version = await merchants.stand(database)
    second = await merchants.change(database, "b", to("2"))
    third = await merchants.change(database, "a", to("3"))
    assert [row.version for row in (first, second, third)] == [1, 2, 3]
    assert (version, await merchants.stand(database)) == (1, (origin, 3))
    assert len(origin) == 36
    assert await merchants.get(database, "a") == Row("a", 3, "3", "enabled", None, None, NOW) == third


async def test_what_is_altered_is_what_there_is(database: Database) -> None:
    seen: list[Row | None] = []

    def alter(row: Row | None) -> Row:
        seen.append(row)
        return to("1")(row)

    kept = await merchants.change(database, "a", alter)
    await merchants.change(database, "a", alter)
    assert seen == [None, kept]


async def test_a_change_that_is_refused_leaves_neither_row_nor_version(database: Database) -> None:
    await merchants.change(database, "a", to("1"))

    def refuse(row: Row | None) -> Row:
        raise Conflict("no")

    with pytest.raises(Conflict, match="no"):
        await merchants.change(database, "a", refuse)
    assert (await merchants.stand(database))[1] == 1
    assert (await merchants.change(database, "b", to())).version == 2


async def test_changes_at_the_same_time_come_one_after_the_other_and_lose_nothing(database: Database) -> None:
    def one_more(row: Row | None) -> Row:
        return to(str(int(row.body or 0) + 1 if row else 1))(row)

    rows = await asyncio.gather(*(merchants.change(database, "counter", one_more) for _ in range(20)))
    assert sorted(row.version for row in rows) == list(range(1, 21))
    final = await merchants.get(database, "counter")
    assert final is not None
    assert (final.body, final.version) == ("20", 20)


async def test_what_changed_is_read_in_the_order_of_versions_page_by_page(database: Database) -> None:
    for name in ("c", "a", "b", "c"):
        await merchants.change(database, name, to(name))
    await merchants.cancel(database, "n", 0, "why", NOW + 1)
    first = await merchants.changed_since(database, 0, limit=2)
    assert ([row.id for row in first.merchants], first.reached, first.more) == (["a", "b"], 3, True)
    rest = await merchants.changed_since(database, first.reached, limit=2)
    assert ([row.id for row in rest.merchants], rest.reached, rest.more) == (["c"], 5, False)
    assert await merchants.changed_since(database, 5) == merchants.Changes([], [], 5, more=False)


async def test_a_removed_merchant_is_told_to_copies_and_shown_to_nobody(database: Database) -> None:
    await merchants.change(database, "a", to("1"))
    await merchants.change(database, "a", to(None, "disabled"))
    assert [row.body for row in (await merchants.changed_since(database, 1)).merchants] == [None]
    assert [row.id for row in await merchants.whole(database, 0, 10)] == ["a"]
    assert (await merchants.page(database), await merchants.count(database)) == ([], 0)
    assert await merchants.standings(database, ["a"], NOW) == {}


async def test_pages_go_by_id_and_know_which_blocks_are_over(database: Database) -> None:
    await merchants.change(database, "a", to(url="https://ONE.example/"))
    await merchants.change(database, "b", to(standing="blocked", until=NOW))
    await merchants.change(database, "c", to(standing="blocked", until=NOW + 1))
    await merchants.change(database, "d", to(standing="blocked"))
    await merchants.change(database, "e_e", to(standing="disabled"))

    async def ids(standing: Standing | None = None, text: str | None = None, after: str = "") -> str:
        found = await merchants.page(database, standing=standing, text=text, after=after, now_ms=NOW, limit=4)
        return "".join(row.id[0] for row in found)

    assert (await ids(), await ids(after="d")) == ("abcd", "e")
    assert await ids(Standing.ENABLED) == "ab"
    assert await ids(Standing.BLOCKED) == "cd"
    assert await ids(Standing.DISABLED) == "e"
    assert (await ids(text="one.EX"), await ids(text="_"), await ids(text="%")) == ("a", "e", "")
    counts = [await merchants.count(database, standing, NOW) for standing in (None, *Standing)]
    assert counts == [5, 2, 1, 2]


async def test_the_standing_of_many_is_asked_at_once(database: Database) -> None:
    await merchants.change(database, "a", to(url="https://a.example/"))
    await merchants.change(database, "b", to(standing="blocked", until=NOW))
    await merchants.change(database, "c", to(standing="blocked", until=NOW + 1))
    wanted = [*"abc", *(f"nobody-{number}" for number in range(1200))]
    assert sorted(row.id for row in await merchants.some(database, wanted)) == ["a", "b", "c"]
    assert await merchants.standings(database, wanted, NOW) == {
        "a": (Standing.ENABLED, "https://a.example/"),
        "b": (Standing.ENABLED, None),
        "c": (Standing.BLOCKED, None),
    }


async def test_a_cancellation_is_a_change_too_and_the_greater_run_and_later_end_count(database: Database) -> None:
    await merchants.change(database, "a", to())
    assert await merchants.cancel(database, "n", 2, "first", NOW + 9) == Cancellation("n", 2, 2, "first", NOW + 9)
    again = await merchants.cancel(database, "n", 1, "again", NOW + 5)
    assert again == Cancellation("n", 3, 2, "again", NOW + 9)
    assert (await merchants.changed_since(database, 1)).cancellations == [again]
    assert await merchants.all_cancellations(database, NOW) == [again]


async def test_cancellations_are_forgotten_when_nothing_can_be_on_its_way(database: Database) -> None:
    await merchants.cancel(database, "old", 0, None, NOW)
    await merchants.cancel(database, "new", 0, None, NOW + 1)
    assert [each.notification for each in await merchants.all_cancellations(database, NOW)] == ["new"]
    assert await merchants.forget_cancellations(database, NOW) == 1
    assert (await merchants.stand(database))[1] == 2
