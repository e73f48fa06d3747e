"""What settings mean: addresses, ladders, secrets that never show, and the transfer to a child."""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from notifier.domain.ladder import PRESETS
from notifier.errors import ConfigurationError
from notifier.settings import Settings, load, without_password
from notifier.sources import known, traced

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLDER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in [name for name in os.environ if name.startswith("NOTIFIER_")]:
        monkeypatch.delenv(variable)


def write(text: str) -> None:
    Path("notifier.toml").write_text(text, encoding="utf-8")


def refusal(environment: dict[str, str] | None = None, **overrides: Any) -> str:
    with pytest.raises(ConfigurationError) as refused:
        load(overrides, environment=environment or {})
    assert refused.value.exit_code == 78
    return str(refused.value)


# The broker's addresses


@pytest.mark.parametrize(
    ("value", "urls"),
    [
        ("amqp://localhost", ("amqp://localhost",)),
        ("amqp://u:p@h:5673/vhost", ("amqp://u:p@h:5673/vhost",)),
        (" amqp://a/ , amqps://b/ ,", ("amqp://a/", "amqps://b/")),
        ("amqp://u:p%2C%40@[::1]:5672/%2F?heartbeat=5", ("amqp://u:p%2C%40@[::1]:5672/%2F?heartbeat=5",)),
    ],
)
def test_broker_addresses_are_separated_by_commas(value: str, urls: tuple[str, ...]) -> None:
    assert load(environment={"NOTIFIER_AMQP_URL": value}).amqp_urls == urls


