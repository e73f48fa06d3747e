"""What the registry keeps of a merchant, at any moment, and what each change makes of it."""

from __future__ import annotations

from typing import Any

import pytest

from notifier.agent.changing import LONGEST_BLOCK, Change, Gone
from notifier.domain.acknowledgement import AckRule
from notifier.domain.merchant import MASKED, Standing
from notifier.domain.registration import GRACE, LONGEST_GRACE, MOST_SECRETS, Former, Off, Registration
from notifier.domain.signature import Secret
from notifier.errors import Conflict, InvalidInput, InvalidMerchant, InvalidNotification, NotFound
from notifier.registry import form
from notifier.settings import Settings

NOW = 1_800_000_000_000
DAY = 86_400_000
ONE, TWO, THREE = (Secret(bytes([n]) * 24) for n in (1, 2, 3))
SETTINGS = Settings()
RULE = AckRule()
HTTPS = "https://shop.example/hook"


def change(
    op: str,
    before: Registration | None,
    fields: dict[str, Any] | None = None,
    why: str | None = None,
    seconds: float | None = None,
    at: int = NOW,
) -> Registration | None:
    return Change.checked(op, "shop", fields or {}, "ops", why, seconds, SETTINGS).made_of(before, at)


def changed(*arguments: Any, **more: Any) -> Registration:
    after = change(*arguments, **more)
    assert after is not None
    return after


ADDED = changed("add", None, {"url": HTTPS, "secret": ONE.text})


def test_a_new_merchant_has_what_was_stated_and_a_fresh_secret_unless_one_is_given() -> None:
    first, second = (changed("add", None, {"url": HTTPS, "rate": 5}) for _ in range(2))
    assert (first.url, first.rate, first.ack, first.ladder, first.changed_at) == (HTTPS, 5.0, None, None, NOW)
    assert first.secret is not None
    assert first.secret != second.secret
    assert ADDED.secret == ONE


def test_at_a_moment_the_services_rule_and_secrets_stand_in_for_missing_ones() -> None:
    bare = Registration("shop").at(NOW, AckRule.parse("body=ok"), (THREE,))
    assert (bare.secrets, str(bare.ack), bare.standing) == ((THREE,), "body=ok", Standing.ENABLED)
    own = ADDED.set({"ack": AckRule.parse("http")}).at(NOW, AckRule.parse("body=ok"), (THREE,))
    assert (own.secrets, str(own.ack)) == ((ONE,), "http")


@pytest.mark.parametrize(
    ("seconds", "later", "signing"),
    [
        (None, 0, (TWO, ONE)),
        (None, round(GRACE * 1000) - 1, (TWO, ONE)),
        (None, round(GRACE * 1000), (TWO,)),
        (60, 59_999, (TWO, ONE)),
        (60, 60_000, (TWO,)),
        (0, 0, (TWO,)),
    ],
)
def test_a_rotated_secret_signs_on_until_its_grace_is_over(seconds: Any, later: int, signing: Any) -> None:
    rotated = changed("rotate", ADDED, {"secret": TWO.text}, seconds=seconds)
    assert rotated.at(NOW + later, RULE, ()).secrets == signing


