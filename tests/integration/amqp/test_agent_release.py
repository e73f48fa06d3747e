"""What is held goes on when its reason is gone: a real broker, a real SQLite."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from ledgers import attempts, decoded, held, notification, row, rows
from queues import Bench
from releasing import Stage, staged

from notifier.agent import allowance
from notifier.agent import release as releasing_rounds
from notifier.agent.pace import Pace
from notifier.agent.release import CALM, GRACE_MS
from notifier.agent.unbroken import Unbroken
from notifier.broker.topology import Topology
from notifier.domain import wire
from notifier.domain.decision import HoldReason, NextTier
from notifier.domain.fact import Fact, Kind
from notifier.domain.ladder import Ladder
from notifier.domain.merchant import Standing
from notifier.domain.tier import Tier
from notifier.errors import DatabaseUnavailable
from notifier.ledger import holding
from notifier.ledger.writing import BadFact


@pytest.fixture
async def stage(broker: Any, bench: Bench, topology: Topology, declared: None, ledger_url: str) -> AsyncIterator[Stage]:
    async with staged(broker.url, bench, topology, ledger_url) as stage:
        yield stage


@pytest.mark.parametrize("ledger_url", ["sqlite", "postgresql"], indirect=True)
async def test_what_is_held_for_a_merchant_that_is_enabled_again_goes_on_where_it_was(stage: Stage) -> None:
    climbing = notification("n1", step=1, attempt=2, ladder=Ladder.parse("1s,5s"), reference="order-7")
    await stage.becomes("m1", Standing.DISABLED)
    await stage.store(*held(climbing, HoldReason.DISABLED, Tier(5)))
    assert await stage.release.round() == 0, "not while it is disabled"
    await stage.becomes("m1", Standing.ENABLED)
    assert await stage.release.round() == 1
    came = await stage.next_in(Tier(5))
    assert (came.id, came.step, came.attempt, came.run) == ("n1", 1, 2, 1)
    assert (came.payload, came.reference, came.ladder) == (climbing.payload, "order-7", climbing.ladder)
    assert came.due_at == pytest.approx(time.time() * 1000, abs=5000)
    assert came.enqueued_at == climbing.enqueued_at
    now = await row(stage.database, "n1")
    assert (now["status"], now["run"]) == ("accepted", 1)
    (event,) = await rows(stage.database, "SELECT * FROM events WHERE kind = 'released'")
    assert (event["notification"], event["run"]) == ("n1", 1)
    assert await stage.release.round() == 0, "it is released once"


async def test_a_block_that_ends_by_itself_lets_go(stage: Stage) -> None:
    await stage.becomes("m1", Standing.BLOCKED, until=int(stage.now[0] * 1000) + 60_000)
    await stage.store(*held(notification("n1")))
    assert await stage.release.round() == 0
    stage.now[0] += 61
    stage.known["m1"] = replace(stage.known["m1"], standing=Standing.ENABLED, until=None)  # as it is read from then on
    assert await stage.release.round() == 1


async def test_a_merchant_that_is_registered_gets_what_was_held_for_it(stage: Stage) -> None:
    await stage.store(*held(notification("n1", "stranger"), HoldReason.UNKNOWN_MERCHANT))
    assert await stage.release.round() == 0
    await stage.becomes("stranger", Standing.ENABLED)
    assert await stage.release.round() == 1
    assert (await stage.next_in(Tier(1))).merchant == "stranger"


async def test_a_notification_with_a_url_of_its_own_needs_no_registered_merchant(stage: Stage) -> None:
    await stage.store(*held(notification("n1", url="http://127.0.0.1/own")))
    assert await stage.release.round() == 1
    assert (await stage.next_in(Tier(1))).url == "http://127.0.0.1/own"


async def test_an_override_of_this_machine_keeps_it_held(stage: Stage) -> None:
    await stage.becomes("m1", Standing.ENABLED)
    stage.overrides.add("m1")
    await stage.store(*held(notification("n1")))
    assert await stage.release.round() == 0
    stage.overrides.clear()
    assert await stage.release.round() == 1


async def test_a_fact_that_arrives_after_the_merchant_was_enabled_is_released_too(stage: Stage) -> None:
    await stage.becomes("m1", Standing.BLOCKED)
    await stage.store(*held(notification("early")))
    await stage.becomes("m1", Standing.ENABLED)
    assert await stage.release.round() == 1
    await stage.store(*held(notification("late")))
    assert await stage.release.round() == 1


@pytest.mark.parametrize("reason", HoldReason)
async def test_whatever_it_was_held_for_goes_on_once_the_merchant_may_be_called(
    stage: Stage, reason: HoldReason
) -> None:
    await stage.becomes("m1", Standing.ENABLED)
    await stage.store(*held(notification("n1"), reason))
    assert await stage.release.round() == 1
    assert (await stage.next_in(Tier(1))).released == pytest.approx(stage.now[0] * 1000, abs=5000)


async def test_what_is_held_again_at_once_rests_longer_each_time(stage: Stage) -> None:
    await stage.becomes("m1", Standing.ENABLED)
    waiting = notification("n1")
    for run, seconds in enumerate((4, 8, 16)):
        await stage.store(*held(replace(waiting, run=run)))
        assert await stage.release.round() == 1
        came = await stage.next_in(Tier(1))
        await stage.store(*held(came))
        stage.now[0] += seconds - 0.5
        assert await stage.release.round() == 0, f"not within {seconds} s"
        stage.now[0] += 1


async def test_what_is_held_for_the_users_own_callback_needs_no_url(stage: Stage) -> None:
    stage.release._needs_url = False
    stage.overrides.add("m1")
    await stage.store(*held(notification("n1")))
    assert await stage.release.round() == 0
    stage.overrides.clear()
    assert await stage.release.round() == 1
    assert (await stage.next_in(Tier(1))).id == "n1"


async def test_a_replay_of_a_delivered_one_that_is_held_goes_on(stage: Stage) -> None:
    await stage.becomes("m1", Standing.DISABLED)
    first = notification("n1")
    await stage.store(*attempts(first), *held(replace(first, run=1), HoldReason.DISABLED))
    assert await stage.release.round() == 0
    await stage.becomes("m1", Standing.ENABLED)
    assert await stage.release.round() == 1
    assert (await stage.next_in(Tier(1))).run == 2
    assert await holding.count(stage.database) == 0


async def test_one_that_cannot_go_on_hinders_no_other_and_ends_at_its_deadline(stage: Stage) -> None:
    await stage.becomes("m1", Standing.ENABLED)
    names = [f"n{number}" for number in range(5)]
    for name in names:
        run = wire.MOST_RUN if name == "n2" else 0
        await stage.store(*held(notification(name, run=run, ladder=Ladder.parse("1s"))))
    assert await stage.release.round() == 4
    for _ in range(3):
        stage.now[0] += 700
        assert await stage.release.round() == 0, "each is published once"
    assert await stage.bench.ready(stage.topology.work_queue(Tier(1))) == 4
    stage.now[0] += GRACE_MS / 1000
    assert await stage.release.end_overdue() == 1
    assert (await row(stage.database, "n2"))["status"] == "exhausted"


async def test_a_fact_that_the_ledger_refuses_keeps_no_other_from_being_marked(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.becomes("m1", Standing.ENABLED)
    for number in range(5):
        await stage.store(*held(notification(f"n{number}")))
    write = stage.writer.write

    async def refuses(facts: Any) -> object:
        if any(fact["notification"] == "n2" for fact in facts):
            raise BadFact("not this one")
        return await write(facts)

    monkeypatch.setattr(stage.writer, "write", refuses)
    assert await stage.release.round() == 5
    released = await rows(stage.database, "SELECT notification FROM events WHERE kind = 'released'")
    assert sorted(each["notification"] for each in released) == ["n0", "n1", "n3", "n4"]
    (fact,) = await stage.bench.facts(stage.topology.ledger, 1)
    assert (fact["kind"], fact["notification"]) == ("released", "n2"), "where people find what cannot be stored"


async def test_what_cannot_go_on_takes_nothing_of_the_rate(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releasing_rounds, "ROUND", 60.0)  # it does not end by itself
    for merchant in ("bad", "good"):
        await stage.becomes(merchant, Standing.ENABLED)
    for number in range(40):
        told = held(notification(f"bad-{number}", "bad"))
        await stage.store(*(fact | {"headers": {**fact["headers"], "step": "two"}} for fact in told))
    await stage.store(*(fact for number in range(5) for fact in held(notification(f"good-{number}", "good"))))
    stage.release._pace = Pace(20, clock=lambda: 1.0)  # five, and no more ever: that clock stands still
    releasing = asyncio.create_task(stage.release.round())
    came = await stage.bench.take(stage.topology.work_queue(Tier(1)), 5, timeout=20)
    assert {wire.read(message).merchant for message in came} == {"good"}
    releasing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await releasing


async def test_an_agent_that_lost_its_lease_releases_and_ends_nothing(stage: Stage) -> None:
    await stage.becomes("m1", Standing.ENABLED)
    await stage.store(*held(notification("n1", ladder=Ladder.parse("1s"))))
    stage.release._holds = lambda: False
    assert await stage.release.round() == 0
    stage.now[0] += GRACE_MS / 1000 + 60
    assert await stage.release.end_overdue() == 0
    assert (await row(stage.database, "n1"))["status"] == "held"
    stage.release._holds = lambda: True
    assert await stage.release.end_overdue() == 1


async def test_a_work_queue_that_was_deleted_is_declared_again(stage: Stage, deleting: Any) -> None:
    await stage.becomes("m1", Standing.ENABLED)
    await stage.store(*held(notification("n1")))
    await deleting.queue_delete(stage.topology.work_queue(Tier(1)))
    assert await stage.release.round() == 0
    stage.now[0] += 5
    assert await stage.release.round() == 1
    assert (await stage.next_in(Tier(1))).id == "n1"


async def released(stage: Stage, count: int) -> int:
    """Go on until so many are: one round ends after a second, so that others take their turn."""
    done = 0
    while done < count:
        some = await stage.release.round()
        assert some
        done += some
    return done


@pytest.mark.parametrize("ledger_url", ["sqlite", "postgresql"], indirect=True)
async def test_a_thousand_of_many_merchants_are_all_released_once(stage: Stage) -> None:
    names = [f"n{number}" for number in range(1000)]
    await stage.store(
        *(fact for number, name in enumerate(names) for fact in held(notification(name, f"m{number % 7}")))
    )
    for number in range(7):
        await stage.becomes(f"m{number}", Standing.ENABLED)
    assert await released(stage, 1000) == 1000
    came = await stage.bench.take(stage.topology.work_queue(Tier(1)), 1000, timeout=30)
    assert sorted(wire.read(message).id for message in came) == sorted(names)
    assert await holding.count(stage.database) == 0


async def test_the_rate_bounds_what_is_released_and_every_merchant_has_its_turn(stage: Stage) -> None:
    for merchant in ("many", "few"):
        await stage.becomes(merchant, Standing.ENABLED)
    await stage.store(*(fact for number in range(100) for fact in held(notification(f"many-{number:03}", "many"))))
    await stage.store(*held(notification("few-1", "few")))
    stage.release._pace = Pace(40)
    began = time.monotonic()
    releasing = asyncio.create_task(released(stage, 101))
    came = [wire.read(each).merchant for each in await stage.bench.take(stage.topology.work_queue(Tier(1)), 101)]
    assert await releasing == 101
    assert time.monotonic() - began >= (101 - 10) / 40 - 0.1
    assert "few" in came[:30], "not after all of the other's"


async def test_a_death_between_publish_and_mark_releases_it_again_later(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.becomes("m1", Standing.ENABLED)
    await stage.store(*held(notification("n1")))
    with monkeypatch.context() as dying:

        async def dies(facts: object) -> None:
            raise asyncio.CancelledError

        dying.setattr(stage.release._marker, "mark", dies)
        with pytest.raises(asyncio.CancelledError):
            await stage.release.round()
    assert (await stage.next_in(Tier(1))).run == 1
    assert await stage.release.round() == 0, "it may be on its way"
    stage.now[0] += 5
    assert await stage.release.round() == 1
    assert (await stage.next_in(Tier(1))).run == 1


async def test_a_database_that_goes_away_after_the_publish_is_told_through_the_broker(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.becomes("m1", Standing.ENABLED)
    await stage.store(*held(notification("n1")))
    with monkeypatch.context() as away:

        async def down(facts: object) -> None:
            raise DatabaseUnavailable("it is locked")

        away.setattr(stage.writer, "write", down)
        assert await stage.release.round() == 1
    (fact,) = await stage.bench.facts(stage.topology.ledger, 1)
    assert (fact["kind"], fact["notification"], fact["run"]) == ("released", "n1", 1)


@pytest.mark.parametrize("ledger_url", ["sqlite", "postgresql"], indirect=True)
async def test_two_agents_at_once_release_each_only_once(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await stage.becomes("m1", Standing.ENABLED)
    await stage.store(*(fact for number in range(200) for fact in held(notification(f"n{number}"))))
    monkeypatch.setattr(releasing_rounds, "ROUND", 60.0)  # none ends early for lack of time
    counts = await asyncio.gather(stage.release.round(), stage.release.round())
    assert sum(counts) == 200
    assert await stage.bench.ready(stage.topology.work_queue(Tier(1))) == 200


async def test_what_is_held_beyond_its_ladder_and_a_day_is_exhausted_with_the_reason(stage: Stage) -> None:
    await stage.becomes("m1", Standing.DISABLED)
    waiting = notification("n1", ladder=Ladder.parse("1s,5s"))
    await stage.store(*held(waiting, HoldReason.DISABLED))
    await stage.store(*held(notification("long", ladder=Ladder.parse("1d")), HoldReason.DISABLED))
    stage.now[0] += GRACE_MS / 1000 + 5
    assert await stage.release.end_overdue() == 0
    stage.now[0] += 2
    assert await stage.release.end_overdue() == 1
    now = await row(stage.database, "n1")
    assert (now["status"], now["reason"]) == ("exhausted", "disabled")
    assert (await row(stage.database, "long"))["status"] == "held"
    (event,) = await rows(stage.database, "SELECT * FROM events WHERE kind = 'exhausted'")
    assert "held for longer than its ladder and 24 h" in event["detail"]
    assert await stage.release.end_overdue() == 0


async def test_after_a_stop_of_more_than_a_day_what_may_go_on_goes_and_nothing_ends_for_an_hour(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, steady = stage.release, [0.0]
    monkeypatch.setattr(release, "_calm", CALM)
    monkeypatch.setattr(release, "_rounds", Unbroken(lambda: stage.now[0], lambda: steady[0]))
    await stage.becomes("well", Standing.ENABLED)
    await stage.becomes("off", Standing.DISABLED)
    for merchant in ("well", "off"):
        await stage.store(*held(notification(merchant, merchant, ladder=Ladder.parse("1s")), HoldReason.DISABLED))
    stage.now[0] += GRACE_MS / 1000 + 3600
    assert await release.end_overdue() == 0, "no round yet"
    assert await release.round() == 1
    for _ in range(int(CALM / 30)):
        assert await release.end_overdue() == 0
        stage.now[0], steady[0] = stage.now[0] + 30, steady[0] + 30
        await release.round()
    assert await release.end_overdue() == 1
    assert (await row(stage.database, "off"))["status"] == "exhausted"


async def test_whom_a_round_had_no_time_for_is_first_in_the_next_one(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much is held for those whose names come before its own."""
    names = [f"m{number}" for number in range(8)]
    for name in names:
        await stage.becomes(name, Standing.ENABLED)
        await stage.store(*(fact for number in range(3) for fact in held(notification(f"{name}-{number}", name))))
    for module in (releasing_rounds, allowance):
        monkeypatch.setattr(module, "PIECE", 1)
    looks = count()
    monkeypatch.setattr(stage.release, "_steady", lambda: next(looks))  # each look at the clock takes a second
    monkeypatch.setattr(releasing_rounds, "ROUND", 4.5)  # one look at its begin, two for each piece
    for _ in range(4):
        assert await stage.release.round() > 0
    came = await stage.bench.take(stage.topology.work_queue(Tier(1)), 8)
    assert {wire.read(message).merchant for message in came} == set(names)


