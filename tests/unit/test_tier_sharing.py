"""What tier processes tell each other of a merchant: whatever crosses, all end with what the master took last."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from notifier.delivery import breaker
from notifier.delivery.breaker import Breakers, State
from notifier.delivery.delivery import DeliveryRoom
from notifier.domain.ladder import PRESETS
from notifier.errors import NoAnswer, RequestFailed
from notifier.processes.tier_sharing import COUNTS, TierSharing
from notifier.sections import Breaker
from notifier.supervision.actions import Reply
from notifier.supervision.child import Parent

Follower = Callable[[str, Any], Awaitable[None]]


class Master:
    """Takes one change after the other and has every process apply it before it answers. clock: Unix seconds."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0
        self.version = 0
        self.state: dict[str, Any] = {}
        self.processes: list[Process] = []
        self.delay: Callable[[], Awaitable[None]] = lambda: asyncio.sleep(0)
        self.refuses: list[Exception] = []
        self.waited = 0.0  # seconds, for one process that stands still
        self.stands_still = False
        self._order = asyncio.Lock()

    async def control(self, verb: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        await self.delay()
        if self.refuses:
            raise self.refuses.pop(0)
        if self.stands_still:
            self.waited += float(body.get("timeout", 5.0))  # as the master does
        async with self._order:
            value = None if verb == "clear" else body["value"]
            changed = self.state.get(body["key"]) != value
            self.version += 1
            answer = {"version": self.version}
            if value is None:
                self.state.pop(body["key"], None)
            else:
                self.state[body["key"]] = value
            for process in self.processes if changed else ():
                await self.delay()
                await process.apply(body["key"], value)
            for process in self.processes:
                process.version = self.version if not process.lags else process.version
        await self.delay()
        return answer


class Process:
    """A tier process: its breakers, what it tells, and its mirror of the master's state."""

    def __init__(self, master: Master, tier: str) -> None:
        self.state: dict[str, Any] = {}
        self.version = 0
        self.lags = False  # the master's news do not reach it for the time being
        self.draining = asyncio.Event()
        self._followers: list[tuple[str, Follower]] = []
        self.control = master.control
        self.replies: list[list[Reply]] = []
        self.asked: list[object] = []
        self.sharing = TierSharing(
            cast(Parent, self), f"tier:{tier}", tier, lambda: cast(DeliveryRoom, self.room), lambda: master.now
        )
        self.breakers = Breakers(
            Breaker(attempts=20), 15.0, self.sharing.breaker_changed, None, lambda: master.now, lambda: master.now
        )
        self.room = SimpleNamespace(breakers=self.breakers)
        master.processes.append(self)

    def on(self, action: str, handler: object) -> None:
        """It answers nobody here."""

    async def follow(self, follower: Follower, prefix: str) -> None:
        self._followers.append((prefix, follower))

    async def ask(self, to: str, action: str, data: object, timeout: float) -> Sequence[Reply]:
        assert (to, action) == ("tier", COUNTS)
        self.asked.append(data)
        return self.replies.pop(0)

    async def apply(self, key: str, value: Any) -> None:
        if self.lags:
            return
        self.state[key] = value
        for prefix, follower in self._followers:
            if key.startswith(prefix):
                await follower(key, value)

    @property
    def open(self) -> Mapping[str, State]:
        return self.breakers.open

    def attempt(self, *, acknowledged: bool) -> bool:
        """One, if it may be made; whether it was."""
        if self.breakers.pass_("m") is not None:
            return False
        self.breakers.attempted("m", acknowledged=acknowledged)
        return True


async def started(master: Master, *tiers: str) -> Sequence[Process]:
    processes = [Process(master, tier) for tier in tiers]
    for process in processes:
        await process.sharing.follow()
    return processes


async def settled(processes: Sequence[Process]) -> None:
    """All that anybody had to say is told."""
    async with asyncio.timeout(10):
        for process in itertools.chain(processes, processes):
            while (telling := process.sharing._telling) is not None and not telling.done():
                await telling


async def test_a_process_that_stands_still_does_not_keep_the_others_from_the_next_keys_for_long() -> None:
    master = Master()
    first, second = processes = await started(master, "1s", "2s")
    master.stands_still = True
    for number in range(10):
        first.breakers.judge(f"m{number}", 20, 20)
    await settled(processes)
    assert len(second.open) == 10
    assert master.waited <= 10


async def test_of_two_probes_at_one_moment_the_last_word_counts_for_all() -> None:
    """One fails and the other succeeds: all take the breaker for open, or all for closed, as its key says."""
    master = Master()
    first, second = processes = await started(master, "1s", "2s")
    for _ in range(20):
        first.attempt(acknowledged=False)
    await settled(processes)
    assert first.open == second.open == {"m": State.OPEN}
    master.now += 31
    assert second.breakers.pass_("m") is None
    assert first.breakers.pass_("m") is None, "both may probe before they have heard of each other"
    second.breakers.attempted("m", acknowledged=True)
    first.breakers.attempted("m", acknowledged=False)
    await settled(processes)
    by_the_key = {"m": State(master.state["breaker/m"]["state"])} if master.state else {}
    assert first.open == second.open == by_the_key


@pytest.mark.parametrize("seed", range(40))
async def test_whatever_crosses_all_end_with_what_the_key_says(seed: int) -> None:
    chance = random.Random(seed)
    master = Master()
    processes = await started(master, "1s", "2s", "3s")

    async def delay() -> None:
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)

    master.delay = delay
    master.refuses = [NoAnswer("busy")] if seed % 8 == 0 else []
    for _ in range(chance.randrange(40, 400)):
        chance.choice(processes).attempt(acknowledged=chance.random() < 0.1)
        master.now += chance.choice([0.0, 0.1, 1.0, 31.0])
        await delay()
    await settled(processes)
    said = master.state.get("breaker/m")
    for process in processes:
        assert process.open == ({"m": State(said["state"])} if said else {})


