"""`notifier verify`: says valid, or which of secret, body and clock is off."""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import standardwebhooks

from notifier import cli
from notifier.domain.signature import Secret, sign

SECRET = Secret(b"a key of twenty-four bytes, at least")
BODY = '{"order":"42 é"}'
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.delenv("NOTIFIER_SIGNING_SECRET", raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = cli.execute(["verify", *arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def headers(age: int = 0, secret: Secret = SECRET, body: str = BODY) -> list[str]:
    sent = int(time.time()) - age
    return ["--id", "ntf_1", "--timestamp", str(sent), "--signature", sign([secret], "ntf_1", sent, body.encode())]


def test_a_right_signature_is_valid(call: Call) -> None:
    assert call("--secret", SECRET.text, *headers(), "--body", BODY) == (0, "valid\n", "")


def test_a_signature_of_another_implementation_is_valid(call: Call) -> None:
    moment = time.time()
    signed = standardwebhooks.Webhook(SECRET.text).sign("ntf_1", datetime.fromtimestamp(int(moment), UTC), BODY)
    stated = ["--id", "ntf_1", "--timestamp", str(int(moment)), "--signature", signed]
    assert call("--secret", SECRET.text, *stated, "--body", BODY)[:2] == (0, "valid\n")


def test_the_secret_may_come_from_the_environment_and_may_be_several(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFIER_SIGNING_SECRET", f"{Secret(b'n' * 24).text},{SECRET.text}")
    assert call(*headers(), "--body", BODY)[0] == 0


def test_the_body_may_come_from_a_file_or_a_pipe(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "body"
    file.write_bytes(BODY.encode())
    assert call("--secret", SECRET.text, *headers(), "--body", f"@{file}")[0] == 0
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(BODY.encode())))
    assert call("--secret", SECRET.text, *headers(), "--body", "-")[0] == 0


@pytest.mark.parametrize(
    ("stated", "body", "said"),
    [
        (lambda: headers(secret=Secret(b"o" * 24)), BODY, "no signature matches: either the secret is another one, or"),
        (headers, BODY + " ", "no signature matches"),
        (headers, BODY + "\n", "the body given here ends in a line break that the signed one does not have"),
        (lambda: headers(body=BODY + "\n"), BODY + "\n\n", "no signature matches"),
        (lambda: headers(age=3600)[:4] + headers()[4:], BODY, "no signature matches"),
        (lambda: headers(age=3600), BODY, " s old; 300 s are allowed: check the receiver's clock"),
        (lambda: headers(age=3600), BODY, "The signature itself is right"),
        (lambda: headers(age=-3600), BODY, " s in the future"),
        (lambda: ["--id", "a", "--timestamp", "soon", "--signature", "v1,x"], BODY, "'soon' is not a whole number"),
        (lambda: [*headers()[:4], "--signature", "sha256=abc"], BODY, "holds no part that starts with 'v1,'"),
    ],
)
def test_what_is_off_is_told_with_exit_code_1(
    call: Call, stated: Callable[[], list[str]], body: str, said: str
) -> None:
    code, out, err = call("--secret", SECRET.text, *stated(), "--body", body)
    assert (code, out) == (1, "")
    assert err.startswith("notifier: not valid: ")
    assert said in err
    assert SECRET.text not in err


def test_an_old_timestamp_passes_with_more_tolerance(call: Call) -> None:
    assert call("--secret", SECRET.text, *headers(age=3600), "--body", BODY, "--tolerance", "7200")[0] == 0


@pytest.mark.parametrize(("body", "valid"), [(BODY, True), ("{}", False)])
def test_programs_get_json(call: Call, body: str, valid: bool) -> None:
    code, out, err = call("--secret", SECRET.text, *headers(), "--body", body, "--json")
    answer = json.loads(out)
    assert (code, answer["valid"], answer["problem"] is None, err) == (0 if valid else 1, valid, valid, "")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--secret", "hunter2", *headers(), "--body", BODY], 2, "a signing secret starts with 'whsec_'"),
        ([*headers(), "--body", BODY], 2, "give the secret that signs, or set NOTIFIER_SIGNING_SECRET"),
        (["--secret", SECRET.text, *headers(), "--body", "@/nonexistent/body"], 1, "/nonexistent/body cannot be read"),
        (["--secret", SECRET.text, *headers()], 2, "--body"),
    ],
)
def test_what_cannot_be_checked_is_told(call: Call, arguments: list[str], code: int, said: str) -> None:
    ended, out, err = call(*arguments)
    assert (ended, out) == (code, "")
    assert said in err
    assert "hunter2" not in err
