"""Every knob, typed and documented, in one place.

Order: a command's flag over the environment over `notifier.toml` over the default. Names in the environment are
`NOTIFIER_` and the setting in capitals; a setting inside a section has two underscores (`NOTIFIER_EGRESS__ALLOW`).
Lists are written with commas. Unknown settings are refused by name, in the file and in the environment.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_serializer, field_validator
from pydantic import model_validator as whole
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from notifier.domain.acknowledgement import AckRule
from notifier.domain.ladder import PRESETS, Ladder, named
from notifier.domain.signature import Secret
from notifier.domain.tier import Tier
from notifier.errors import ConfigurationError, InvalidInput

PREFIX = "NOTIFIER_"
FILE = "notifier.toml"
#: Names another path for the file than `notifier.toml` in the working directory. Not a setting itself.
FILE_VARIABLE = "NOTIFIER_CONFIG"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Egress(BaseModel):
    """Where callbacks may go, and how long they may take."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    allow: str = Field("", description="CIDRs let through the guard against internal addresses, comma-separated")
    timeout: float = Field(10, gt=0, le=600, description="seconds for a whole callback, from connecting to the answer")
    connect_timeout: float = Field(5, gt=0, le=600, description="seconds for resolving, connecting and TLS")
    answer_limit: int = Field(65_536, ge=1, le=1_048_576, description="bytes read of a merchant's answer")

    @field_validator("allow")
    @classmethod
    def _cidrs(cls, text: str) -> str:
        for part in filter(None, (part.strip() for part in text.split(","))):
            try:
                ipaddress.ip_network(part)
            except ValueError as error:
                raise ValueError(f"{part!r} is not a network such as 127.0.0.0/8 or ::1/128: {error}") from None
        return text

    @property
    def networks(self) -> tuple[Network, ...]:
        """`allow`, parsed."""
        return tuple(ipaddress.ip_network(part.strip()) for part in self.allow.split(",") if part.strip())