async def test_a_probe_is_this_process_s_own_until_another_says_otherwise() -> None:
    master = Master()
    first, second = processes = await started(master, "1s", "2s")
    for _ in range(20):
        first.attempt(acknowledged=False)
    await settled(processes)
    master.now += 31
    assert first.breakers.pass_("m") is None
    await settled(processes)  # its own word has come back to it
    assert second.open == {"m": State.HALF_OPEN}
    first.breakers.attempted("m", acknowledged=True)
    await settled(processes)
    assert (first.open, second.open, master.state) == ({}, {}, {})


async def test_an_answer_that_is_ahead_of_the_mirror_takes_nothing_back() -> None:
    master = Master()
    (process,) = processes = await started(master, "1s")
    for _ in range(20):
        process.attempt(acknowledged=False)
    await settled(processes)
    master.now += 31
    process.lags = True
    assert process.breakers.pass_("m") is None
    await settled(processes)
    assert process.open == {"m": State.HALF_OPEN}, "the mirror still says open"
    process.lags = False
    await process.apply("breaker/m", master.state["breaker/m"])
    process.breakers.attempted("m", acknowledged=True)
    assert process.open == {}, "the probe was its own"


async def test_a_breaker_that_cannot_be_told_stays_open_where_it_opened() -> None:
    master = Master()
    first, second = processes = await started(master, "1s", "2s")
    master.refuses = [RequestFailed("bad-key", "that is no key")]
    for _ in range(20):
        first.attempt(acknowledged=False)
    await settled(processes)
    assert (first.open, second.open) == ({"m": State.OPEN}, {})


def reply(tier: str, failed: int, of: int, over: float) -> Reply:
    return Reply(f"tier:{tier}", 1, "done", {"failed": failed, "of": of, "over": over})


