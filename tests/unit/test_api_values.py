"""The API's pure parts: JSON as it was written, problems, rates, the places that a session may lead to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.api import payload, problems
from notifier.api.activity import Activity
from notifier.api.problems import KINDS, Problem
from notifier.api.session import _local
from notifier.errors import (
    BrokerUnreachable,
    Conflict,
    DatabaseUnavailable,
    InvalidMerchant,
    InvalidNotification,
    MessageTooLarge,
    NoAnswer,
    NotFound,
    NotifierError,
    PublishRefused,
    RegistryUnreadable,
)

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_what_is_written_means_what_was_read(value: Any) -> None:
    assert json.loads(payload.written(payload.parsed(json.dumps(value).encode()))) == value


@given(st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?", fullmatch=True))
def test_a_number_is_written_as_it_was(number: str) -> None:
    body = f'{{"a": [ {number} , "{number}"]}}'.encode()
    assert payload.written(payload.parsed(body)) == f'{{"a":[{number},"{number}"]}}'.encode()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (NotFound("x"), "not-found"),
        (Conflict("x"), "conflict"),
        (InvalidNotification("x"), "invalid"),
        (InvalidMerchant({"url": "x"}), "invalid"),
        (MessageTooLarge("x"), "too-large"),
        (DatabaseUnavailable("x"), "unavailable"),
        (BrokerUnreachable("x"), "unavailable"),
        (PublishRefused("x"), "unavailable"),
        (NoAnswer("x"), "unavailable"),
        (RegistryUnreadable("x"), "unavailable"),
        (NotifierError("x"), "internal"),
    ],
)
def test_each_error_of_ours_has_its_kind(error: NotifierError, kind: str) -> None:
    assert problems.of(error).kind == kind


@pytest.mark.parametrize("kind", KINDS)
def test_a_problem_says_itself_as_the_rfc_wants(kind: str) -> None:
    document = Problem(kind, "what to do", more=1).document()
    assert (document["type"], document["status"]) == (f"urn:notifier:problem:{kind}", KINDS[kind])
    assert (document["detail"], document["more"], bool(document["title"])) == ("what to do", 1, True)


def test_what_is_away_is_worth_another_try_and_half_a_surrogate_breaks_no_answer() -> None:
    response = Problem("unavailable", "\ud800").response()
    assert (response.headers["Retry-After"], json.loads(bytes(response.body))["detail"]) == ("5", "\ud800")


@pytest.mark.parametrize(
    ("target", "place"),
    [
        ("/", "/"),
        ("/merchants/a?b=c", "/merchants/a?b=c"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("/a\r\nSet-Cookie: x", "/"),
        ("", "/"),
    ],
)
def test_a_session_leads_to_a_path_of_this_service(target: str, place: str) -> None:
    assert _local(target) == place


def test_rates_are_those_of_the_last_ten_seconds() -> None:
    now = 0.0
    activity = Activity(lambda: now)
    assert activity.rates() == (0.0, 0.0)
    for second in range(1, 31):
        now = float(second)
        activity.requests += 5 if second > 15 else 50
        activity.accepted += 2
        rates = activity.rates()
    assert rates == (5.0, 2.0)
