"""A merchant as people state it, field by field: JSON values of HTTP, the command line or the page become our types."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from notifier.domain.acknowledgement import AckRule
from notifier.domain.ladder import Ladder, named
from notifier.domain.merchant import MASKED
from notifier.domain.signature import Secret
from notifier.domain.tier import Tier
from notifier.domain.urls import UrlRule
from notifier.errors import InvalidInput, InvalidMerchant

#: Callbacks at once; more than the prefetch allows mean nothing.
MOST_CONCURRENCY = 2000
#: Callbacks a second; more than one machine makes mean nothing.
MOST_RATE = 10_000.0
MOST_HEADERS = 20
MOST_NAME = 64
MOST_VALUE = 2048
#: Characters of all headers together: common servers refuse requests whose head is over 8 KiB, and ours are in it, too.
MOST_OF_HEADERS = 6144
MOST_ACK = 512

#: RFC 9110 §5.6.2
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: RFC 9110 §5.5, without the bytes beyond ASCII, which servers read differently
_VALUE = re.compile(r"[!-~]([ \t!-~]*[!-~])?")

#: Headers that are the protocol's, or whose value is said by the notification or by the attempt.
RESERVED = frozenset(
    {
        "host", "content-length", "content-type", "content-encoding", "transfer-encoding", "connection", "keep-alive",
        "proxy-connection", "te", "trailer", "upgrade", "expect", "accept-encoding", "user-agent", "traceparent",
    }
)  # fmt: skip
RESERVED_PREFIXES = ("webhook-", "notifier-")

#: What can be stated, and what it is for people.
FIELDS: Mapping[str, str] = {
    "url": "where to post; null for none",
    "ladder": "tiers (1s,3s,5s or a list of them) or a ladder's name; null for the default ladder",
    "ack": "http, body=success or json:code=SUCCESS; null for the service's rule",
    "concurrency": f"callbacks at once in each tier process, 1 to {MOST_CONCURRENCY}; null for the settings' bound",
    "rate": "callbacks a second in each tier process; null for the settings' bound",
    "headers": "an object of names and values sent with every callback; a value of null takes the header away",
    "secret": "whsec_…; without it a fresh one is made",
}


@dataclass(frozen=True, slots=True)
class Statement:
    """What was stated, checked. Fields that were not stated are not there.

    fields: of a `Registration`, headers and secret apart. headers: None as the value of a name takes it away; None
    as a whole takes all away. Its representation shows neither secret nor headers.
    """

    fields: Mapping[str, Any]
    headers: Mapping[str, str | None] | None = field(default_factory=dict, repr=False)
    secret: Secret | None = None

    def headers_over(self, before: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        """These headers over those there were, names without regard to case. A masked value leaves what there is.

        Raises InvalidMerchant if they are too many or too long together, or a masked value stands for nothing.
        """
        if self.headers is None:
            return ()
        merged = {name.lower(): (name, value) for name, value in before}
        for name, value in self.headers.items():
            if value is None:
                merged.pop(name.lower(), None)
            elif value != MASKED:
                merged[name.lower()] = (name, value)
            elif name.lower() not in merged:
                raise InvalidMerchant(
                    {"headers": f"{name} has no value yet that {MASKED} could leave as it is: give one"}
                )
        headers = tuple(merged.values())
        if len(headers) > MOST_HEADERS:
            raise InvalidMerchant(
                {"headers": f"they would be {len(headers)}, {MOST_HEADERS} are possible: take some away with null"}
            )
        length = sum(len(name) + len(value) for name, value in headers)
        if length > MOST_OF_HEADERS:
            raise InvalidMerchant(
                {
                    "headers": f"they are {length} characters long together; at most {MOST_OF_HEADERS} are possible, "
                    "since servers refuse longer requests"
                }
            )
        return headers


def stated(
    fields: Mapping[str, Any],
    ladders: Mapping[str, Ladder],
    configured: Collection[Tier],
    urls: UrlRule,
    *,
    secret: bool,
) -> Statement:
    """Check everything that is stated. ladders: by name. configured: tiers that processes serve. secret: may be given.

    Raises InvalidMerchant with a sentence for each field that is wrong.
    """
    possible = [name for name in FIELDS if secret or name != "secret"]
    problems: dict[str, str] = {}
    checked: dict[str, Any] = {}
    for name, value in fields.items():
        if name not in FIELDS:
            problems[f"{name!r:.60}"] = f"there is no such field; possible are {', '.join(possible)}"
            continue
        if name not in possible:
            problems[name] = "a secret is replaced with `rotate`, which lets the old one sign on for a while"
            continue
        try:
            checked[name] = _read(name, value, ladders, configured, urls)
        except InvalidInput as error:
            problems[name] = str(error)
    if problems:
        raise InvalidMerchant(problems)
    headers = checked.pop("headers", {})
    given = checked.pop("secret", None)
    return Statement(checked, headers, given)


def _read(name: str, value: Any, ladders: Mapping[str, Ladder], configured: Collection[Tier], urls: UrlRule) -> Any:
    if value is None:
        return None
    if name == "url":
        return urls.check(_text(value))
    if name == "ladder":
        return _ladder(value, ladders).require(configured)
    return _READERS[name](value)


def _ladder(value: Any, ladders: Mapping[str, Ladder]) -> Ladder:
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return Ladder.parse(",".join(value))
    return named(_text(value), ladders)


def _ack(value: Any) -> AckRule:
    text = _text(value)
    if len(text) > MOST_ACK:
        raise InvalidInput(f"a rule of {len(text)} characters is too long: at most {MOST_ACK}")
    return AckRule.parse(text)


def _concurrency(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_CONCURRENCY:
        raise InvalidInput(f"{value!r:.60} is not a whole number from 1 to {MOST_CONCURRENCY}")
    return value


def _rate(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidInput(f"{value!r:.60} is not a number")
    if not 0 < value <= MOST_RATE:
        raise InvalidInput(f"{value:g} a second is out of range: more than 0 and at most {MOST_RATE:g} are possible")
    return float(value)


def _headers(value: Any) -> dict[str, str | None]:
    if not isinstance(value, Mapping):
        raise InvalidInput('headers are an object of names and values, such as {"X-Shop": "7"}')
    if len(value) > 2 * MOST_HEADERS:
        raise InvalidInput(f"{len(value)} headers are too many: at most {MOST_HEADERS} are possible")
    names: set[str] = set()
    checked: dict[str, str | None] = {}
    for name, each in value.items():
        checked[_header_name(name)] = _header_value(name, each)
        if name.lower() in names:
            raise InvalidInput(f"{name} stands there twice; names count without regard to case")
        names.add(name.lower())
    return checked


def _header_name(name: Any) -> str:
    if not isinstance(name, str) or not _TOKEN.fullmatch(name) or len(name) > MOST_NAME:
        raise InvalidInput(
            f"{name!r:.80} is not a header's name: 1 to {MOST_NAME} letters, digits and !#$%&'*+-.^_`|~ are possible"
        )
    low = name.lower()
    if low in RESERVED or low.startswith(RESERVED_PREFIXES):
        raise InvalidInput(
            f"{name} is reserved: it is set by the protocol, the notification or notifier itself; use another name"
        )
    return name


def _header_value(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not _VALUE.fullmatch(value) or len(value) > MOST_VALUE:
        raise InvalidInput(  # without the value: it may be a credential
            f"the value of {name} cannot be sent: 1 to {MOST_VALUE} printable ASCII characters without line breaks or "
            "blanks at the ends are possible"
        )
    return value


def _secret(value: Any) -> Secret:
    if not isinstance(value, str):  # which is not repeated
        raise InvalidInput("a secret is text: whsec_ followed by base64 of 24 to 64 bytes")
    return Secret.parse(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidInput(f"{value!r:.60} is not text")
    return value


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "ack": _ack,
    "concurrency": _concurrency,
    "rate": _rate,
    "headers": _headers,
    "secret": _secret,
}