def test_lists_may_be_lists_in_the_file() -> None:
    write(
        f"amqp_url = ['amqp://a', 'amqp://b']\nsigning_secret = ['{SECRET}', '{OLDER}']\nladder = ['2s', '4s']\n"
        "[egress]\nallow = ['127.0.0.0/8', '::1/128']\n[ladders]\nnight = ['1h', '2h']\n"
    )
    settings = load(environment={})
    assert settings.amqp_urls == ("amqp://a", "amqp://b")
    assert [secret.text for secret in settings.secrets] == [SECRET, OLDER]
    assert str(settings.default_ladder) == "2s,4s"
    assert settings.egress.networks == (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
    assert str(settings.named_ladders["night"]) == "1h,2h"


@pytest.mark.parametrize(
    ("written", "ports"),
    [
        ("'443,8000-8999'", ((443, 443), (8000, 8999))),
        ("443", ((443, 443),)),
        ("[443, '8000-8999']", ((443, 443), (8000, 8999))),
        ("[]", ()),
        ("''", ()),
    ],
)
def test_ports_may_be_numbers_in_the_file(written: str, ports: tuple[tuple[int, int], ...]) -> None:
    write(f"[egress]\nhttps_only = true\nports = {written}\n")
    settings = load(environment={})
    assert (settings.egress.urls.https_only, settings.egress.urls.ports) == (True, ports)
    assert Settings.received(settings.transferable()) == settings


@pytest.mark.parametrize("written", ["443.5", "true", "[443, true]", "[443, [80]]", "{ from = 1 }", "0", "'80-79'"])
def test_what_are_no_ports_is_refused(written: str) -> None:
    write(f"[egress]\nports = {written}\n")
    assert "egress.ports" in refusal()


def test_without_a_setting_any_scheme_and_any_port_will_do() -> None:
    urls = load(environment={}).egress.urls
    assert (urls.https_only, urls.ports) == (False, ())


@pytest.mark.parametrize("value", ["1", "true", "yes", "on"])
def test_https_only_is_switched_on_by_a_variable(value: str) -> None:
    assert load(environment={"NOTIFIER_EGRESS__HTTPS_ONLY": value}).egress.urls.https_only


@pytest.mark.parametrize(
    "address",
    [
        "localhost:5672",
        "http://u:hunter2@h/",
        "amqp://",
        "amqp:///vhost",
        "amqp://u:hunter2@",
        "amqp://u:hunter2@h:port/",
        "amqp://u:hunter2@h:0/",
        "amqp://u:hunter2@h:99999/",
        "amqp://u:hunter2/@h/",
        "amqp://u:12/hunter2@h/",
        "amqp://u:hunter2,x@h/",
        "amqp://u:hunter2@[::1/",
        "amqp://u:hunter2@h\u2100/",
        "amqp://good/,amqp://u:hunter2@",
    ],
)
def test_what_is_no_broker_address_is_refused_without_repeating_it(address: str) -> None:
    said = refusal({"NOTIFIER_AMQP_URL": address})
    assert said.startswith("NOTIFIER_AMQP_URL: each address must look like amqp://user:password@host:5672/")
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://h:5672/", "amqp://h:5672/"),
        ("amqp://u@h/", "amqp://u@h/"),
        ("amqp://u:hunter2@h:5672/vhost?heartbeat=5", "amqp://u:***@h:5672/vhost?heartbeat=5"),
        ("amqp://u:@h/", "amqp://u:***@h/"),
        ("amqp://:hunter2@h/", "amqp://:***@h/"),
        ("amqp://u:hunt@er2@h/", "amqp://u:***@h/"),
        ("amqp://u:hunt/er2@h/", "amqp://u:***@h/"),
        ("amqp://u:h@h/", "amqp://u:***@h/"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown


# Ladders


def test_the_tiers_are_those_of_all_configured_ladders_shortest_first() -> None:
    settings = load(
        environment={"NOTIFIER_LADDER": "10s,1m", "NOTIFIER_LADDERS__A": "0s,60s", "NOTIFIER_LADDERS__B": "90s"}
    )
    assert [tier.name for tier in settings.tiers] == ["0s", "10s", "1m", "1m30s"]


def test_the_default_ladder_may_be_a_preset_a_name_of_ones_own_or_spelled_out() -> None:
    assert load(environment={"NOTIFIER_LADDER": "alipay"}).default_ladder == PRESETS["alipay"]
    mine = {"NOTIFIER_LADDERS__NIGHT": "1h,2h", "NOTIFIER_LADDER": "night"}
    assert str(load(environment=mine).default_ladder) == "1h,2h"
    assert str(load(environment={"NOTIFIER_LADDER": "2s 4s"}).default_ladder) == "2s,4s"


def test_a_ladder_of_ones_own_may_stand_in_for_a_preset() -> None:
    settings = load(environment={"NOTIFIER_LADDERS__DEFAULT": "2s", "NOTIFIER_LADDERS__NIGHT": "wechat"})
    assert str(settings.default_ladder) == "2s"
    assert settings.named_ladders["night"] == PRESETS["wechat"]


# Secrets


SECRETIVE = {
    "NOTIFIER_AMQP_URL": "amqp://u:hunter2@a/,amqp://v:hunter2@b/",
    "NOTIFIER_SIGNING_SECRET": f"{SECRET},{OLDER}",
}


def test_secrets_are_read_newest_first() -> None:
    assert [secret.text for secret in load(environment=SECRETIVE).secrets] == [SECRET, OLDER]


def test_no_way_of_looking_at_settings_shows_a_secret_but_the_transfer() -> None:
    settings = load(environment=SECRETIVE)
    assert settings.secrets
    assert settings.ack_rule
    for shown in (
        repr(settings),
        str(settings),
        repr(settings.__dict__),
        repr(settings.model_dump()),
        settings.model_dump_json(),
        repr(settings.masked()),
        repr(traced(environment=SECRETIVE)),
    ):
        assert "hunter2" not in shown
        assert "MfKQ9r8" not in shown
        assert "C2FVsBQ" not in shown


def test_masked_settings_keep_what_is_no_secret() -> None:
    masked = load(environment=SECRETIVE).masked()
    assert masked["amqp_url"] == "amqp://u:***@a/,amqp://v:***@b/"
    assert masked["signing_secret"] == "whsec_***,whsec_***"
    assert masked["egress"]["timeout"] == 10


@pytest.mark.parametrize("toml", [f"signing_secret = ['{SECRET}', 5]", "amqp_url = {a = 'hunter2'}", "amqp_url = 5"])
def test_an_error_about_a_secret_of_the_wrong_type_does_not_repeat_it(toml: str) -> None:
    write(toml)
    said = refusal()
    assert "MfKQ9r8" not in said
    assert "hunter2" not in said


# Transfer to a child


def test_a_child_receives_exactly_the_settings_that_were_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    write("prefetch = 5\n[ladders]\nnight = '1h'\n[egress]\nallow = ['127.0.0.0/8']")
    settings = load(environment=SECRETIVE)
    monkeypatch.setenv("NOTIFIER_PREFETCH", "9")
    received = Settings.received(settings.transferable())
    assert received == settings
    assert received.amqp_urls == settings.amqp_urls
    assert received.secrets == settings.secrets
    assert received.tiers == settings.tiers


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load(environment={}).prefetch = 5


# What is promised about the module


def test_every_setting_is_documented() -> None:
    assert all(len(meaning) > 10 for meaning in known().values())
    fixed = ("amqp_url", "namespace", "delay", "ladder", "signing_secret", "ack")  # DESIGN §8
    assert {*fixed, "egress.allow", "egress.timeout", "log.level", "log.format"} <= set(known())


def test_a_process_that_only_receives_settings_imports_neither_toml_nor_the_sources() -> None:
    program = (
        "import sys, notifier.settings; print([m for m in ('tomllib', 'notifier.sources', 'rich') if m in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert loaded.stdout == "[]\n"