def test_secrets_stand_newest_first_and_keep_their_own_ends() -> None:
    twice = changed("rotate", changed("rotate", ADDED, {"secret": TWO.text}), {"secret": THREE.text}, at=NOW + DAY // 2)
    assert twice.signing(NOW + DAY // 2) == (THREE, TWO, ONE)
    assert twice.signing(NOW + DAY) == (THREE, TWO)
    assert twice.signing(NOW + DAY // 2 + DAY) == (THREE,)


def test_a_rotation_without_grace_ends_all_old_secrets() -> None:
    once = changed("rotate", ADDED, {"secret": TWO.text})
    leaked = changed("rotate", once, {"secret": THREE.text}, seconds=0, at=NOW + 1)
    assert leaked.signing(NOW + 1) == (THREE,)
    assert leaked.former == ()


def test_no_more_secrets_sign_together_than_the_header_can_bear() -> None:
    registration = ADDED
    for _ in range(MOST_SECRETS - 1):
        registration = changed("rotate", registration)
    assert len(registration.signing(NOW)) == MOST_SECRETS
    with pytest.raises(Conflict, match="without a grace"):
        change("rotate", registration)
    assert len(changed("rotate", registration, at=NOW + DAY + 1).signing(NOW + DAY + 1)) == 2


def test_a_rotation_to_a_secret_that_signs_already_is_refused() -> None:
    with pytest.raises(Conflict, match="already"):
        change("rotate", ADDED, {"secret": ONE.text})


def test_a_block_ends_by_itself_and_a_disabling_does_not() -> None:
    blocked = changed("block", ADDED, why="charged twice", seconds=60)
    at = blocked.at(NOW + 59_999, RULE, ())
    assert (at.standing, at.why, at.since, at.until) == (Standing.BLOCKED, "charged twice", NOW, NOW + 60_000)
    assert blocked.at(NOW + 60_000, RULE, ()).standing is Standing.ENABLED
    disabled = changed("disable", ADDED)
    assert disabled.at(NOW + 1000 * DAY, RULE, ()).standing is Standing.DISABLED


def test_the_end_of_a_block_does_not_enable_what_is_disabled_nor_the_other_way_round() -> None:
    both = changed("disable", changed("block", ADDED, seconds=60))
    assert both.standing(NOW + 120_000)[0] is Standing.DISABLED
    assert changed("unblock", both).standing(NOW)[0] is Standing.DISABLED
    assert changed("enable", both).standing(NOW)[0] is Standing.BLOCKED
    assert changed("enable", changed("unblock", both)).standing(NOW)[0] is Standing.ENABLED


def test_a_merchant_that_nobody_added_can_be_blocked_and_is_forgotten_when_unblocked() -> None:
    blocked = changed("block", None, why="fraud")
    assert (blocked.added, blocked.at(NOW, RULE, (THREE,)).standing) == (False, Standing.BLOCKED)
    assert change("unblock", blocked) is None
    added = changed("add", blocked, {"url": HTTPS})
    assert (added.added, added.standing(NOW)[0]) == (True, Standing.BLOCKED)


@pytest.mark.parametrize("op", ["set", "remove", "rotate", "enable", "disable"])
@pytest.mark.parametrize("before", [None, Registration("shop", blocked=Off("fraud", NOW))], ids=["unknown", "blocked"])
def test_what_was_never_added_is_not_found(op: str, before: Registration | None) -> None:
    with pytest.raises(NotFound, match="notifier merchants add shop"):
        change(op, before, {"rate": 1} if op == "set" else None)


def test_unblocking_an_unknown_merchant_is_not_found_and_an_unblocked_one_stays_as_it_is() -> None:
    with pytest.raises(NotFound):
        change("unblock", None)
    assert changed("unblock", ADDED) == ADDED


def test_adding_twice_is_a_conflict_and_removing_leaves_nothing() -> None:
    with pytest.raises(Conflict, match="change it with `set`"):
        change("add", ADDED)
    assert change("remove", ADDED) is None


def test_set_changes_what_is_stated_and_leaves_the_rest() -> None:
    before = changed("add", None, {"url": HTTPS, "rate": 5, "headers": {"X-A": "1"}, "ladder": "1s,3s"})
    after = changed("set", before, {"rate": None, "headers": {"X-B": "2"}})
    assert (after.url, after.rate, str(after.ladder)) == (HTTPS, None, "1s,3s")
    assert after.headers == (("X-A", "1"), ("X-B", "2"))
    assert after.secret == before.secret


@pytest.mark.parametrize(
    ("op", "fields", "why", "seconds", "said"),
    [
        ("burn", {}, None, None, "possible are add, set"),
        ("set", {}, None, None, "at least one field"),
        ("block", {"rate": 1}, None, None, "takes no fields"),
        ("rotate", {"rate": 1}, None, None, "nothing but a secret"),
        ("block", {}, "two\nlines", None, "one line"),
        ("block", {}, "x" * 201, None, "at most 200"),
        ("block", {}, None, 0, "a block lasts"),
        ("block", {}, None, LONGEST_BLOCK + 1, "a block lasts"),
        ("block", {}, None, float("inf"), "is not a number of seconds"),
        ("block", {}, None, True, "is not a number of seconds"),
        ("rotate", {}, None, LONGEST_GRACE + 1, "the grace of an old secret"),
        ("rotate", {}, None, -1, "the grace of an old secret"),
        ("disable", {}, None, 60, "has no duration"),
        ("add", {"ladder": "9s"}, None, None, "configured tiers: 1s, 3s, 5s, 15s, 30s"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_asked(
    op: str, fields: dict[str, Any], why: str | None, seconds: Any, said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        Change.checked(op, "shop", fields, "ops", why, seconds, SETTINGS)


def test_a_merchant_id_is_checked_and_fields_are_told_one_by_one() -> None:
    with pytest.raises(InvalidNotification, match="is not a merchant id"):
        Change.checked("add", " shop", {}, "ops", None, None, SETTINGS)
    with pytest.raises(InvalidMerchant) as caught:
        Change.checked("add", "shop", {"url": "x", "rate": 0}, "ops", None, None, SETTINGS)
    assert list(caught.value.problems) == ["url", "rate"]


@pytest.mark.parametrize(
    ("op", "off"), [(op, op in ("remove", "disable", "block")) for op in ("add", "rotate", "enable", "unblock")]
    + [("remove", True), ("disable", True), ("block", True)],
)  # fmt: skip
def test_only_what_switches_a_merchant_off_insists_on_every_process(op: str, off: bool) -> None:
    assert Change.checked(op, "shop", {}, "ops", None, None, SETTINGS).switches_off is off


@pytest.mark.parametrize("merchant", ["..", "x/../y", "./x"])
def test_a_merchant_that_no_http_path_can_name_is_not_added_but_can_still_be_stopped(merchant: str) -> None:
    with pytest.raises(InvalidInput, match="no HTTP path can name such a merchant"):
        Change.checked("add", merchant, {}, "ops", None, None, SETTINGS)
    for op in ("remove", "disable", "block", "unblock", "rotate"):
        assert Change.checked(op, merchant, {}, "ops", None, None, SETTINGS).merchant == merchant


@pytest.mark.parametrize("op", ["add", "set"])
@pytest.mark.parametrize("url", ["http://shop.example/", "https://shop.example:8443/"])
def test_a_url_that_the_settings_do_not_let_be_called_is_not_registered(op: str, url: str) -> None:
    settings = Settings.received({"egress": {"https_only": True, "ports": "443"}})
    with pytest.raises(InvalidInput, match="url: the url cannot be used: callbacks go to "):
        Change.checked(op, "shop", {"url": url}, "ops", None, None, settings)
    assert Change.checked(op, "shop", {"url": "https://shop.example/"}, "ops", None, None, settings).statement.fields


@pytest.mark.parametrize(
    ("before", "url", "reason"),
    [
        (None, HTTPS, "not in the registry"),
        (Registration("shop", blocked=Off("fraud", 0)), HTTPS, "not in the registry"),
        (ADDED.set({"url": "https://new.example/"}), HTTPS, "another one"),
        (ADDED.set({"url": None}), None, "another one"),
        (ADDED.set({"disabled": Off("broken", 0)}), HTTPS, "disabled already"),
        (ADDED.set({"changed_at": NOW + 1}), HTTPS, "changed after"),
    ],
)
def test_a_410_does_not_disable_what_has_changed_since(before: Any, url: str | None, reason: str) -> None:
    with pytest.raises(Conflict, match=reason):
        Gone("shop", url, NOW, "410 Gone").made_of(before, NOW + 5)


@pytest.mark.parametrize("url", [HTTPS, None])
def test_a_410_of_the_registered_endpoint_disables_the_merchant(url: str | None) -> None:
    gone = Gone("shop", url, NOW, "410 Gone").made_of(ADDED, NOW + 5)
    assert gone is not None
    assert gone.disabled == Off("410 Gone", NOW + 5, who="notifier")


FULL = Registration(
    "shop",
    url=HTTPS,
    secret=ONE,
    former=(Former(TWO, NOW + DAY), Former(THREE, NOW - 1)),
    ack=AckRule.parse("json:code=SUCCESS"),
    ladder=SETTINGS.default_ladder,
    headers=(("X-Key", "hunter2"), ("X-Shop", "7")),
    concurrency=3,
    rate=2.5,
    disabled=Off("410 Gone", NOW, who="notifier"),
    blocked=Off("fraud", NOW, NOW + 60_000, "ops"),
    version=9,
    changed_at=NOW,
)


@pytest.mark.parametrize("registration", [FULL, ADDED, Registration("shop", blocked=Off("fraud", NOW))])
def test_what_is_kept_reads_back_as_it_was(registration: Registration) -> None:
    kept = form.written(registration)
    assert form.read("shop", kept, registration.version, registration.changed_at) == registration


@pytest.mark.parametrize(
    "body", ["", "[]", "{", '{"secret": "whsec_hunter2"}', '{"former": [["x"]]}', '{"blocked": ["why"]}', "7"]
)
def test_what_cannot_be_read_is_told_by_the_merchants_name_and_not_repeated(body: str) -> None:
    with pytest.raises(ValueError, match="'shop' cannot be read") as caught:
        form.read("shop", body, 1)
    assert "hunter2" not in str(caught.value)


def test_what_is_shown_holds_everything_but_secrets_and_values_of_headers() -> None:
    shown = form.shown(FULL, NOW)
    assert shown == {
        "id": "shop",
        "added": True,
        "url": HTTPS,
        "ladder": ["1s", "3s", "5s", "15s", "30s"],
        "ack": "json:code=SUCCESS",
        "concurrency": 3,
        "rate": 2.5,
        "headers": {"X-Key": MASKED, "X-Shop": MASKED},
        "standing": "disabled",
        "why": "410 Gone",
        "since": "2027-01-15T08:00:00.000Z",
        "until": None,
        "who": "notifier",
        "disabled": {"why": "410 Gone", "since": "2027-01-15T08:00:00.000Z", "until": None, "who": "notifier"},
        "blocked": {
            "why": "fraud",
            "since": "2027-01-15T08:00:00.000Z",
            "until": "2027-01-15T08:01:00.000Z",
            "who": "ops",
        },
        "secrets": [{"until": None}, {"until": "2027-01-16T08:00:00.000Z"}],
        "version": 9,
        "changed_at": "2027-01-15T08:00:00.000Z",
    }


@pytest.mark.parametrize("what", [FULL, FULL.at(NOW, RULE, ()), Former(ONE, 1), FULL.secret])
def test_no_representation_shows_a_secret_or_the_value_of_a_header(what: object) -> None:
    for hidden in (ONE.text.removeprefix("whsec_"), "hunter2", repr(ONE.key)):
        assert hidden not in repr(what)
        assert hidden not in str(what)
