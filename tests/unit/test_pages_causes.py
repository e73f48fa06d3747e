"""Why a merchant gets nothing, in plain words, and what is offered beside it."""

from __future__ import annotations

from typing import Any

import pytest

from notifier.api.pages.causes import Cause, judge, of_group, of_one, of_standing, ordered, selection_of
from notifier.api.pages.failures import briefly
from notifier.domain.decision import HoldReason
from notifier.domain.outcome import ErrorClass
from tests.unit.pages_examples import GROUPS, group, iso, notification, registered


def labels(cause: Cause) -> list[str]:
    return [way.label for way in cause.ways]


@pytest.mark.parametrize(
    ("trouble", "merchant", "sentence", "ways"),
    [
        (
            group("m", "held", reason="blocked"),
            registered("m", standing="blocked", why="charged twice.", since=iso(60), until=iso(-60), who="root"),
            "m is blocked until 21 Nov 12:01 UTC. Since 21 Nov 11:59 UTC, by root: charged twice.",
            ["Unblock m"],
        ),
        (
            group("m", "held", reason="disabled"),
            registered("m", standing="disabled", why="answered 410 Gone", since=iso(60), who="notifier"),
            "m is disabled. Since 21 Nov 11:59 UTC, by notifier: answered 410 Gone.",
            ["Enable m"],
        ),
        (
            group("m", "held", reason="unknown-merchant"),
            None,
            "Nobody has said where m is to be reached.",
            ["Save, and send to m"],
        ),
        (group("m", "held", reason="blocked"), None, "m is blocked.", ["Unblock m"]),
        (
            group("m", "held", reason="blocked"),
            registered("m"),
            "m may be called again; these are on their way.",
            [],
        ),
        (
            group("m", "held", reason="no-room"),
            registered("m"),
            "m is slow, and has as many calls under way as it may.",
            [],
        ),
        (
            group("m", "held", reason="breaker-open", last_error="connect"),
            registered("m"),
            "m failed so often that it is given a rest.",
            ["Change the address"],
        ),
        (
            group("m", "held", reason="breaker-open", own_url=True),
            registered("m"),
            "m failed so often that it is given a rest.",
            [],
        ),
        (
            group("m", "held", reason="breaker-open"),
            registered("m", standing="disabled", why="answered 410 Gone", since=iso(60), who="notifier"),
            "m is disabled. Since 21 Nov 11:59 UTC, by notifier: answered 410 Gone.",
            ["Enable m"],
        ),
        (
            group("m", "exhausted", last_error="connect"),
            registered("m"),
            "m cannot be reached: nobody answers at its address.",
            ["Change the address", "Send all 12 again"],
        ),
        (
            group("m", "exhausted", last_error="connect", own_url=True),
            registered("m"),
            "m cannot be reached: nobody answers at its address.",
            ["Send all 12 again"],
        ),
        (
            group("m", "exhausted", last_error="timeout", count=1),
            registered("m"),
            "m takes too long to answer.",
            ["Send it again"],
        ),
        (
            group("m", "exhausted", last_error="status", last_status=500),
            registered("m"),
            "m's server has a fault: it answers 500 Internal Server Error.",
            ["Change the address", "Send all 12 again"],
        ),
        (
            group("m", "exhausted", last_error="status", last_status=401),
            registered("m"),
            "m's server refuses the calls: it answers 401 Unauthorized.",
            ["Send all 12 again"],
        ),
        (
            group("m", "exhausted", last_error="status", last_status=599),
            None,
            "m's server has a fault: it answers 599.",
            ["Send all 12 again"],
        ),
        (
            group("m", "exhausted", last_error="timeout"),
            registered("m", standing="blocked", why=None, since=iso(60)),
            "m takes too long to answer.",
            ["Unblock m"],
        ),
        (
            group("m", "stopped", reason="answered 410 Gone", last_status=410),
            registered("m", standing="disabled", why="answered 410 Gone", since=iso(60)),
            "m answered 410 Gone: do not call this address any more.",
            ["Change the address", "Enable m"],
        ),
        (
            group("m", "stopped", reason="answered 410 Gone", last_status=410),
            registered("m"),
            "m answered 410 Gone: do not call this address any more.",
            ["Change the address", "Send all 12 again"],
        ),
        (group("m", "stopped", reason="cancelled"), None, "They were cancelled by hand.", ["Send all 12 again"]),
        (
            group("m", "attempted", last_error="connect"),
            registered("m"),
            "m cannot be reached: nobody answers at its address.",
            ["Change the address"],
        ),
        (group("m", "poisoned", reason="no merchant"), None, "They could not be read.", []),
    ],
)
def test_a_cause_is_a_sentence_with_the_way_out_beside_it(
    trouble: dict[str, Any], merchant: dict[str, Any] | None, sentence: str, ways: list[str]
) -> None:
    cause = of_group(trouble, merchant)
    assert cause.sentence == sentence
    assert labels(cause) == ways
    assert sum(way.primary for way in cause.ways) == (
        1 if ways and cause.tone != "wait" and ways != ["Change the address"] else 0
    )


