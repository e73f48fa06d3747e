"""Turns: who may be called back now, who waits, and who has no room, merchant by merchant."""

from __future__ import annotations

import asyncio

import pytest

from notifier.delivery import turns
from notifier.delivery.inflow import FADES
from notifier.delivery.lane import SLOW, Refused, Turn
from notifier.delivery.turns import Turns

Asked = asyncio.Task[Turn | Refused]


class Stage:
    """Turns with a clock of their own. in_hand counts what was asked for and is not over."""

    def __init__(self, prefetch: int = 200, share: float = 0.25, *, patient: bool = False) -> None:
        self.now = 1000.0
        self.overflowed: list[str] = []
        self.asked: list[Asked] = []
        self.others = 0
        self.turns = Turns(
            self.in_hand, prefetch, share, self.overflowed.append, patient=patient, clock=lambda: self.now
        )

    def in_hand(self) -> int:
        refused = sum(1 for one in self.asked if one.done() and not one.cancelled() and one.result() in set(Refused))
        return self.others + len(self.asked) - refused

    async def ask(
        self, merchant: str = "m", most: int | None = None, rate: float | None = None, *, released: bool = False
    ) -> Asked:
        asked: Asked = asyncio.create_task(self.turns.mine(merchant, most, rate, released=released))
        self.asked.append(asked)
        await asyncio.sleep(0)
        return asked

    async def many(self, count: int, merchant: str = "m", most: int | None = None) -> list[Asked]:
        return [await self.ask(merchant, most) for _ in range(count)]

    async def over(self, asked: Asked) -> None:
        turn = asked.result()
        assert isinstance(turn, Turn)
        self.asked.remove(asked)
        self.turns.over(turn)
        await asyncio.sleep(0)

    async def look(self) -> None:
        """What the timer does."""
        self.turns.limit(self.turns.most)
        await asyncio.sleep(0)


def state(asked: list[Asked]) -> str:
    signs = {Refused.AWAY: "0", Refused.NO_ROOM: "x"}
    return "".join(
        "-" if not one.done() else "c" if one.cancelled() else signs.get(one.result(), "1")  # type: ignore[arg-type]
        for one in asked
    )


async def test_without_a_bound_everyone_has_a_turn_at_once() -> None:
    assert state(await Stage().many(40)) == "1" * 40


async def test_until_it_has_proved_quick_a_merchant_runs_no_more_than_a_share_of_what_is_free() -> None:
    stage = Stage()
    asked = await stage.many(150)
    assert state(asked) == "1" * 40 + "-" * 110, "40 is a quarter of the 160 that are free then"
    stage.now += 0.01
    await stage.over(asked.pop(0))
    assert state(asked) == "1" * 100 + "-" * 49, "a quick one may run half of all"


async def test_a_burst_to_many_that_begin_to_hang_leaves_turns_for_others() -> None:
    stage = Stage()
    for number in range(10):
        (once,) = await stage.many(1, f"hangs-{number}")
        stage.now += 0.01
        await stage.over(once)
    hanging = [await stage.many(20, f"hangs-{number}", most=20) for number in range(10)]
    assert sum(state(each).count("1") for each in hanging) <= 190
    assert state([await stage.ask("other")]) == "1"


async def test_beyond_the_bound_they_wait_in_their_order() -> None:
    stage = Stage()
    stage.turns.limit(2)
    asked = await stage.many(4)
    assert state(asked) == "11--"
    await stage.over(asked[0])
    assert state(asked) == "111-"
    stage.turns.limit(3)
    await asyncio.sleep(0)
    assert state(asked) == "1111"


async def test_a_lower_bound_lets_what_runs_finish_first() -> None:
    stage = Stage()
    running = await stage.many(3)
    stage.turns.limit(1)
    late = await stage.ask()
    for one in running[:2]:
        await stage.over(one)
        assert not late.done()
    await stage.over(running[2])
    assert state([late]) == "1"


async def test_those_sent_away_have_no_turn_and_leave_room() -> None:
    stage = Stage()
    stage.turns.limit(1)
    asked = await stage.many(3)
    stage.turns.send_away()
    await asyncio.sleep(0)
    assert state(asked) == "100"
    await stage.over(asked[0])
    assert state([await stage.ask()]) == "1"


async def test_a_turn_that_comes_together_with_a_cancellation_passes_to_the_next() -> None:
    stage = Stage()
    stage.turns.limit(1)
    first, cancelled, last = await stage.many(3)
    turn = first.result()
    assert isinstance(turn, Turn)
    stage.turns.over(turn)
    cancelled.cancel()
    assert isinstance(await last, Turn)
    assert cancelled.cancelled()


async def test_who_is_cancelled_while_waiting_takes_no_turn() -> None:
    stage = Stage()
    stage.turns.limit(1)
    first, cancelled, last = await stage.many(3)
    cancelled.cancel()
    await asyncio.sleep(0)
    await stage.over(first)
    assert state([last]) == "1"


async def test_a_merchants_own_bound_keeps_nobody_else_waiting() -> None:
    stage = Stage()
    bounded, other = await stage.many(5, "bounded", most=2), await stage.many(5, "other", most=9)
    assert (state(bounded), state(other)) == ("11---", "11111")


