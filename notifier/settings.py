"""Every knob, typed and documented, in one place. Where the values come from is the matter of `sources`.

Plain pydantic models, since every tier process loads this module.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    SerializationInfo,
    ValidationInfo,
    field_serializer,
    field_validator,
)

from notifier import runtime
from notifier.domain.acknowledgement import AckRule
from notifier.domain.ladder import PRESETS, Ladder, named
from notifier.domain.signature import Secret
from notifier.domain.tier import Tier
from notifier.sections import (
    REVEALED,
    Api,
    Breaker,
    CommaList,
    Egress,
    Isolation,
    Log,
    Operations,
    Retention,
    listed,
    parts,
)

#: These hold secrets: they are never shown.
SECRET = ("amqp_url", "signing_secret", "database_url")


def _broker_addresses(value: SecretStr) -> SecretStr:
    for address in parts(value.get_secret_value()):
        if not _is_broker_address(address):
            raise ValueError(  # without the address: it holds a password
                "each address must look like amqp://user:password@host:5672/ (or amqps://) and one does not; "
                "in a password, write a comma as %2C, a slash as %2F and an @ as %40"
            )
    return value


def _is_broker_address(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return parts.scheme in ("amqp", "amqps") and bool(parts.hostname) and parts.port != 0 and "@" not in parts.path
    except ValueError:
        return False


def _signing_secrets(value: SecretStr) -> SecretStr:
    for part in parts(value.get_secret_value()):
        Secret.parse(part)
    return value


def _ladder(text: str) -> str:
    named(text)
    return text


def _ladder_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,63}", text):
        raise ValueError("the name of a ladder is made of letters, digits, _ and -, a letter first")
    return text


def _ack(text: str) -> str:
    AckRule.parse(text)
    return text


def _modules(text: str) -> str:
    for part in parts(text):
        if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", part):
            raise ValueError(f"{part!r} is not a module such as package.module")
    return text


def _database_address(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    try:
        parts = urlsplit(text)
        good = (parts.scheme in ("postgresql", "postgres") and parts.port != 0) or (
            parts.scheme == "sqlite" and text.startswith("sqlite:////")
        )
    except ValueError:
        good = False
    if not good:
        raise ValueError(  # without the address: it holds a password
            "it must look like postgresql://user:password@host:5432/database, or sqlite:////var/lib/notifier/ledger.db "
            "(four slashes: the path is absolute); in a password, write an @ as %40 and a slash as %2F"
        )
    return value


def _default_state_dir(others: Mapping[str, Any]) -> str:
    namespace = others.get("namespace", runtime.NAMESPACE)
    return str(runtime.default_state(namespace, os.environ, os.geteuid()))


def _default_runtime_dir(others: Mapping[str, Any]) -> str:
    namespace = others.get("namespace", runtime.NAMESPACE)  # not there if it is wrong itself, and told about
    return str(runtime.default(namespace, os.environ, os.geteuid()))


SecretList = Annotated[SecretStr, BeforeValidator(listed)]


class Settings(BaseModel):
    """The effective settings of one process. Read them with `load`, which explains what is wrong."""

    model_config = ConfigDict(extra="forbid", frozen=True, ignored_types=(cached_property,))

    amqp_url: Annotated[SecretList, AfterValidator(_broker_addresses)] | None = Field(
        default=None, description="amqp:// or amqps:// address of RabbitMQ; several, comma-separated, are tried in turn"
    )
    namespace: str = Field(
        default=runtime.NAMESPACE, pattern=runtime.NAMESPACES, description="first part of every name on the broker"
    )
    delay: Literal["native", "plugin"] = Field(default="native", description="what holds a waiting notification")
    ladders: dict[Annotated[str, AfterValidator(_ladder_name)], Annotated[CommaList, AfterValidator(_ladder)]] = Field(
        default_factory=dict, description="further ladders by name"
    )
    ladder: CommaList = Field(
        default="default", description="the default ladder: a preset, a name in [ladders], or 1s,3s,5s"
    )
    partitions: int = Field(
        default=1,
        ge=1,
        le=64,  # broker/topology.py MOST_PARTITIONS
        description="work queues, and processes, of each tier; the namespace's: see `notifier topology partitions`",
    )
    strict_order: bool = Field(
        default=False,
        description="one callback at a time per merchant and tier, in order of their moments; needs partitions",
    )
    signing_secret: Annotated[SecretList, AfterValidator(_signing_secrets)] | None = Field(
        default=None,
        description="whsec_…; several, comma-separated and newest first, sign together while one is rotated",
    )
    ack: Annotated[str, AfterValidator(_ack)] = Field(
        default="http", description="what acknowledges: http, body=success or json:code=SUCCESS"
    )
    callback: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        description="package.module:function of your own, async (notification) -> Outcome, instead of the webhook",
    )
    extensions: Annotated[CommaList, AfterValidator(_modules)] = Field(
        default="", description="modules of your own, comma-separated, that register handlers, hooks and schedules"
    )
    # at most what still fits a fact, in base64, into the 16 MiB that RabbitMQ 4 allows a message
    payload_limit: int = Field(default=262_144, ge=1, le=8_388_608, description="bytes of a payload that are accepted")
    prefetch: int = Field(default=200, ge=1, le=2000, description="notifications a tier process works on at once")
    drain_timeout: float = Field(
        default=25.0, ge=0, le=3600, description="seconds that running callbacks get on shutdown"
    )
    connect_timeout: float = Field(
        default=10.0, gt=0, le=600, description="seconds a command tries to reach the broker"
    )
    runtime_dir: Annotated[str, AfterValidator(runtime.checked)] = Field(
        default_factory=_default_runtime_dir,
        description="directory of the control socket and of what operators set; one per service, absolute",
    )
    state_dir: Annotated[str, AfterValidator(runtime.checked)] = Field(
        default_factory=_default_state_dir,
        description="directory of the default database and of this machine's copy of the merchants; absolute",
    )
    database_url: Annotated[SecretStr, AfterValidator(_database_address)] | None = Field(
        default=None, description="postgresql://… or sqlite:////…; default: ledger.db in the state directory"
    )
    release_rate: float = Field(
        default=200, gt=0, le=10_000, description="notifications per second that are released or replayed at most"
    )
    machine: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = Field(
        default_factory=lambda: re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:64] or "machine",
        description="this machine's name among those of the namespace; one service per name",
    )
    api: Api = Field(default_factory=Api)
    retention: Retention = Field(default_factory=Retention)
    isolation: Isolation = Field(default_factory=Isolation)
    breaker: Breaker = Field(default_factory=Breaker)
    egress: Egress = Field(default_factory=Egress)
    operations: Operations = Field(default_factory=Operations)
    log: Log = Field(default_factory=Log)

    @field_validator("ladder")
    @classmethod
    def _is_a_ladder(cls, text: str, others: ValidationInfo) -> str:
        if "ladders" in others.data:  # else they are wrong themselves, and told about
            named(text, _with_presets(others.data["ladders"]))
        return text

    @field_validator("operations")
    @classmethod
    def _may_be_called(cls, section: Operations, others: ValidationInfo) -> Operations:
        if section.url is not None and "egress" in others.data:
            others.data["egress"].urls.check(section.url)  # else every event would be refused, one by one
        return section

    @field_validator("strict_order")
    @classmethod
    def _can_be_kept(cls, strict: bool, others: ValidationInfo) -> bool:
        if strict and others.data.get("partitions") == 1:
            raise ValueError(
                "the order of a merchant's notifications is kept only within a partition, which one process at a time "
                "serves on all machines: set partitions (NOTIFIER_PARTITIONS) to 2 or more"
            )
        return strict

    @field_serializer(*SECRET)
    def _secret(self, value: SecretStr | None, how: SerializationInfo) -> str | None:
        return None if value is None else value.get_secret_value() if how.context == REVEALED else str(value)

    @property
    def amqp_urls(self) -> tuple[str, ...]:
        """The broker's addresses, in the order in which they are tried; empty when none is set."""
        return () if self.amqp_url is None else parts(self.amqp_url.get_secret_value())

    @property
    def extension_modules(self) -> tuple[str, ...]:
        """`extensions`, in their order."""
        return tuple(dict.fromkeys(parts(self.extensions)))

    @property
    def database(self) -> str:
        """The ledger's database, password included."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.state_dir}/ledger.db"

    @cached_property
    def named_ladders(self) -> Mapping[str, Ladder]:
        """The ladders of the file by name, over the presets."""
        return _with_presets(self.ladders)

    @cached_property
    def default_ladder(self) -> Ladder:
        """The ladder of a notification that names none."""
        return named(self.ladder, self.named_ladders)

    @cached_property
    def tiers(self) -> tuple[Tier, ...]:
        """All tiers of all configured ladders, shortest first: one process each."""
        configured = [self.default_ladder, *(self.named_ladders[name] for name in self.ladders)]
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
        return tuple(Secret.parse(part) for part in parts(self.signing_secret.get_secret_value()))

    def transferable(self) -> dict[str, Any]:
        """Everything, secrets included, as JSON values: what a child process is given over its pipe."""
        return self.model_dump(mode="json", context=REVEALED)

    @classmethod
    def received(cls, transferred: Mapping[str, Any]) -> Settings:
        """The settings that `transferable` packed; this process's environment and files play no part."""
        return cls.model_validate(transferred)

    def masked(self) -> dict[str, Any]:
        """Everything as JSON values with secrets hidden: what `notifier config` shows."""
        shown = self.model_dump(mode="json")
        if self.signing_secret is not None:
            shown["signing_secret"] = ",".join("whsec_***" for _ in self.secrets)
        if self.amqp_url is not None:
            shown["amqp_url"] = ",".join(without_password(url) for url in self.amqp_urls)
        if self.database_url is not None:
            shown["database_url"] = without_password(self.database)
        return shown


def load(
    overrides: Mapping[str, Any] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Settings:
    """The effective settings. overrides: flags of a command, nested like the file; None values do not count.

    Raises ConfigurationError with one line per problem: which setting, from where, what is wrong.
    """
    from notifier.sources import traced  # here: it needs what is above, and tier processes never load

    return traced(overrides, environment=environment, file=file)[0]


def without_password(url: str) -> str:
    """The address with its password hidden, fit for logs and errors."""
    scheme, separator, rest = url.partition("://")
    user, at, host = rest.rpartition("@")  # the last one: a password may hold others
    name, colon, _ = user.partition(":")
    return f"{scheme}{separator}{name}{':***' if colon else ''}{at}{host}"


def _with_presets(ladders: Mapping[str, str]) -> Mapping[str, Ladder]:
    return {**PRESETS, **{name: named(text) for name, text in ladders.items()}}
