"""The sections of the settings, typed and documented. `settings.py` has what stands in none of them, and the whole."""

from __future__ import annotations

import ipaddress
import re
from functools import cached_property
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    SerializationInfo,
    field_serializer,
)

from notifier.domain.notification import check_url
from notifier.domain.operations import Event
from notifier.domain.urls import UrlRule, checked_ports, listed_ports

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Only `transferable` serializes with it: any other dump of settings, however it comes about, hides the secrets.
REVEALED = {"secrets": "revealed"}


def listed(value: object) -> object:
    """A TOML list as the text with commas that stands for it in the environment."""
    return ",".join(value) if isinstance(value, list) and all(isinstance(part, str) for part in value) else value


def parts(text: str) -> tuple[str, ...]:
    """What stands between the commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _networks(text: str) -> str:
    for part in parts(text):
        try:
            ipaddress.ip_network(part)
        except ValueError as error:
            raise ValueError(f"{part!r} is not a network such as 127.0.0.0/8 or ::1/128: {error}") from None
    return text


def _token(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not re.fullmatch(r"[!-~]{16,256}", text):
        raise ValueError("a token has 16 to 256 characters without blanks; a fresh one: openssl rand -hex 24")
    return value


CommaList = Annotated[str, BeforeValidator(listed)]


class Egress(BaseModel):
    """Where callbacks may go, and how long they may take."""

    model_config = ConfigDict(extra="forbid", frozen=True, ignored_types=(cached_property,))

    allow: Annotated[CommaList, AfterValidator(_networks)] = Field(
        default="", description="CIDRs let through the guard against internal addresses, comma-separated"
    )
    timeout: float = Field(
        default=10.0, gt=0, le=600, description="seconds for a whole callback, from connecting to the answer"
    )
    connect_timeout: float = Field(default=5.0, gt=0, le=600, description="seconds for resolving, connecting and TLS")
    answer_limit: int = Field(default=65_536, ge=1, le=1_048_576, description="bytes read of a merchant's answer")
    https_only: bool = Field(default=False, description="refuse every url that is not https")
    ports: Annotated[str, BeforeValidator(listed_ports), AfterValidator(checked_ports)] = Field(
        default="", description="ports that callbacks may go to, such as 443,8000-8999; without, any"
    )

    @cached_property
    def urls(self) -> UrlRule:
        """`https_only` and `ports`, as what judges urls."""
        return UrlRule.read(self.https_only, self.ports)

    @property
    def networks(self) -> tuple[Network, ...]:
        """`allow`, parsed."""
        return tuple(ipaddress.ip_network(part) for part in parts(self.allow))


class Api(BaseModel):
    """Where the HTTP API and the dashboard listen."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(default="127.0.0.1", min_length=1, description="address to listen on; not loopback needs a token")
    port: int = Field(default=8680, ge=0, le=65_535, description="port to listen on; 0 takes a free one")
    token: Annotated[SecretStr, AfterValidator(_token)] | None = Field(
        default=None, description="bearer token that may do everything; further ones: notifier tokens"
    )
    body_limit: int = Field(
        default=16_777_216, ge=1024, le=1_073_741_824, description="bytes of a request that are accepted"
    )

    @field_serializer("token")
    def _secret(self, value: SecretStr | None, how: SerializationInfo) -> str | None:
        return None if value is None else value.get_secret_value() if how.context == REVEALED else str(value)


class Retention(BaseModel):
    """How long the ledger keeps what is finished. What is not finished is never removed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    payloads: float = Field(default=30, gt=0, description="days; without its payload nothing can be sent again")
    attempts: float = Field(default=90, gt=0, description="days that single attempts and events are kept")
    notifications: float = Field(default=365, gt=0, description="days that anything is kept")


class Log(BaseModel):
    """What is told on stderr."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least level that is logged"
    )
    format: Literal["console", "json"] = Field(default="console", description="console for people, json for programs")


class Isolation(BaseModel):
    """What one merchant may take of a tier process."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    concurrency: int = Field(
        default=20, ge=1, le=2000, description="callbacks at once to a merchant that states no bound, per tier process"
    )
    rate: float | None = Field(
        default=None, gt=0, le=100_000, description="callbacks per second, likewise; unset: no bound"
    )
    share: float = Field(
        default=0.25,
        gt=0,
        le=1,
        description="of the free prefetch, for a slow merchant; what is beyond is held (1: no bound)",
    )


class Breaker(BaseModel):
    """When a merchant that fails is left alone for a while (a circuit breaker)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(default=True, description="false: a merchant is called however often it fails")
    #: Fewer than a merchant may have under way at once, also beside nine others that hang: so the first round of
    #: timeouts is enough. More than two notifications make that climb a ladder of five steps.
    attempts: int = Field(default=12, ge=2, le=10_000, description="fewest attempts within the window that can open it")
    ratio: float = Field(default=0.8, gt=0, le=1, description="share of them that must have failed")
    window: float = Field(default=60.0, ge=1, le=3600, description="seconds over which attempts are counted")
    pause: float = Field(
        default=30.0,
        gt=0,
        le=3600,
        description="seconds before two single probes; doubled where both fail",
    )
    longest_pause: float = Field(default=600.0, gt=0, le=86_400, description="seconds that a pause grows to")
    disable_after: float = Field(
        default=5.0,
        ge=0,
        le=90,
        description="days of nothing but failures after which a merchant is disabled; 0: never",
    )


#: In the place of the names of all operator events.
ALL_EVENTS = "all"


def _events(text: str) -> str:
    for name in parts(text) if text != ALL_EVENTS else ():
        if name not in list(Event):
            raise ValueError(f"{name!r:.60} is no event; possible are {ALL_EVENTS}, or of {', '.join(Event)}")
    return text


class Operations(BaseModel):
    """Where operators are told of what they should know."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Annotated[str, AfterValidator(check_url)] | None = Field(
        default=None, description="where operator events are posted, signed; unset: nobody is told"
    )
    events: Annotated[str, BeforeValidator(listed), AfterValidator(_events)] = Field(
        default=ALL_EVENTS, description="which events, comma-separated"
    )
    interval: float = Field(
        default=300.0, ge=1, le=86_400, description="seconds in which of one kind at most ten events are sent"
    )
    late: float = Field(default=30.0, gt=0, le=86_400, description="seconds of lateness from which a tier is late")
    late_for: float = Field(
        default=60.0, ge=0, le=86_400, description="seconds that a tier must be late before it is told"
    )

    @property
    def wanted(self) -> frozenset[Event]:
        """`events`, parsed; none without an address."""
        if self.url is None:
            return frozenset()
        return frozenset(Event if self.events == ALL_EVENTS else map(Event, parts(self.events)))