async def test_turns_go_round_between_merchants_however_many_one_has_waiting() -> None:
    stage = Stage()
    stage.turns.limit(1)
    running = await stage.ask("first")
    many = await stage.many(6, "many")
    few = await stage.many(2, "few")
    order = []
    for _ in range(6):
        await stage.over(running)
        running = next(one for one in many + few if one in stage.asked and one.done())
        order.append("many" if running in many else "few")
    assert order == ["many", "few", "many", "few", "many", "many"]


async def test_a_rate_lets_one_at_a_time_through_and_none_before_its_moment() -> None:
    stage = Stage()
    asked = [await stage.ask("m", None, 2.0) for _ in range(3)]
    assert state(asked) == "1--"
    for seconds, expected in ((0.49, "1--"), (0.02, "11-"), (0.48, "11-"), (0.02, "111")):
        stage.now += seconds
        await stage.look()
        assert state(asked) == expected


async def test_the_tiers_own_rate_bounds_all_merchants_together() -> None:
    stage = Stage()
    stage.turns.pace(10)
    asked = [await stage.ask(merchant) for merchant in "abc"]
    assert state(asked) == "1--"
    stage.now += 0.1001
    await stage.look()
    assert state(asked) == "11-"
    stage.turns.pace(None)
    await asyncio.sleep(0)
    assert state(asked) == "111"


async def test_the_timer_alone_brings_the_next_turn_of_a_rate() -> None:
    turns = Turns(lambda: 3, 200, 0.25, lambda merchant: None)
    async with asyncio.timeout(5):
        came = [await turns.mine("m", None, 50.0) for _ in range(3)]
    assert all(isinstance(turn, Turn) for turn in came)


async def test_a_quick_merchant_may_fill_the_prefetch() -> None:
    stage = Stage()
    asked = await stage.many(200, most=20)
    assert state(asked) == "1" * 20 + "-" * 180
    stage.now += SLOW / 10
    await stage.look()
    assert state(asked) == "1" * 20 + "-" * 180
    assert stage.overflowed == []


async def test_when_a_lane_proves_slow_its_newest_have_no_room_and_its_oldest_stay_in_order() -> None:
    stage = Stage()
    asked = await stage.many(200, most=20)
    stage.now += SLOW + 0.01
    await stage.look()
    assert state(asked) == "1" * 20 + "-" * 20 + "x" * 160, "a quarter of what is free: 40 of 160"
    assert stage.overflowed == ["m"], "told once"


async def test_the_more_slow_merchants_the_less_each_may_hold_and_the_quick_always_find_room() -> None:
    stage = Stage()
    hanging = [await stage.many(14, f"hanging-{number}", most=20) for number in range(10)]
    stage.now += SLOW + 0.01
    more = [await stage.ask(f"hanging-{number}", 20) for number in range(10) for _ in range(10)]
    assert all(state(one) == "1" * 14 for one in hanging)
    assert set(state(more)) == {"x"}, "140 are in hand: a quarter of the 60 that are free is 15, of one less 14"
    assert state(await stage.many(12, "quick", most=20)) == "1" * 12


async def test_fresh_ones_wait_behind_what_overflowed_and_released_ones_enter() -> None:
    stage = Stage()
    stage.turns.overflows("m")
    assert state([await stage.ask("m"), await stage.ask("m", released=True), await stage.ask("other")]) == "x11"
    assert stage.turns.overflowing == ["m"]
    stage.turns.drained("m")
    assert state([await stage.ask("m")]) == "1"
    assert stage.overflowed == [], "whoever told it knows it"


async def proved_quick(stage: Stage, most: int, *, takes: float = SLOW / 8) -> None:
    """The lane of `m` overflows, and what was released to it took so long."""
    stage.turns.overflows("m")
    released = await stage.ask("m", most, released=True)
    stage.now += takes
    await stage.over(released)


async def test_fresh_ones_enter_again_once_what_was_released_has_proved_the_lane_quick() -> None:
    stage = Stage()
    stage.turns.overflows("m")
    assert state([await stage.ask("m", 20)]) == "x"
    await proved_quick(stage, 20)
    assert state([await stage.ask("m", 20)]) == "1"
    assert stage.turns.overflowing == ["m"], "that is over when nothing is held any more"
    assert stage.overflowed == []


async def test_a_lane_that_overflows_and_is_still_slow_takes_no_fresh_ones() -> None:
    stage = Stage()
    await proved_quick(stage, 20, takes=SLOW + 0.01)
    assert state([await stage.ask("m", 20), await stage.ask("m", 20, released=True)]) == "x1"


async def test_a_lane_that_overflows_takes_no_fresh_ones_while_a_callback_hangs() -> None:
    stage = Stage()
    await proved_quick(stage, 20)
    (hangs,) = await stage.many(1, most=20)
    assert state([hangs]) == "1"
    stage.now += SLOW + 0.01
    assert state([await stage.ask("m", 20)]) == "x"


