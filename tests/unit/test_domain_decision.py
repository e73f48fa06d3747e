"""What follows from an outcome: every row of the table in DESIGN §4."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.domain.decision import (
    Complete,
    Decision,
    Exhausted,
    Held,
    HoldReason,
    NextTier,
    Stopped,
    admit,
    decide,
    ladder_of,
)
from notifier.domain.ladder import PRESETS, Ladder
from notifier.domain.merchant import Merchant, Standing
from notifier.domain.notification import Notification
from notifier.domain.outcome import ErrorClass, Outcome
from notifier.domain.tier import Tier

URL = "https://shop.example/paid"
LADDER = PRESETS["default"]  # 1s 3s 5s 15s 30s
CONFIGURED = LADDER.tiers
LAST = len(LADDER) - 1


def at(step: int, url: str | None = URL) -> Notification:
    return Notification(id="ntf_1", merchant="m1", payload=b"{}", url=url, step=step, attempt=step + 1)


def answered(status: int, retry_after: float | None = None) -> Outcome:
    return Outcome(False, status, ErrorClass.STATUS, f"HTTP {status}", retry_after=retry_after, gone=status == 410)


def failed(error: ErrorClass, retry_after: float | None = None) -> Outcome:
    return Outcome(False, 200 if error is ErrorClass.WRONG_ANSWER else None, error, "it said so", retry_after)


ACKNOWLEDGED = Outcome.ok(status=200)


# Row: acknowledged by the merchant's rule → complete


@pytest.mark.parametrize("step", range(len(LADDER)))
def test_an_acknowledged_notification_is_complete_at_any_step(step: int) -> None:
    assert decide(at(step), LADDER, ACKNOWLEDGED, CONFIGURED) == Complete()


# Row: anything else, a step is left → next tier


@pytest.mark.parametrize(("step", "next_tier"), [(0, "3s"), (1, "5s"), (2, "15s"), (3, "30s")])
def test_a_failed_attempt_goes_to_the_next_tier_of_its_ladder(step: int, next_tier: str) -> None:
    decision = decide(at(step), LADDER, answered(500), CONFIGURED)
    assert decision == NextTier(Tier.parse(next_tier), step + 1)


@pytest.mark.parametrize("error", ErrorClass)
def test_every_class_of_failure_goes_to_the_next_tier(error: ErrorClass) -> None:
    assert decide(at(0), LADDER, failed(error), CONFIGURED) == NextTier(Tier(3), 1)


@pytest.mark.parametrize("status", [100, 201, 301, 302, 307, 308, 400, 401, 403, 404, 429, 500, 502, 503, 504, 599])
def test_every_status_that_is_no_acknowledgement_goes_to_the_next_tier(status: int) -> None:
    assert decide(at(0), LADDER, answered(status), CONFIGURED) == NextTier(Tier(3), 1)


def test_a_tier_may_stand_several_times_in_a_ladder() -> None:
    wechat = PRESETS["wechat"]
    assert decide(at(0), wechat, answered(500), wechat.tiers) == NextTier(Tier(15), 1)
    assert decide(at(1), wechat, answered(500), wechat.tiers) == NextTier(Tier(30), 2)


@pytest.mark.parametrize(
    ("configured", "chosen"),
    [("1s 3s 5s", "3s"), ("1s 5s", "5s"), ("1s 2s", "2s"), ("10s 4s", "4s"), ("0s", "0s")],
)
def test_a_next_tier_that_is_no_longer_configured_is_covered(configured: str, chosen: str) -> None:
    tiers = Ladder.parse(configured).tiers
    assert decide(at(0), LADDER, answered(500), tiers) == NextTier(Tier.parse(chosen), 1)


# Row: 429 or 503 with Retry-After, a step is left → one step used, waits in the tier that covers it


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("retry_after", "chosen"),
    [(0, "1s"), (0.5, "1s"), (1, "1s"), (2, "3s"), (4, "5s"), (16, "30s"), (31, "30s"), (86_400, "30s")],
)
def test_retry_after_is_waited_out_in_the_covering_tier_and_uses_one_step(
    status: int, retry_after: float, chosen: str
) -> None:
    decision = decide(at(1), LADDER, answered(status, retry_after), CONFIGURED)
    assert decision == NextTier(Tier.parse(chosen), 2)


@pytest.mark.parametrize("status", [200, 301, 400, 404, 500, 502, 504])
def test_retry_after_beside_any_other_status_is_not_heeded(status: int) -> None:
    assert decide(at(0), LADDER, answered(status, 30), CONFIGURED) == NextTier(Tier(3), 1)


def test_a_users_own_callback_may_ask_for_a_wait_without_a_status() -> None:
    asked = Outcome.failed("come back later", retry_after=12)
    assert decide(at(0), LADDER, asked, CONFIGURED) == NextTier(Tier(15), 1)


# Row: anything else, ladder used up → exhausted


@pytest.mark.parametrize("outcome", [answered(500), answered(429, 5), answered(503, 5), failed(ErrorClass.TIMEOUT)])
@pytest.mark.parametrize("step", [LAST, LAST + 1, 1000])
def test_after_the_last_step_the_notification_is_exhausted_with_the_last_reason(step: int, outcome: Outcome) -> None:
    assert decide(at(step), LADDER, outcome, CONFIGURED) == Exhausted(outcome.detail)


def test_a_reason_without_words_is_the_class_of_the_failure() -> None:
    assert decide(at(LAST), LADDER, Outcome(False, error=ErrorClass.DNS), CONFIGURED) == Exhausted("dns")


# Row: 410 Gone → stopped; the merchant is disabled if the URL is its registered one


@pytest.mark.parametrize(
    ("url", "registered", "disable"),
    [
        (None, URL, True),
        (URL, URL, True),
        (URL, None, False),
        (URL, "https://shop.example/other", False),
    ],
)
@pytest.mark.parametrize("step", [0, LAST])
def test_gone_stops_and_disables_the_merchant_if_it_was_its_registered_url(
    step: int, url: str | None, registered: str | None, disable: bool
) -> None:
    decision = decide(at(step, url), LADDER, answered(410), CONFIGURED, registered)
    assert decision == Stopped("HTTP 410", disable)


# Row: merchant disabled, blocked, unknown without a URL, … → held


@pytest.mark.parametrize(
    ("merchant", "url", "held"),
    [
        (None, URL, None),
        (Merchant("m1"), URL, None),
        (Merchant("m1", url=URL), None, None),
        (Merchant("m1", url=URL), "https://elsewhere.example", None),
        (None, None, HoldReason.UNKNOWN_MERCHANT),
        (Merchant("m1"), None, HoldReason.UNKNOWN_MERCHANT),
        (Merchant("m1", url=URL, standing=Standing.DISABLED, why="410"), URL, HoldReason.DISABLED),
        (Merchant("m1", standing=Standing.DISABLED), None, HoldReason.DISABLED),
        (Merchant("m1", url=URL, standing=Standing.BLOCKED, why="fraud"), None, HoldReason.BLOCKED),
    ],
)
def test_a_notification_is_admitted_or_held_with_the_reason(
    merchant: Merchant | None, url: str | None, held: HoldReason | None
) -> None:
    decision = admit(at(0, url), merchant)
    assert (decision.reason if decision else None) == held


@pytest.mark.parametrize("standing", [Standing.DISABLED, Standing.BLOCKED])
def test_what_is_held_says_why_its_merchant_was_switched_off(standing: Standing) -> None:
    held = admit(at(0), Merchant("m1", standing=standing, why="answered 410"))
    assert held == Held(HoldReason(standing), "answered 410")


def test_a_callback_that_posts_nowhere_needs_no_url() -> None:
    assert admit(at(0, None), None, needs_url=False) is None
    assert admit(at(0, None), Merchant("m1", standing=Standing.BLOCKED), needs_url=False) is not None


# Which ladder counts


@pytest.mark.parametrize(
    ("own", "merchants", "counts"),
    [("2s", "4s", "2s"), ("2s", None, "2s"), (None, "4s", "4s"), (None, None, "1s,3s,5s,15s,30s")],
)
def test_the_ladder_is_the_notifications_else_the_merchants_else_the_default(
    own: str | None, merchants: str | None, counts: str
) -> None:
    notification = replace(at(0), ladder=Ladder.parse(own) if own else None)
    merchant = Merchant("m1", ladder=Ladder.parse(merchants) if merchants else None)
    assert str(ladder_of(notification, merchant, LADDER)) == counts


def test_an_unknown_merchants_ladder_is_the_default() -> None:
    assert ladder_of(at(0), None, LADDER) is LADDER


# For all outcomes

_tiers = st.integers(0, 10_000).map(Tier)
_failures = st.builds(
    Outcome,
    acknowledged=st.just(False),
    status=st.none() | st.integers(100, 599),
    error=st.sampled_from(ErrorClass),
    detail=st.text(),
    retry_after=st.none() | st.floats(0, allow_nan=False),
    gone=st.booleans(),
)


@given(
    st.lists(_tiers, min_size=1, max_size=10).map(lambda tiers: Ladder(tuple(tiers))),
    st.integers(0, 12),
    st.just(ACKNOWLEDGED) | _failures,
    st.sets(_tiers, min_size=1),
)
def test_every_outcome_has_one_decision_and_a_step_is_used_or_the_end_is_reached(
    ladder: Ladder, step: int, outcome: Outcome, configured: set[Tier]
) -> None:
    decision: Decision = decide(at(step), ladder, outcome, configured)
    match decision:
        case Complete():
            assert outcome.acknowledged
        case NextTier(tier, then):
            assert not outcome.acknowledged
            assert tier in configured
            assert then == step + 1 < len(ladder)
        case Exhausted():
            assert not outcome.acknowledged
            assert step + 1 >= len(ladder)
        case Stopped():
            assert outcome.gone
        case _:
            pytest.fail(f"an outcome is never decided to be {decision}")


def test_an_outcome_names_its_error_exactly_when_it_is_not_acknowledged() -> None:
    with pytest.raises(ValueError, match="no error"):
        Outcome(acknowledged=True, error=ErrorClass.DNS)
    with pytest.raises(ValueError, match="names its error class"):
        Outcome(acknowledged=False)
    assert Outcome.failed("no").error is ErrorClass.CALLBACK
    assert Outcome.ok().acknowledged


@pytest.mark.parametrize("standing", list(Standing))
def test_a_cancelled_notification_is_stopped_whatever_its_merchant(standing: Standing) -> None:
    merchant = Merchant("shop", url="https://shop.example/", standing=standing)
    notification = Notification("ntf_1", "shop", b"{}")
    assert admit(notification, merchant, cancelled="taken back") == Stopped(
        "cancelled", disable=False, detail="taken back"
    )
    assert admit(notification, None, cancelled="") == Stopped("cancelled", disable=False)