async def test_a_replay_gives_what_is_held_a_new_deadline(stage: Stage) -> None:
    await stage.becomes("m1", Standing.DISABLED)
    waiting = notification("n1", ladder=Ladder.parse("1s"))
    await stage.store(*held(waiting, HoldReason.DISABLED))
    (ago,) = await rows(stage.database, "SELECT at FROM events WHERE kind = 'held'")
    later = ago["at"] + 23 * 3_600_000
    again = Fact(Kind.REPLAYED, "n1", 1, later, {"merchant": "m1", "tier": "1s", "who": "me"})
    (held_again,) = held(replace(waiting, run=1), HoldReason.DISABLED)
    await stage.store(*decoded(again), held_again | {"at": later + 1000})
    stage.now[0] = ago["at"] / 1000 + 30 * 3600
    assert await stage.release.end_overdue() == 0
    stage.now[0] = later / 1000 + 25 * 3600
    assert await stage.release.end_overdue() == 1


async def test_what_climbed_on_after_a_release_is_let_alone(stage: Stage) -> None:
    await stage.becomes("m1", Standing.ENABLED)
    await stage.store(*held(notification("n1")))
    assert await stage.release.round() == 1
    came = await stage.next_in(Tier(1))
    failed = attempts(came, NextTier(Tier(5), came.step + 1))
    await stage.store(*failed)
    assert (await row(stage.database, "n1"))["status"] == "attempted"
    stage.now[0] += 3600
    assert await stage.release.round() == 0
