"""What machines say to each other: sealed, opened once, and believed from nobody else."""

from __future__ import annotations

import hashlib
import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.agent.seal import FRESH, LONGEST, Seal, Unbelieved, hkdf
from notifier.domain.signature import Secret

OLD, NEW, OTHER = (Secret(bytes([number]) * 32) for number in (1, 2, 3))
NOW = 1_800_000_000.0
SAID = {"kind": "announce", "machine": "a", "state": {"slots": 5}}


def refused(seal: Seal, sealed: bytes, now: float = NOW) -> str:
    with pytest.raises(Unbelieved) as unbelieved:
        seal.open(sealed, now)
    return str(unbelieved.value)


def genuine(text: bytes, secret: Secret = OLD, namespace: str = "notifier") -> bytes:
    """Signed as it should be, whatever it says; written out beside the code."""
    key = hkdf(secret.key, b"notifier control v1\0" + namespace.encode())
    return hmac.new(key, text, hashlib.sha256).hexdigest().encode() + b"\n" + text


@pytest.mark.parametrize(
    ("secret", "salt", "purpose", "length", "key"),
    [
        (
            "0b" * 22,
            "000102030405060708090a0b0c",
            "f0f1f2f3f4f5f6f7f8f9",
            42,
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            "0b" * 22,
            "",
            "",
            42,
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ],
    ids=["RFC 5869 A.1", "RFC 5869 A.3"],
)
def test_keys_are_derived_as_the_rfc_does(secret: str, salt: str, purpose: str, length: int, key: str) -> None:
    derived = hkdf(bytes.fromhex(secret), bytes.fromhex(purpose), bytes.fromhex(salt), length)
    assert derived.hex() == key


def test_another_machine_of_the_fleet_reads_what_was_said() -> None:
    assert Seal([OLD], "notifier").open(Seal([OLD], "notifier").seal(SAID, NOW), NOW + 1) == SAID


@pytest.mark.parametrize(
    ("speaker", "listener"),
    [([OLD], [NEW, OLD]), ([NEW, OLD], [OLD]), ([NEW, OLD], [NEW]), ([NEW, OLD], [OTHER, OLD])],
)
def test_one_secret_in_common_is_enough_while_secrets_are_rotated(
    speaker: list[Secret], listener: list[Secret]
) -> None:
    assert Seal(listener, "notifier").open(Seal(speaker, "notifier").seal(SAID, NOW), NOW) == SAID


@pytest.mark.parametrize(
    ("sealed", "reason"),
    [
        (Seal([OTHER], "notifier").seal(SAID, NOW), "forged"),
        (Seal([OLD], "another").seal(SAID, NOW), "forged"),
        (Seal([OLD], "notifier").seal(SAID, NOW).replace(b'"a"', b'"b"'), "forged"),
        (b"\n" + json.dumps(SAID).encode(), "forged"),
        (b",".join([b"0" * 64] * 1000) + b"\n{}", "forged"),
        (b"\xff\xfe\n\xff", "forged"),
        (b"", "garbage"),
        (b"no line", "garbage"),
        (b"\n" * (LONGEST + 1), "garbage"),
        (genuine(b"not JSON"), "garbage"),
        (genuine(b"[" * 100_000), "garbage"),
        (genuine(b"\xff"), "garbage"),
        (genuine(b"[1]"), "garbage"),
        (genuine(b'{"kind": "announce"}'), "garbage"),
        (genuine(b'{"at": "now", "nonce": "1"}'), "garbage"),
        (Seal([OLD], "notifier").seal(SAID, NOW - FRESH - 1), "stale"),
        (Seal([OLD], "notifier").seal(SAID, NOW + FRESH + 1), "stale"),
        (genuine(b'{"at": 1e400, "nonce": "1"}'), "garbage"),
        (genuine(b'{"at": ' + b"9" * 400 + b', "nonce": "1"}'), "stale"),
    ],
    # texts made here differ from process to process, and so would names made of them
    ids=[
        "another secret",
        "another namespace",
        "changed",
        "no signature",
        "many signatures",
        "no text",
        "nothing",
        "no line",
        "too long",
        "no JSON",
        "too deep",
        "no UTF-8",
        "no object",
        "no moment",
        "a moment that is none",
        "too old",
        "from the future",
        "infinite",
        "a moment of 400 digits",
    ],
)
def test_nobody_else_is_believed(sealed: bytes, reason: str) -> None:
    assert refused(Seal([OLD], "notifier"), sealed) == reason


def test_the_signature_is_that_of_the_key_and_the_text() -> None:
    text = json.dumps({**SAID, "at": int(NOW * 1000), "nonce": "n"}).encode()
    assert Seal([OLD], "notifier").open(genuine(text), NOW) == SAID


def test_a_message_is_believed_once_for_as_long_as_it_is_fresh() -> None:
    listener = Seal([OLD], "notifier")
    sealed = Seal([OLD], "notifier").seal(SAID, NOW)
    listener.open(sealed, NOW - FRESH)
    for later in (NOW - FRESH, NOW, NOW + FRESH):
        listener.open(Seal([OLD], "notifier").seal(SAID, later), later)  # the memory is tidied meanwhile
        assert refused(listener, sealed, later) == "replayed"
    assert refused(listener, sealed, NOW + FRESH + 0.002) == "stale"


def test_a_changed_clock_of_the_listener_opens_no_door_for_a_replay() -> None:
    listener = Seal([OLD], "notifier")
    sealed = Seal([OLD], "notifier").seal(SAID, NOW)
    listener.open(sealed, NOW)
    listener.open(Seal([OLD], "notifier").seal(SAID, NOW + 100), NOW + 100)
    assert refused(listener, sealed, NOW + 10) == "replayed"


def test_what_is_not_believed_leaves_nothing_in_the_memory() -> None:
    listener = Seal([OLD], "notifier")
    for number in range(50):
        refused(listener, Seal([OTHER], "notifier").seal({"number": number}, NOW))
    assert not listener._seen


def test_the_memory_holds_only_what_could_still_be_replayed() -> None:
    listener, speaker = Seal([OLD], "notifier"), Seal([OLD], "notifier")
    for second in range(1000):
        listener.open(speaker.seal(SAID, NOW + second), NOW + second)
    assert len(listener._seen) <= 2 * FRESH + 1


@pytest.mark.parametrize("said", [{"text": "x" * LONGEST}, {"number": float("nan")}], ids=["too long", "no JSON"])
def test_what_nobody_could_read_is_not_said(said: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"bytes|JSON"):
        Seal([OLD], "notifier").seal(said, NOW)


@given(st.binary(max_size=300))
def test_no_bytes_do_more_than_to_be_dropped(sealed: bytes) -> None:
    assert refused(Seal([OLD], "notifier"), sealed) in ("garbage", "forged")


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none() | st.lists(st.booleans())))
def test_whatever_is_said_is_heard(said: dict[str, object]) -> None:
    heard = Seal([OLD], "notifier").open(Seal([NEW, OLD], "notifier").seal(said, NOW), NOW)
    assert heard == {key: value for key, value in said.items() if key not in ("at", "nonce")}
