"""Standard Webhooks signatures, checked against the specification's vector and an independent verifier."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from notifier.domain.signature import Secret, sign, verify
from notifier.errors import InvalidSecret, InvalidSignature

# FACTS §3
SECRET = Secret.parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
MOMENT = 1_614_265_330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

OTHER = Secret(b"another secret of 24 byte")
secrets = st.binary(min_size=24, max_size=64).map(Secret)


def test_the_vector_of_the_specification_is_met() -> None:
    assert sign([SECRET], ID, MOMENT, BODY) == SIGNATURE


def test_several_secrets_sign_together_newest_first() -> None:
    both = sign([OTHER, SECRET], ID, MOMENT, BODY)
    assert both == f"{sign([OTHER], ID, MOMENT, BODY)} {SIGNATURE}"


@given(st.lists(secrets, min_size=1, max_size=3), st.from_regex(r"[A-Za-z0-9_-]{1,128}", fullmatch=True), st.data())
def test_an_independent_verifier_accepts_with_any_of_the_secrets(
    active: list[Secret], webhook_id: str, data: st.DataObject
) -> None:
    # the verifier hands back the parsed body, so it is JSON here
    body = json.dumps(data.draw(st.dictionaries(st.text(), st.integers()))).encode()
    moment = int(time.time())
    headers = {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(moment),
        "webhook-signature": sign(active, webhook_id, moment, body),
    }
    for secret in active:
        assert standardwebhooks.Webhook(secret.text).verify(body, headers) == json.loads(body)


@given(secrets, st.binary())
def test_what_an_independent_signer_signed_verifies(secret: Secret, body: bytes) -> None:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return  # that signer signs text only
    signature = standardwebhooks.Webhook(secret.text).sign(ID, datetime.fromtimestamp(MOMENT, UTC), text)
    verify([secret], ID, str(MOMENT), signature, body, now=MOMENT)


@given(st.lists(secrets, min_size=1, max_size=3, unique=True), st.binary(), st.integers(0, 10**11))
def test_what_was_signed_verifies_with_each_of_the_secrets(active: list[Secret], body: bytes, moment: int) -> None:
    signature = sign(active, ID, moment, body)
    for secret in active:
        verify([secret], ID, str(moment), signature, body, now=moment)
    verify([OTHER, active[-1]], ID, str(moment), signature, body, now=moment)


@pytest.mark.parametrize(
    "offered",
    [
        SIGNATURE,
        f"v1,AAAA {SIGNATURE}",
        f"v1a,AAAA {SIGNATURE}",
        f"v2,AAAA  {SIGNATURE} v1,BBBB",
    ],
)
def test_one_matching_signature_among_several_is_enough(offered: str) -> None:
    verify([SECRET], ID, str(MOMENT), offered, BODY, now=MOMENT)


@pytest.mark.parametrize("now", [MOMENT - 300, MOMENT, MOMENT + 300])
def test_a_timestamp_within_the_tolerance_verifies(now: float) -> None:
    verify([SECRET], ID, str(MOMENT), SIGNATURE, BODY, now=now)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"now": MOMENT + 301}, "301 s old; 300 s are allowed"),
        ({"now": MOMENT - 301}, "301 s in the future"),
        ({"now": MOMENT + 31, "tolerance": 30}, "31 s old; 30 s are allowed"),
        ({"timestamp": "yesterday"}, "not a whole number of Unix seconds"),
        ({"timestamp": ""}, "not a whole number of Unix seconds"),
        ({"timestamp": f" {MOMENT}"}, "not a whole number of Unix seconds"),
        ({"timestamp": "1_614_265_330"}, "not a whole number of Unix seconds"),
        ({"timestamp": f"{MOMENT}.0"}, "not a whole number of Unix seconds"),
        ({"timestamp": f"-{MOMENT}"}, "not a whole number of Unix seconds"),
        ({"timestamp": "9" * 4000}, "not a whole number of Unix seconds"),
        ({"timestamp": "999999999999"}, "in the future"),
        ({"signature": ""}, "no part that starts with 'v1,'"),
        ({"signature": "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="}, "no part that starts with 'v1,'"),
        ({"signature": "v1a,AAAA"}, "no part that starts with 'v1,'"),
        ({"signature": "v1,"}, "no signature matches"),
        ({"signature": "v1,ü"}, "no signature matches"),
        ({"signature": SIGNATURE[:-2]}, "no signature matches"),
        ({"body": BODY + b" "}, "the body was changed"),
        ({"webhook_id": "msg_other"}, "webhook-id"),
        ({"timestamp": str(MOMENT + 1)}, "webhook-timestamp"),
        ({"secrets": [OTHER]}, "the secret is another one"),
        ({"secrets": []}, "no signature matches"),
    ],
)
def test_what_does_not_verify_is_refused_saying_which_check_failed(change: dict[str, object], reason: str) -> None:
    good: dict[str, object] = {
        "secrets": [SECRET],
        "webhook_id": ID,
        "timestamp": str(MOMENT),
        "signature": SIGNATURE,
        "body": BODY,
        "now": MOMENT,
    }
    with pytest.raises(InvalidSignature) as refused:
        verify(**(good | change))  # type: ignore[arg-type]  # a table of arguments
    assert reason in str(refused.value)
    assert len(str(refused.value)) < 400


@given(st.text(), st.text(), st.binary())
def test_garbage_headers_are_refused_and_nothing_else_happens(timestamp: str, signature: str, body: bytes) -> None:
    with pytest.raises(InvalidSignature):
        verify([SECRET], ID, timestamp, signature, body, now=MOMENT)


@given(secrets)
def test_a_secret_is_read_as_it_was_written(secret: Secret) -> None:
    assert Secret.parse(f" {secret.text}\n") == secret


def _spelled(length: int) -> str:
    return "whsec_" + base64.b64encode(b"x" * length).decode()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "starts with 'whsec_'"),
        ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "starts with 'whsec_'"),
        ("WHSEC_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "starts with 'whsec_'"),
        ("whsec_", "this one holds 0"),
        ("whsec_topsecret!", "not valid base64"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS", "not valid base64"),
        ("whsec_MfKQ9r8GKYqr TwjUPD8ILPZIo2LaLaSw", "not valid base64"),
        ("whsec_ü", "not valid base64"),
        (_spelled(23), "this one holds 23"),
        (_spelled(65), "this one holds 65"),
    ],
)
def test_what_is_no_secret_is_refused_without_repeating_it(text: str, reason: str) -> None:
    with pytest.raises(InvalidSecret) as refused:
        Secret.parse(text)
    assert reason in str(refused.value)
    hidden = text.removeprefix("whsec_")
    assert not hidden or hidden not in str(refused.value)


def test_a_secret_never_shows_its_key() -> None:
    assert repr(SECRET) == str(SECRET) == f"{SECRET}" == "Secret(whsec_***)"
