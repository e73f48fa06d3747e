"""Where settings come from, which source wins, and what is said when they are wrong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from notifier.domain.acknowledgement import AckRule
from notifier.domain.ladder import PRESETS
from notifier.errors import ConfigurationError
from notifier.settings import Settings, load
from notifier.sources import traced

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


# Which source wins


def test_without_anything_every_setting_has_its_default() -> None:
    settings = load()
    assert settings.amqp_urls == ()
    assert settings.secrets == ()
    assert settings.namespace == "notifier"
    assert settings.delay == "native"
    assert settings.default_ladder == PRESETS["default"]
    assert [tier.name for tier in settings.tiers] == ["1s", "3s", "5s", "15s", "30s"]
    assert settings.ack_rule == AckRule()
    assert settings.egress.timeout == 10
    assert settings.egress.networks == ()
    assert (settings.log.level, settings.log.format) == ("info", "console")
    assert settings.payload_limit == 256 * 1024


FILE = "prefetch = 11\n[egress]\ntimeout = 11\n"
ENVIRONMENT = {"NOTIFIER_PREFETCH": "12", "NOTIFIER_EGRESS__TIMEOUT": "12"}
FLAGS = {"prefetch": 13, "egress": {"timeout": 13}}


@pytest.mark.parametrize(
    ("file", "environment", "flags", "wins"),
    [
        (FILE, {}, {}, 11),
        (FILE, ENVIRONMENT, {}, 12),
        (FILE, ENVIRONMENT, FLAGS, 13),
        (FILE, {}, FLAGS, 13),
        ("", ENVIRONMENT, FLAGS, 13),
        (FILE, ENVIRONMENT, {"prefetch": None, "egress": {"timeout": None}}, 12),
        (FILE, {"NOTIFIER_PREFETCH": "", "NOTIFIER_EGRESS__TIMEOUT": ""}, {}, 11),
    ],
)
def test_a_flag_wins_over_the_environment_over_the_file(
    file: str, environment: dict[str, str], flags: dict[str, Any], wins: int
) -> None:
    write(file)
    settings = load(flags, environment=environment)
    assert settings.prefetch == wins
    assert settings.egress.timeout == wins


def test_sources_add_up_setting_by_setting() -> None:
    write('delay = "plugin"\n[egress]\nallow = "127.0.0.0/8"\n[ladders]\nnight = "1h"\n')
    settings = load(
        {"egress": {"answer_limit": 5}},
        environment={"NOTIFIER_EGRESS__TIMEOUT": "3", "NOTIFIER_LADDERS__NOON": "2h"},
    )
    assert settings.delay == "plugin"
    assert (settings.egress.allow, settings.egress.timeout, settings.egress.answer_limit) == ("127.0.0.0/8", 3, 5)
    assert settings.ladders == {"night": "1h", "noon": "2h"}


def test_an_empty_value_counts_as_not_set_in_the_environment_and_in_the_file() -> None:
    write('signing_secret = ""\nladder = ""\n[egress]\nallow = ""\n')
    settings, origins = traced(environment={"NOTIFIER_AMQP_URL": "", "NOTIFIER_CALLBACK": ""})
    assert settings == load(environment={}, file=None) == Settings()
    assert origins == {}


def test_the_environment_of_the_process_is_read_if_no_other_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFIER_NAMESPACE", "shop")
    assert load().namespace == "shop"


def test_other_variables_are_none_of_our_business() -> None:
    assert load(environment={"PATH": "/bin", "MYNOTIFIER_DELAY": "x", "NOTIFIERDELAY": "x"}) == Settings()


def test_where_each_value_came_from_is_told() -> None:
    write("prefetch = 5\nnamespace = 'x'\n")
    _, origins = traced(
        {"drain_timeout": 1, "callback": None}, environment={"NOTIFIER_NAMESPACE": "y", "NOTIFIER_LOG__LEVEL": "debug"}
    )
    assert {name: (origin.kind, origin.place) for name, origin in origins.items()} == {
        "prefetch": ("file", "notifier.toml"),
        "namespace": ("environment", "NOTIFIER_NAMESPACE"),
        "log.level": ("environment", "NOTIFIER_LOG__LEVEL"),
        "drain_timeout": ("flag", ""),
    }


# The file


def test_another_file_is_read_if_the_environment_names_it(tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text("prefetch = 7")
    write("prefetch = 5")
    assert load(environment={"NOTIFIER_CONFIG": str(other)}).prefetch == 7
    assert load(environment={}, file=other).prefetch == 7
    assert load(environment={"NOTIFIER_CONFIG": ""}).prefetch == 5


def test_a_file_that_was_asked_for_must_exist() -> None:
    assert refusal({"NOTIFIER_CONFIG": "/nowhere/n.toml"}) == "the settings file /nowhere/n.toml does not exist"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"delay = ", "notifier.toml is not valid TOML"),
        (b"delay = 'native'\ndelay = 'plugin'", "notifier.toml is not valid TOML"),
        (b"namespace = '\xff'", "notifier.toml is not valid TOML"),
    ],
)
def test_a_file_that_is_no_toml_is_refused_saying_where(content: bytes, reason: str) -> None:
    Path("notifier.toml").write_bytes(content)
    assert reason in refusal()


def test_a_file_that_cannot_be_read_is_refused_saying_why() -> None:
    Path("notifier.toml").mkdir()
    assert refusal() == "notifier.toml cannot be read: Is a directory"


# Unknown settings


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("NOTIFIER_AMQP_ULR", "unknown setting NOTIFIER_AMQP_ULR: did you mean NOTIFIER_AMQP_URL?"),
        ("NOTIFIER_EGRESS_ALLOW", "unknown setting NOTIFIER_EGRESS_ALLOW: did you mean NOTIFIER_EGRESS__ALLOW?"),
        ("NOTIFIER_LOG__LEVL", "unknown setting NOTIFIER_LOG__LEVL: did you mean NOTIFIER_LOG__LEVEL?"),
        ("NOTIFIER_DELAY__X", "unknown setting NOTIFIER_DELAY__X: did you mean NOTIFIER_DELAY?"),
        (
            "NOTIFIER_EGRESS__ALLOW__X",
            "unknown setting NOTIFIER_EGRESS__ALLOW__X: did you mean NOTIFIER_EGRESS__ALLOW?",
        ),
        ("NOTIFIER_QQQ", "unknown setting NOTIFIER_QQQ: `notifier config` lists all there are"),
        ("NOTIFIER_", "unknown setting NOTIFIER_: `notifier config` lists all there are"),
        ("NOTIFIER_LADDERS", "unknown setting NOTIFIER_LADDERS: that is a section, holding NOTIFIER_LADDERS__NAME"),
        (
            "NOTIFIER_LOG",
            "unknown setting NOTIFIER_LOG: that is a section, holding NOTIFIER_LOG__LEVEL, NOTIFIER_LOG__FORMAT",
        ),
    ],
)
@pytest.mark.parametrize("value", ["1", ""])
def test_an_unknown_variable_is_refused_by_name_with_a_suggestion(variable: str, said: str, value: str) -> None:
    assert refusal({variable: value}) == said


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("amqp_ulr = 'x'", "unknown setting amqp_ulr in notifier.toml: did you mean amqp_url?"),
        ("AMQP_URL = 'x'", "unknown setting AMQP_URL in notifier.toml: `notifier config` lists all there are"),
        ("[egress]\nalow = 'x'", "unknown setting egress.alow in notifier.toml: did you mean egress.allow?"),
        ("[egres]\nallow = 'x'", "unknown setting egres.allow in notifier.toml: did you mean egress.allow?"),
        ("egres = 1", "unknown setting egres in notifier.toml: did you mean egress?"),
        ("ladders = '1s'", "unknown setting ladders in notifier.toml: that is a section, holding ladders.NAME"),
        ("[delay]\nx = 1", "unknown setting delay.x in notifier.toml: did you mean delay?"),
    ],
)
def test_an_unknown_key_in_the_file_is_refused_by_name_with_a_suggestion(toml: str, said: str) -> None:
    write(toml)
    assert refusal() == said


def test_all_unknown_settings_are_told_at_once() -> None:
    write("qqq = 1\n[log]\nzzz = 2")
    assert [line.split(":")[0] for line in refusal({"NOTIFIER_XXX": "1"}).splitlines()] == [
        "unknown setting qqq in notifier.toml",
        "unknown setting log.zzz in notifier.toml",
        "unknown setting NOTIFIER_XXX",
    ]


# Values


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("NOTIFIER_PREFETCH", "many", "NOTIFIER_PREFETCH is 'many': Input should be a valid integer"),
        ("NOTIFIER_PREFETCH", "0", "NOTIFIER_PREFETCH is '0': Input should be greater than or equal to 1"),
        ("NOTIFIER_PREFETCH", "2001", "less than or equal to 2000 (notifications a tier process works on at once)"),
        ("NOTIFIER_EGRESS__TIMEOUT", "0", "NOTIFIER_EGRESS__TIMEOUT is '0': Input should be greater than 0"),
        ("NOTIFIER_EGRESS__TIMEOUT", "nan", "NOTIFIER_EGRESS__TIMEOUT is 'nan'"),
        ("NOTIFIER_DELAY", "Native", "NOTIFIER_DELAY is 'Native': Input should be 'native' or 'plugin'"),
        ("NOTIFIER_LOG__FORMAT", "xml", "NOTIFIER_LOG__FORMAT is 'xml': Input should be 'console' or 'json'"),
        ("NOTIFIER_NAMESPACE", "a b", "NOTIFIER_NAMESPACE is 'a b'"),
        ("NOTIFIER_NAMESPACE", "notifier\n", "NOTIFIER_NAMESPACE is 'notifier\\n'"),
        ("NOTIFIER_CALLBACK", "shop.notify", "package.module:function of your own"),
        ("NOTIFIER_ACK", "body", "NOTIFIER_ACK: 'body' is not an acknowledgement rule: write http"),
        ("NOTIFIER_LADDER", "nigth", "NOTIFIER_LADDER: tier 1 of ladder 'nigth'"),
        ("NOTIFIER_LADDER", "nigth", "or name one of: default, wechat, alipay, standard-webhooks"),
        ("NOTIFIER_LADDERS__NIGHT", "1h,2x", "NOTIFIER_LADDERS__NIGHT: tier 2 of ladder '1h,2x'"),
        ("NOTIFIER_LADDERS__5S", "1h", "NOTIFIER_LADDERS__5S: the name of a ladder is made of letters"),
        ("NOTIFIER_LADDERS__", "1h", "NOTIFIER_LADDERS__: the name of a ladder is made of letters"),
        ("NOTIFIER_EGRESS__ALLOW", "127.0.0.1/8", "127.0.0.1/8 has host bits set"),
        ("NOTIFIER_EGRESS__ALLOW", "10.0.0.0/8, home", "NOTIFIER_EGRESS__ALLOW: 'home' is not a network such as"),
        (
            "NOTIFIER_EGRESS__PORTS",
            "443,https",
            "NOTIFIER_EGRESS__PORTS: 'https' is not a port from 1 to 65535 such as",
        ),
        (
            "NOTIFIER_EGRESS__HTTPS_ONLY",
            "maybe",
            "NOTIFIER_EGRESS__HTTPS_ONLY is 'maybe': Input should be a valid bool",
        ),
        ("NOTIFIER_SIGNING_SECRET", "whsec_short", "NOTIFIER_SIGNING_SECRET: what follows 'whsec_'"),
        ("NOTIFIER_SIGNING_SECRET", f"{SECRET},x", "NOTIFIER_SIGNING_SECRET: a signing secret starts with 'whsec_'"),
    ],
)
def test_a_bad_value_is_refused_naming_the_variable(variable: str, value: str, said: str) -> None:
    assert said in refusal({variable: value})


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("prefetch = 'many'", "prefetch in notifier.toml is 'many'"),
        ("prefetch = 1.5", "prefetch in notifier.toml is 1.5"),
        ("[egress]\ntimeout = 'x'", "egress.timeout in notifier.toml is 'x'"),
        ("[ladders]\nnight = 5", "ladders.night in notifier.toml is 5: Input should be a valid string"),
        ("[ladders]\nnight = '5x'", "ladders.night in notifier.toml: tier 1 of ladder '5x'"),
        ("[ladders]\n'5s' = '5s'", "ladders.5s in notifier.toml: the name of a ladder"),
        ("[[egress]]\nallow = 'x'", "unknown setting egress in notifier.toml: that is a section"),
    ],
)
def test_a_bad_value_in_the_file_is_refused_naming_the_key_and_the_file(toml: str, said: str) -> None:
    write(toml)
    assert said in refusal()


def test_all_bad_values_are_told_at_once_each_where_it_stands() -> None:
    write("prefetch = 0\nladder = 'x'")
    said = refusal({"NOTIFIER_PREFETCH": "0", "NOTIFIER_ACK": "x"}).splitlines()
    assert [line.partition(":")[0] for line in said] == [
        "ladder in notifier.toml",
        "NOTIFIER_ACK",
        "NOTIFIER_PREFETCH is '0'",
    ]


def test_a_bad_flag_is_refused_by_the_name_of_its_setting() -> None:
    assert refusal(prefetch=0).startswith("setting prefetch is 0: ")
