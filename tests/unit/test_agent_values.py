"""The agent's pure parts: the pace, what is rebuilt from the ledger, and the form of its answers."""

from __future__ import annotations

import json

import pytest

from notifier.agent import rebuilding
from notifier.agent.answers import answering, text
from notifier.agent.pace import Pace
from notifier.domain.ladder import Ladder
from notifier.domain.tier import Tier
from notifier.errors import BrokerError, Conflict, DatabaseUnavailable, InvalidInput, NotFound, NotifierError
from notifier.ledger.holding import LONGEST_REST, Stored, rest
from notifier.supervision.actions import Sender

CONFIGURED = (Tier(0), Tier(1), Tier(5))
NOW = 1_790_000_000_000


def stored(**given: object) -> Stored:
    fields: dict[str, object] = {
        "id": "ntf_1",
        "merchant": "m1",
        "reference": None,
        "url": None,
        "ladder": "1s,5s",
        "content_type": "application/json",
        "headers": json.dumps({"step": 1, "attempt": 2, "enqueued-at": NOW - 5000, "shop": "7"}),
        "payload": b'{"order": 7}',
        "accepted_at": NOW - 5000,
        "status": "held",
        "stands": "held",
        "stands_why": "blocked",
        "run": 0,
        "attempts": 1,
        "step": 1,
        "tier": "5s",
        "due_at": None,
    }
    return Stored(**(fields | given))  # type: ignore[arg-type]


def test_a_pace_lets_a_burst_pass_then_its_rate() -> None:
    now = 100.0
    pace = Pace(20, clock=lambda: now)
    assert pace.take(100) == 5, "a quarter of a second's worth at once"
    assert pace.take(1) == 0
    assert pace.pause == pytest.approx(0.05)
    now += 0.125
    assert pace.take(100) == 2
    pace.give_back(1)
    assert pace.take(100) == 1
    now += 3600
    assert pace.take(100) == 5, "rest is not saved up"


def test_a_pace_slower_than_one_a_second_still_lets_one_pass() -> None:
    now = 100.0
    pace = Pace(0.5, clock=lambda: now)
    assert pace.take(3) == 1
    assert pace.pause == pytest.approx(2.0)
    now += 2.0
    assert pace.take(3) == 1


def test_what_is_released_goes_on_where_it_was_held() -> None:
    notification, tier = rebuilding.released(stored(), CONFIGURED, NOW)
    assert (notification.step, notification.attempt, notification.run) == (1, 2, 1)
    assert (tier, notification.due_at, notification.enqueued_at) == (Tier(5), NOW, NOW - 5000)
    assert (notification.payload, dict(notification.extra)) == (b'{"order": 7}', {"shop": "7"})


@pytest.mark.parametrize(("held_in", "goes_on_in"), [("5s", 5), ("3s", 5), ("1h", 5), (None, 0), ("nonsense", 0)])
def test_what_is_released_goes_on_in_a_tier_that_there_is(held_in: str | None, goes_on_in: int) -> None:
    assert rebuilding.released(stored(tier=held_in), CONFIGURED, NOW)[1] == Tier(goes_on_in)


def test_what_is_replayed_starts_at_the_first_step() -> None:
    notification, tier = rebuilding.replayed(stored(run=3), Ladder.parse("0s"), CONFIGURED, 4, NOW)
    assert (notification.step, notification.attempt, notification.run) == (0, 1, 4)
    assert (str(notification.ladder), tier, notification.due_at) == ("1s,5s", Tier(1), NOW + 1000)


def test_what_names_no_ladder_is_replayed_on_the_one_that_counts_now() -> None:
    notification, tier = rebuilding.replayed(stored(ladder=None), Ladder.parse("0s,5s"), CONFIGURED, 1, NOW)
    assert (str(notification.ladder), tier) == ("0s,5s", Tier(0))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"payload": None}, "the payload of ntf_1 is not kept"),
        ({"headers": json.dumps({"v": 2})}, "ntf_1 cannot be sent again: header 'v' is 2"),
    ],
)
def test_what_cannot_be_sent_again_says_why(given: dict[str, object], says: str) -> None:
    with pytest.raises(Conflict, match=says):
        rebuilding.released(stored(**given), CONFIGURED, NOW)


@pytest.mark.parametrize("headers", [None, "", "[]", "{", "7"])
def test_headers_that_cannot_be_read_cost_only_themselves(headers: str | None) -> None:
    notification, _ = rebuilding.released(stored(headers=headers), CONFIGURED, NOW)
    assert (notification.merchant, notification.payload) == ("m1", b'{"order": 7}')


def test_headers_of_an_earlier_run_do_not_say_where_it_stands() -> None:
    notification, _ = rebuilding.released(stored(run=2, step=0, headers='{"run": 1, "step": 4}'), CONFIGURED, NOW)
    assert (notification.step, notification.attempt, notification.run) == (0, 1, 3)


def test_every_release_makes_the_next_one_wait_longer_up_to_a_bound() -> None:
    assert [rest(run) for run in (0, 1, 2)] == [4_000, 8_000, 16_000]
    assert rest(50) == LONGEST_REST


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (NotFound("there is none"), "not-found"),
        (Conflict("not now"), "conflict"),
        (InvalidInput("no such field"), "invalid"),
        (DatabaseUnavailable("it is locked"), "unavailable"),
        (BrokerError("it refuses"), "unavailable"),
        (NotifierError("something else"), "unavailable"),
    ],
)
async def test_an_error_is_answered_as_a_problem_with_its_sentence(error: NotifierError, kind: str) -> None:
    async def work(data: object) -> None:
        raise error

    answer = await answering(work)({}, Sender("ctl", 0))
    assert answer == {"problem": {"kind": kind, "detail": str(error)}}


async def test_what_was_done_is_answered_as_ok() -> None:
    async def work(data: object) -> object:
        return data

    assert await answering(work)({"a": 1}, Sender("api", 1)) == {"ok": {"a": 1}}
    assert (await answering(work)([1], Sender("api", 1)))["problem"]["kind"] == "invalid"


async def test_a_fault_of_ours_is_raised() -> None:
    async def work(data: object) -> None:
        raise KeyError("oops")

    with pytest.raises(KeyError):
        await answering(work)({}, Sender("ctl", 0))


def test_a_missing_field_is_named() -> None:
    assert text({"who": "me"}, "who") == "me"
    assert text({}, "who", "somebody") == "somebody"
    with pytest.raises(InvalidInput, match="'who' is missing or no text"):
        text({"who": 7}, "who")
