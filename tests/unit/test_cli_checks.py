"""What the doctor finds on this machine alone."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from notifier.broker.probe import Greeting
from notifier.cli import checks
from notifier.domain.signature import Secret
from notifier.settings import Settings

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

NOW = datetime(2026, 11, 21, 9, 48, 15, tzinfo=UTC)


def settings(**given: object) -> Settings:
    return Settings.received(given)


def test_a_missing_secret_fails_and_a_fresh_one_is_offered() -> None:
    found = checks.secret(settings())
    assert found.level == "fail"
    assert found.remedy is not None
    offered = found.remedy.removeprefix("export NOTIFIER_SIGNING_SECRET=").split()[0]
    assert len(Secret.parse(offered).key) == 32
    assert checks.secret(settings()).remedy != found.remedy


def test_secrets_that_sign_together_are_counted_and_never_shown() -> None:
    found = checks.secret(settings(signing_secret=f"{SECRET},{SECRET}"))
    assert (found.level, found.said) == ("ok", "webhooks are signed: 2 secrets sign together")


def test_a_callback_of_ones_own_needs_no_secret() -> None:
    assert checks.secret(settings(callback="a:b")).level == "ok"


@pytest.mark.parametrize(
    ("allow", "level", "said"),
    [
        ("", "ok", "globally reachable addresses only"),
        ("10.1.0.0/16", "ok", "also reach 10.1.0.0/16"),
        ("127.0.0.0/8", "warn", "127.0.0.0/8 (this machine itself)"),
        (
            "10.0.0.0/8,127.0.0.1/32,::1/128",
            "warn",
            "127.0.0.1/32 (this machine itself), ::1/128 (this machine itself)",
        ),
        ("0.0.0.0/0", "warn", "0.0.0.0/0 (every address)"),
        ("::/0", "warn", "::/0 (every address)"),
        ("169.254.169.254/32", "warn", "169.254.169.254/32 (link-local: the cloud's metadata service)"),
        ("126.0.0.0/7", "warn", "126.0.0.0/7 (this machine itself)"),
    ],
)
def test_holes_in_the_egress_guard_are_warned_of(allow: str, level: str, said: str) -> None:
    found = checks.egress(settings(egress={"allow": allow}))
    assert found.level == level
    assert said in found.said
    assert (found.remedy is None) == (level == "ok")


def test_what_urls_may_be_is_told() -> None:
    found = checks.egress(settings(egress={"https_only": True, "ports": "443,8000-8999"}))
    assert (
        found.said == "callbacks reach globally reachable addresses only, by https alone, on ports 443,8000-8999 alone"
    )


@pytest.mark.parametrize(
    ("text", "level", "said"),
    [
        ("async def call(notification): ...", "ok", "can be imported"),
        ("def call(notification): ...", "fail", "is not a coroutine function"),
        ("other = 1", "fail", "has no call"),
        ("import nowhere_at_all", "fail", "cannot be imported: No module named 'nowhere_at_all'"),
        ("1 / 0", "fail", "raises ZeroDivisionError: division by zero"),
        ("def", "fail", "raises SyntaxError"),
    ],
)
def test_a_callback_is_imported_to_see_whether_it_can_be(
    text: str, level: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "doctored.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "doctored", raising=False)
    found = checks.callback(settings(callback="doctored:call"))
    monkeypatch.delitem(sys.modules, "doctored", raising=False)
    assert found.level == level
    assert said in found.said


@pytest.mark.parametrize(
    ("soft", "prefetch", "level"), [(264, 200, "ok"), (263, 200, "fail"), (-1, 2000, "ok"), (1024, 2000, "fail")]
)
def test_a_process_needs_a_file_for_each_callback_and_some_to_spare(soft: int, prefetch: int, level: str) -> None:
    assert checks.files(settings(prefetch=prefetch), soft).level == level


def test_the_remedy_for_too_few_files_is_one() -> None:
    found = checks.files(settings(prefetch=2000), 1024)
    assert found.remedy == "ulimit -n 2064 (systemd: LimitNOFILE=2064), or NOTIFIER_PREFETCH=960"
    assert checks.files(settings(prefetch=2000), 2064).level == "ok"
    assert checks.files(settings(prefetch=960), 1024).level == "ok"


def test_a_clock_before_this_program_was_written_cannot_be_right() -> None:
    found = checks.clock(datetime(1970, 1, 1, 0, 3, tzinfo=UTC), 0.0)
    assert found.level == "fail"
    assert "1970-01-01 00:03:00 UTC" in found.said
    assert checks.clock(datetime.now(UTC), 0.0).level == "ok"


@pytest.mark.parametrize(
    ("apart", "level", "said"),
    [
        (0.0, "ok", "agrees to the second"),
        (None, "ok", "the broker's is not known"),
        (0.9, "ok", "agrees to the second"),
        (7.2, "warn", "the broker's is 7 s ahead of it"),
        (-3600.0, "warn", "the broker's is 3600 s behind it"),
    ],
)
def test_a_broker_whose_clock_is_another_is_warned_of(apart: float | None, level: str, said: str) -> None:
    found = checks.clock(NOW, apart)
    assert found.level == level
    assert said in found.said


@pytest.mark.parametrize(
    ("version", "delay", "level"),
    [
        ("3.9.29", "native", "fail"),
        ("3.10.0", "native", "ok"),
        ("3.13.7", "plugin", "ok"),
        ("4.2.1", "plugin", "ok"),
        ("4.3.0", "plugin", "fail"),
        ("4.3.0", "native", "ok"),
        ("4.10.0-rc.1", "native", "ok"),
        ("unheard of", "native", "ok"),
    ],
)
def test_a_broker_of_the_wrong_release_fails(version: str, delay: str, level: str) -> None:
    release = Greeting("RabbitMQ", version, 0.01).release
    assert checks.release(settings(delay=delay), f"RabbitMQ {version}", release).level == level