async def test_where_more_come_than_an_overflowing_lane_carries_they_do_not_overtake_what_is_held() -> None:
    stage = Stage()
    stage.turns.overflows("m")
    assert state(await stage.many(int(2 * 8 * FADES) + 8, most=2)) == "x" * 40
    await proved_quick(stage, 2)
    assert state([await stage.ask("m", 2)]) == "x", "two at once carry sixteen a second"
    stage.now += FADES
    assert state([await stage.ask("m", 2)]) == "1", "the burst is over"


async def test_an_overflowing_lanes_rate_bounds_what_it_carries() -> None:
    stage = Stage()
    stage.turns.overflows("m")
    await stage.many(int(20 * FADES), most=20)
    await proved_quick(stage, 20)
    assert state([await stage.ask("m", 20, 10.0), await stage.ask("m", 20)]) == "x1"


async def test_fresh_ones_leave_room_for_what_is_released_to_an_overflowing_lane() -> None:
    stage = Stage()
    await proved_quick(stage, 1)
    assert state([await stage.ask("m", 1) for _ in range(7)]) == "1----xx", "half a second of them"
    assert state([await stage.ask("m", 1, released=True)]) == "-"


async def test_when_next_to_nothing_is_free_a_merchant_known_to_be_slow_gets_nothing() -> None:
    stage = Stage(prefetch=20)
    (slow,) = await stage.many(1, "slow")
    stage.now += SLOW * 4
    await stage.over(slow)
    stage.others = 16
    (asked,) = await stage.many(1, "slow")
    assert state([asked]) == "1", "with it three are free, more than a tenth"
    await stage.over(asked)
    stage.others = 17
    assert state([await stage.ask("slow")]) == "x"
    assert state([await stage.ask("unknown")]) == "1"


async def test_waiting_for_the_tiers_own_bound_is_no_merchants_fault() -> None:
    stage = Stage()
    stage.turns.limit(1)
    asked = await stage.many(100, most=20)
    stage.now += 10 * SLOW
    await stage.look()
    assert state(asked) == "1" + "-" * 99


async def test_the_patient_wait_for_one_at_a_time_and_are_never_refused() -> None:
    stage = Stage(patient=True)
    asked = await stage.many(100, most=1)
    stage.now += 10 * SLOW
    await stage.look()
    assert state([*asked, await stage.ask(most=1)]) == "1" + "-" * 100


@pytest.mark.parametrize("prefetch", [1, 2, 5])
async def test_a_small_prefetch_still_lets_a_slow_merchant_work(prefetch: int) -> None:
    stage = Stage(prefetch=prefetch)
    (first,) = await stage.many(1)
    stage.now += SLOW * 4
    await stage.over(first)
    assert state([await stage.ask()]) == "1"


async def test_thousands_of_merchants_leave_no_lanes_behind() -> None:
    stage = Stage()
    for number in range(5000):
        await stage.over(await stage.ask(f"m-{number}"))
    assert len(stage.turns._lanes) <= 1001


@pytest.mark.parametrize(("busy", "idle"), [(1000, 0), (501, 499), (1500, 0)])
async def test_beyond_a_thousand_lanes_a_new_one_is_bounded_like_the_others(busy: int, idle: int) -> None:
    """Room is made among those before it: forgotten as soon as it is made, it would be made again for each one."""
    stage = Stage(prefetch=5000, patient=True)
    for number in range(busy):
        await stage.ask(f"b-{number}", most=1)
    for number in range(idle):
        await stage.over(await stage.ask(f"i-{number}", most=1))
    assert state([await stage.ask("new", most=1), await stage.ask("new", most=1)]) == "1-"


@pytest.mark.parametrize(("seconds", "expected"), [(10 * SLOW, "1x"), (0.01, "11")])
async def test_how_slow_a_merchant_was_is_known_after_thousands_of_others(seconds: float, expected: str) -> None:
    """Each of thousands that hang would be new again, and keep its place until that shows."""
    stage = Stage(share=0.01)
    for number in range(3000):
        asked = await stage.ask(f"m-{number}")
        stage.now += seconds
        await stage.over(asked)
    assert len(stage.turns._lanes) <= 1001
    stage.others = 100
    assert state(await stage.many(2, "m-0", most=2)) == expected


async def test_of_how_many_that_is_known_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_SLOW_KNOWN", 1500)
    stage = Stage(share=0.01)
    for number in range(5000):
        asked = await stage.ask(f"m-{number}")
        stage.now += 10 * SLOW
        await stage.over(asked)
    assert len(stage.turns._slow) <= 1500
    stage.others = 100
    assert state(await stage.many(2, "m-0", most=2)) == "11", "the longest unused is forgotten"


async def test_the_thousand_and_first_that_overflows_is_remembered() -> None:
    stage = Stage()
    for number in range(1000):
        stage.turns.overflows(f"o-{number}")
    stage.turns.overflows("late")
    assert "late" in stage.turns.overflowing


async def test_a_share_of_one_is_no_bound() -> None:
    stage = Stage(share=1)
    asked = await stage.many(200, most=150)
    stage.now += 10 * SLOW
    await stage.look()
    assert state([*asked, await stage.ask(most=150)]) == "1" * 150 + "-" * 51
