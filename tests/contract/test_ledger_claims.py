"""Idempotency keys and tokens in the database: one owner at a time, whoever asks and from wherever."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest

from notifier.api.once import Keyed, Once, Reply
from notifier.api.problems import Problem
from notifier.errors import InvalidInput, NotFound
from notifier.ledger import claims, tokens
from notifier.ledger.claims import LEASE, LIFE, Answered, Busy, Mine
from notifier.ledger.database import Database

NOW = 1_763_700_000_000


async def test_of_many_who_claim_a_key_at_once_one_gets_it(database: Database) -> None:
    found = await asyncio.gather(*(claims.take(database, "me", "key", "digest", [f"id-{n}"], NOW) for n in range(20)))
    assert Counter(type(each) for each in found) == {Mine: 1, Busy: 19}


async def test_what_was_answered_is_answered_again_for_a_day(database: Database) -> None:
    await claims.take(database, "me", "key", "digest", ["a", None], NOW)
    await claims.answer(database, "me", "key", 202, '{"id":"a"}')
    assert await claims.take(database, "me", "key", "digest", ["b", None], NOW + LIFE - 1) == Answered(
        202, '{"id":"a"}'
    )
    assert await claims.take(database, "me", "key", "digest", ["b", None], NOW + LIFE) == Mine(["b", None])


async def test_another_request_and_another_scope_are_told_apart(database: Database) -> None:
    await claims.take(database, "me", "key", "digest", ["a"], NOW)
    with pytest.raises(InvalidInput, match="needs a new key"):
        await claims.take(database, "me", "key", "other", ["b"], NOW)
    assert await claims.take(database, "you", "key", "other", ["b"], NOW) == Mine(["b"])


async def test_an_abandoned_claim_is_taken_over_by_one_with_its_first_ids(database: Database) -> None:
    await claims.take(database, "me", "key", "digest", ["first", None], NOW)
    assert await claims.take(database, "me", "key", "digest", ["x", None], NOW + LEASE - 1) == Busy()
    found = await asyncio.gather(
        *(claims.take(database, "me", "key", "digest", ["x", None], NOW + LEASE) for _ in range(10))
    )
    assert sorted(map(repr, found)) == sorted([repr(Mine(["first", None])), *[repr(Busy())] * 9])


async def test_a_claim_that_was_given_up_is_free_at_once_but_an_answered_one_is_not(database: Database) -> None:
    await claims.take(database, "me", "key", "digest", ["first"], NOW)
    await claims.give_up(database, "me", "key")
    assert await claims.take(database, "me", "key", "digest", ["x"], NOW) == Mine(["first"])
    await claims.answer(database, "me", "key", 202, "{}")
    await claims.give_up(database, "me", "key")
    assert await claims.take(database, "me", "key", "digest", ["x"], NOW) == Answered(202, "{}")


async def test_two_processes_do_the_work_of_one_request_once(database: Database) -> None:
    worked: list[Sequence[str | None]] = []

    async def work(ids: Sequence[str | None]) -> tuple[int, str]:
        worked.append(ids)
        await asyncio.sleep(0)
        return 202, "done"

    keyed = Keyed("me", "key", "digest")
    processes = Once(), Once()
    replies = await asyncio.gather(*(processes[n % 2].run(database, keyed, [f"id-{n}"], work) for n in range(20)))
    assert len(worked) == 1
    assert Counter(replies) == {Reply(202, "done", again=False): 1, Reply(202, "done", again=True): 19}


async def test_a_failure_is_told_to_all_doubles_and_the_next_one_works_under_the_same_ids(database: Database) -> None:
    worked: list[Sequence[str | None]] = []

    async def fails(ids: Sequence[str | None]) -> tuple[int, str]:
        worked.append(ids)
        raise Problem("unavailable", "not now")

    async def works(ids: Sequence[str | None]) -> tuple[int, str]:
        worked.append(ids)
        return 202, "done"

    once, keyed = Once(), Keyed("me", "key", "digest")
    failed = await asyncio.gather(
        *(once.run(database, keyed, [f"id-{n}"], fails) for n in range(5)), return_exceptions=True
    )
    assert [str(each) for each in failed] == ["not now"] * 5
    assert await once.run(database, keyed, ["another"], works) == Reply(202, "done", again=False)
    assert worked == [["id-0"], ["id-0"]]


async def test_a_token_is_found_by_its_digest_and_kept_nowhere(database: Database) -> None:
    token_id, token = await tokens.add(database, role="merchant", merchant="shop-7", note="a test", now_ms=NOW)
    found = await tokens.find(database, digest=tokens.digest_of(token))
    assert found == await tokens.find(database, token_id=token_id)
    assert found is not None
    assert (found.id, found.role, found.merchant, found.note) == (token_id, "merchant", "shop-7", "a test")
    assert token not in repr(await tokens.list_tokens(database))
    await tokens.remove(database, token_id)
    assert await tokens.find(database, digest=tokens.digest_of(token)) is None
    with pytest.raises(NotFound, match=token_id):
        await tokens.remove(database, token_id)


@pytest.mark.parametrize(
    ("role", "merchant", "note", "said"),
    [
        ("admin", None, None, "possible are read, write, merchant"),
        ("merchant", None, None, "names its merchant"),
        ("read", "shop-7", None, "names its merchant"),
        ("merchant", " ", None, "merchant id"),
        ("read", None, "x" * 201, "200 printable"),
        ("read", None, "a\nb", "200 printable"),
    ],
)
async def test_a_token_that_means_nothing_is_not_made(
    database: Database, role: str, merchant: str | None, note: str | None, said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        await tokens.add(database, role=role, merchant=merchant, note=note, now_ms=NOW)