class Log(BaseModel):
    """What is told on stderr."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")
    format: Literal["console", "json"] = Field("console", description="console for people, json for programs")


class Settings(BaseSettings):
    """The effective settings of one process. Read them with `load`, which explains what is wrong."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, ignored_types=(cached_property,)
    )

    amqp_url: SecretStr | None = Field(
        None, description="amqp:// or amqps:// address of RabbitMQ; several, comma-separated, are tried in turn"
    )
    namespace: str = Field(
        "notifier", pattern=r"^[A-Za-z0-9_-]{1,64}$", description="first part of every name on the broker"
    )
    delay: Literal["native", "plugin"] = Field("native", description="what holds a waiting notification")
    ladder: str = Field("default", description="the default ladder: a preset, a name in [ladders], or 1s,3s,5s")
    ladders: dict[str, str] = Field(default_factory=dict, description="further ladders by name")
    signing_secret: SecretStr | None = Field(
        None, description="whsec_…; several, comma-separated and newest first, sign together while one is rotated"
    )
    ack: str = Field("http", description="what acknowledges: http, body=success or json:code=SUCCESS")
    callback: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        description="package.module:function of your own, async (notification) -> Outcome, instead of the webhook",
    )
    payload_limit: int = Field(262_144, ge=1, le=16_777_216, description="bytes of a payload that are accepted")
    prefetch: int = Field(200, ge=1, le=2000, description="notifications a tier process works on at once")
    drain_timeout: float = Field(25, ge=0, le=3600, description="seconds that running callbacks get on shutdown")
    connect_timeout: float = Field(10, gt=0, le=600, description="seconds a command tries to reach the broker")
    egress: Egress = Egress()
    log: Log = Log()

    @field_validator("amqp_url")
    @classmethod
    def _broker_addresses(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        for address in value.get_secret_value().split(","):
            parts = urlsplit(address.strip())
            if parts.scheme not in ("amqp", "amqps") or not parts.hostname:
                raise ValueError(
                    "each address must look like amqp://user:password@host:5672/ (or amqps://); one does not"
                )
        return value

    @field_validator("ladders")
    @classmethod
    def _ladder_names(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,63}", name):
                raise ValueError(f"{name!r} cannot name a ladder: letters, digits, _ and -, a letter first")
        return value

    @whole(mode="after")
    def _parsed(self) -> Settings:
        for where, parse in (
            ("ladders", lambda: self.named_ladders),
            ("ladder", lambda: self.default_ladder),
            ("ack", lambda: self.ack_rule),
            ("signing_secret", lambda: self.secrets),
        ):
            try:
                parse()
            except InvalidInput as error:
                raise ValueError(f"{where}: {error}") from None
        return self

    @field_serializer("amqp_url", "signing_secret", when_used="always")
    def _revealed(self, value: SecretStr | None) -> str | None:
        return None if value is None else value.get_secret_value()

    @property
    def amqp_urls(self) -> tuple[str, ...]:
        """The broker's addresses, in the order in which they are tried."""
        if self.amqp_url is None:
            return ()
        return tuple(part.strip() for part in self.amqp_url.get_secret_value().split(","))

    @cached_property
    def named_ladders(self) -> Mapping[str, Ladder]:
        """The ladders of the file by name, over the presets."""
        return {**PRESETS, **{name: named(text) for name, text in self.ladders.items()}}

    @cached_property
    def default_ladder(self) -> Ladder:
        """The ladder of a notification that names none."""
        return named(self.ladder, self.named_ladders)

    @cached_property
    def tiers(self) -> tuple[Tier, ...]:
        """All tiers of all configured ladders, shortest first: one process each."""
        configured = [self.default_ladder, *(named(text) for text in self.ladders.values())]
        return tuple(sorted({tier for ladder in configured for tier in ladder}))

    @cached_property
    def ack_rule(self) -> AckRule:
        """The rule that serves every merchant."""
        return AckRule.parse(self.ack)

    @cached_property
    def secrets(self) -> tuple[Secret, ...]:
        """Signing secrets, newest first; empty when none is set."""
        if self.signing_secret is None:
            return ()
        return tuple(Secret.parse(part) for part in self.signing_secret.get_secret_value().split(",") if part.strip())

    def transferable(self) -> dict[str, Any]:
        """Everything, secrets included, as JSON values: what a child process is given over its pipe."""
        return self.model_dump(mode="json")

    @classmethod
    def received(cls, transferred: Mapping[str, Any]) -> Settings:
        """The settings that `transferable` packed; this process's environment and files play no part."""
        return _Exact.model_validate(transferred)

    def masked(self) -> dict[str, Any]:
        """Everything as JSON values with secrets hidden: what `notifier config` shows."""
        shown = self.transferable()
        if self.signing_secret is not None:
            shown["signing_secret"] = ", ".join("whsec_***" for _ in self.secrets)
        if self.amqp_url is not None:
            shown["amqp_url"] = ", ".join(without_password(url) for url in self.amqp_urls)
        return shown


class _Exact(Settings):
    """Settings from given values alone."""

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, **_: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def load(
    overrides: Mapping[str, Any] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Settings:
    """The effective settings. overrides: flags of a command, nested like the file; None values do not count.

    Raises ConfigurationError with one line per problem: which setting, from where, what is wrong.
    """
    environment = os.environ if environment is None else environment
    path = file or Path(environment.get(FILE_VARIABLE, FILE))
    from_file = _read(path, required=file is not None or FILE_VARIABLE in environment)
    from_environment = _environment(environment)
    flags = {name: value for name, value in (overrides or {}).items() if value is not None}
    problems = _unknown(from_file, from_environment, str(path))
    if problems:
        raise ConfigurationError("\n".join(problems))
    merged = _merge(_merge(from_file, from_environment), flags)
    try:
        return _Exact.model_validate(merged)
    except ValidationError as error:
        raise ConfigurationError(_explain(error, from_environment, from_file, str(path))) from None


def without_password(url: str) -> str:
    """The address with its password hidden, fit for logs and errors."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return url.replace(f":{parts.password}@", ":***@", 1)


def _read(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if required:
            raise ConfigurationError(f"the settings file {path} does not exist") from None
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None


def _environment(environment: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for variable, value in environment.items():
        if not variable.startswith(PREFIX) or variable == FILE_VARIABLE:
            continue
        section, _, name = variable.removeprefix(PREFIX).lower().partition("__")
        if name:
            inner = found.setdefault(section, {})
            if isinstance(inner, dict):
                inner[name] = value
        else:
            found[section] = value
    return found


def _known() -> dict[str, dict[str, None] | None]:
    return {
        name: dict.fromkeys(field.annotation.model_fields)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        else None
        for name, field in Settings.model_fields.items()
    }


def _unknown(from_file: Mapping[str, Any], from_environment: Mapping[str, Any], path: str) -> list[str]:
    known = _known()
    spelled = [
        *(name for name, inner in known.items() if inner is None),
        *(f"{name}.{part}" for name, inner in known.items() if inner is not None for part in inner),
    ]
    problems = []
    for given, is_file in ((from_file, True), (from_environment, False)):
        for name, value in given.items():
            inner = known.get(name, {})
            if name not in known:
                bad = [f"{name}.{part}" for part in value] if isinstance(value, dict) and not is_file else [name]
            elif inner is not None and isinstance(value, dict):
                bad = [f"{name}.{part}" for part in value if part not in inner]
            elif inner is not None or (isinstance(value, dict) and name != "ladders"):
                bad = [name]
            elif name == "ladders" and not is_file:
                bad = [] if not isinstance(value, dict) else []
            else:
                bad = []
            problems += [_name_it(setting, spelled, path if is_file else None) for setting in bad]
    return problems


def _name_it(setting: str, known: list[str], path: str | None) -> str:
    def as_written(name: str) -> str:
        return name if path else PREFIX + name.upper().replace(".", "__")

    close = difflib.get_close_matches(setting, known, n=1)
    hint = f"did you mean {as_written(close[0])}?" if close else "notifier config lists the known ones"
    return f"unknown setting {as_written(setting)} in {path or 'the environment'}: {hint}"


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        merged[name] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _explain(
    error: ValidationError, from_environment: Mapping[str, Any], from_file: Mapping[str, Any], path: str
) -> str:
    lines = []
    for problem in error.errors(include_url=False, include_context=False):
        place = [str(part) for part in problem["loc"]]
        message = problem["msg"].removeprefix("Value error, ")
        if not place:  # a check over the whole names its setting itself
            name, _, message = message.partition(": ")
            place = [name]
        setting = ".".join(place)
        if _holds(from_environment, place):
            origin = PREFIX + "__".join(place).upper()
        elif _holds(from_file, place):
            origin = f"{setting} in {path}"
        else:
            origin = f"setting {setting}"
        lines.append(f"{origin}: {message}")
    return "\n".join(lines)


def _holds(given: Any, place: list[str]) -> bool:
    for part in place:
        if not isinstance(given, Mapping) or part not in given:
            return False
        given = given[part]
    return True