@pytest.mark.parametrize("reason", HoldReason)
def test_whatever_is_held_says_how_it_goes_on_and_is_not_sent_again_by_hand(reason: HoldReason) -> None:
    for merchant in (None, registered("m")):
        cause = of_group(group("m", "held", reason=str(reason)), merchant)
        assert "by themselves" in cause.explanation or "by itself" in cause.explanation or "within" in cause.explanation
        assert str(reason) not in cause.sentence or reason in ("disabled", "blocked"), "a word of ours"
        assert not cause.again


def test_of_a_merchant_that_is_given_a_rest_its_last_failure_is_told_and_how_the_rest_ends() -> None:
    cause = of_group(group("m", "held", reason="breaker-open", last_error="connect"), registered("m"))
    assert cause.explanation.startswith("m cannot be reached: nobody answers at its address. These are kept here.")
    assert "as soon as it acknowledges one, all go out by themselves" in cause.explanation
    untried = of_group(group("m", "held", reason="breaker-open"), registered("m"))
    assert untried.explanation.startswith("These are kept here.")


def test_of_a_slow_merchant_it_is_told_how_it_may_get_more_at_once() -> None:
    cause = of_group(group("m", "held", reason="no-room"), registered("m"))
    assert "notifier merchants set m --concurrency" in cause.explanation


def test_every_class_of_failure_has_words_of_its_own() -> None:
    judged = [judge(group("m", "exhausted", last_error=str(error)), registered("m")) for error in ErrorClass]
    assert len({each.sentence for each in judged}) == len(ErrorClass)
    assert all(each.again and each.explanation for each in judged)
    assert len({briefly(str(error)) for error in ErrorClass} - {str(error) for error in ErrorClass}) == len(ErrorClass)
    assert "did not acknowledge" not in " ".join(each.sentence for each in judged)  # what an unknown class is told with


def test_the_words_of_the_merchants_server_are_quoted_on_one_short_line() -> None:
    answer = "line\n  and line " + "x" * 500
    cause = of_group(group("m", "exhausted", last_error="status", last_status=500, answer=answer), registered("m"))
    assert cause.quote.startswith("line and line x")
    assert len(cause.quote) == 240


def test_an_address_of_the_producers_is_told_without_what_may_be_secret_in_it() -> None:
    url = "https://shop:pass@shop.example:8443/hooks?token=secret"
    cause = of_group(group("m", "exhausted", last_error="connect", own_url=True, url=url), registered("m"))
    assert "handed them in: https://shop.example:8443/hooks." in cause.explanation


def test_the_selection_finds_exactly_the_group() -> None:
    assert selection_of(group("m", "held", reason="blocked", last_error="dns")) == {
        "merchant": "m",
        "status": "held",
        "reason": "blocked",
    }
    assert selection_of(group("m", "exhausted", reason="no answer", last_error="dns")) == {
        "merchant": "m",
        "status": "exhausted",
        "error": "dns",
    }


def test_one_notification_offers_itself_again_while_its_payload_is_kept() -> None:
    exhausted = notification(status="exhausted", last_error="timeout", last_status=None)
    assert labels(of_one(exhausted, registered("lyon-books"))) == ["Send it again"]
    assert labels(of_one(exhausted | {"payload_kept": False}, registered("lyon-books"))) == []


@pytest.mark.parametrize(
    ("url", "address", "sentence"),
    [
        (
            "http://127.0.0.1:81/new",
            "127.0.0.1:80",
            "m's address was changed after these failed (21 Nov 11:59 UTC). Send them again now.",
        ),
        (
            "https://new.example/hooks",
            "203.0.113.9:443",
            "m's settings were changed after these failed (21 Nov 11:59 UTC). Send them again now.",
        ),
    ],
)
def test_what_failed_before_its_merchant_was_changed_says_so_and_what_it_was(
    url: str, address: str, sentence: str
) -> None:
    merchant = registered("m", url=url, changed_at=iso(60))
    failed = group("m", "exhausted", last_error="connect", tried_at=iso(90), address=address)
    cause = of_group(failed, merchant)
    assert cause.sentence == sentence
    assert cause.explanation == "Before that: m cannot be reached: nobody answers at its address."
    assert [way.label for way in cause.ways if way.primary] == ["Send all 12 again"]
    assert of_group(failed | {"tried_at": iso(30)}, merchant).sentence.startswith("m cannot be reached")
    assert of_group(failed | {"own_url": True}, merchant).sentence.startswith("m cannot be reached")


def test_another_address_is_saved_alone_or_with_sending_again_what_had_failed() -> None:
    (change, again) = of_group(group("m", "exhausted", last_error="connect"), registered("m")).ways
    assert change.also == "Save, and send the 12 again"
    assert change.values == again.values == {"merchant": "m", "status": "exhausted", "error": "connect"}
    (climbing,) = of_group(group("m", "attempted", last_error="connect"), registered("m")).ways
    assert climbing.also == ""


def test_a_merchant_that_is_off_is_told_although_nothing_is_undelivered_yet() -> None:
    assert of_standing(registered("m")) is None
    cause = of_standing(registered("m", standing="blocked", since=iso(60)))
    assert cause is not None
    assert labels(cause) == ["Unblock m"]


def test_what_ends_by_itself_comes_last_and_nothing_else_moves() -> None:
    causes = [of_group(each, merchant) for each, merchant in GROUPS]
    waiting = of_group(group("m", "held", reason="blocked"), registered("m"))
    assert ordered([waiting, *causes]) == [*causes, waiting]