@pytest.fixture
def no_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second look comes at once."""
    monkeypatch.setattr(breaker, "_DOUBT", 1e6)


async def test_who_fails_a_burst_of_first_attempts_and_acknowledges_the_second_ones_is_not_cut_off(
    no_doubt: None,
) -> None:
    """After an outage of ours all first attempts come at once, and the second ones only when they are due."""
    master = Master()
    (process,) = await started(master, "1s")
    for _ in range(19):
        process.attempt(acknowledged=False)
    process.replies = [[reply("2s", 1, 4, 60.0)], [reply("2s", 1, 20, 60.0)]]
    await process.sharing._ask_others("m")
    assert (process.open, process.replies) == ({}, [])
    process.replies = [[reply("2s", 1, 4, 60.0)], [reply("2s", 2, 5, 60.0)]]
    await process.sharing._ask_others("m")
    assert (process.open, process.replies) == ({"m": State.OPEN}, [])


async def test_one_callback_at_a_time_is_enough_until_the_others_have_answered(no_doubt: None) -> None:
    master = Master()
    (process,) = await started(master, "1s")
    process.breakers._suspected = process.sharing.suspected
    process.replies = [[reply("2s", 1, 20, 60.0)]]
    for _ in range(20):
        process.attempt(acknowledged=False)
    assert process.breakers.worth("m", 50) == 1
    (asking,) = process.sharing._asking.values()
    await asyncio.wait([asking])
    await asyncio.sleep(0)  # its end is heard of
    assert (process.open, process.breakers.worth("m", 50)) == ({}, 50)


async def test_who_acknowledges_nothing_at_all_is_cut_off_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "_DOUBT", 1e-6)
    master = Master()
    (process,) = await started(master, "1s")
    for _ in range(19):
        process.attempt(acknowledged=False)
    process.replies = [[reply("2s", 1, 1, 60.0)]]
    async with asyncio.timeout(10):
        await process.sharing._ask_others("m")
    assert process.open == {"m": State.OPEN}


def test_who_fails_is_doubted_for_longer_than_a_second_attempt_of_the_default_ladder_is_away() -> None:
    doubt = Breakers(Breaker(), 15.0, lambda merchant, value: None).doubt
    assert doubt == 5.0
    assert doubt > PRESETS["default"][1].seconds


GONE = Reply("tier:2s", 1, "gone", error="it died")


async def test_a_tier_that_does_not_answer_is_asked_again_and_not_for_ever(no_doubt: None) -> None:
    """Dead for good, it must not keep a breaker closed."""
    master = Master()
    (process,) = await started(master, "1s")
    for _ in range(19):
        process.attempt(acknowledged=False)
    process.replies = [[GONE, reply("3s", 1, 1, 60.0)] for _ in range(5)]
    await process.sharing._ask_others("m")
    assert (process.open, process.replies) == ({"m": State.OPEN}, [])


async def test_who_acknowledges_in_a_tier_that_stood_still_is_not_cut_off(no_doubt: None) -> None:
    """Twice within a window: what it would have said is missed each time, not once."""
    master = Master()
    (process,) = await started(master, "1s")
    for _ in range(19):
        process.attempt(acknowledged=False)
    for _ in range(2):
        process.replies = [[GONE, reply("3s", 1, 1, 60.0)] for _ in range(2)]
        process.replies.append([reply("2s", 0, 9, 60.0), reply("3s", 1, 1, 60.0)])
        await process.sharing._ask_others("m")
        assert (process.open, process.replies) == ({}, [])


async def test_who_is_asked_about_is_not_asked_about_twice_at_once() -> None:
    master = Master()
    (process,) = await started(master, "1s")
    for _ in range(19):
        process.attempt(acknowledged=False)
    process.replies = [[reply("2s", 1, 1, 60.0)]]
    for _ in range(3):
        process.sharing.suspected("m")
    await asyncio.gather(*process.sharing._asking.values())
    assert (process.open, len(process.asked), process.sharing._asking) == ({"m": State.OPEN}, 1, {})


async def test_what_a_tier_has_forgotten_is_asked_of_nobody_else() -> None:
    """It succeeds with each third attempt, and the third tier was just started."""
    master = Master()
    (process,) = await started(master, "1s")
    master.now += 60
    for _ in range(19):
        process.attempt(acknowledged=False)
    master.now += 6
    process.replies = [
        [reply("2s", 19, 19, 60.0), reply("3s", 0, 1, 4.0)],
        [reply("2s", 2, 2, 60.0), reply("3s", 0, 1, 4.0)],
    ]
    await process.sharing._ask_others("m")
    assert process.open == {}
    assert process.asked == [{"merchant": "m"}, {"merchant": "m", "over": 4.0}]
