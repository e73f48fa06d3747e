"""Which urls callbacks may go to, by scheme and port. To which addresses they may lead is the egress guard's matter."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from notifier.domain.notification import check_url
from notifier.errors import InvalidInput, InvalidNotification

_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_MOST_PORT = 65_535
#: What a url without a port means.
_USUAL = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class UrlRule:
    """What the operator lets urls be. ports: ranges, first and last included; none means any port.

    Looked at twice: where a url comes in, so that its author hears of it, and at each attempt, since what is under way
    or registered may be older than the rule.
    """

    https_only: bool = False
    ports: tuple[tuple[int, int], ...] = ()

    @classmethod
    def read(cls, https_only: bool, written: str) -> UrlRule:
        """The rule of two settings. Raises InvalidInput for ports that are none."""
        return cls(https_only, ports(written))

    def refusal(self, scheme: str, port: int) -> str | None:
        """Why a url of this scheme (lower case) and port may not be called; None if it may."""
        if self.https_only and scheme != "https":
            return "callbacks go to https:// only (NOTIFIER_EGRESS__HTTPS_ONLY)"
        if not self.takes(port):
            return f"callbacks go to port {self._spelled()} only, not {port} (NOTIFIER_EGRESS__PORTS)"
        return None

    def takes(self, port: int) -> bool:
        """Whether callbacks may go to this port."""
        return not self.ports or any(first <= port <= last for first, last in self.ports)

    def check(self, url: str) -> str:
        """The url, or InvalidNotification: one that `check_url` accepts and this rule lets be called."""
        parts = urlsplit(check_url(url))
        why = self.refusal(parts.scheme, parts.port or _USUAL[parts.scheme])
        if why is not None:
            raise InvalidNotification(f"the url cannot be used: {why}")
        return url

    def _spelled(self) -> str:
        return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in self.ports)


def ports(text: str) -> tuple[tuple[int, int], ...]:
    """Ports as they are written, `443,8000-8999`; blanks and empty parts do not count. Raises InvalidInput."""
    return tuple(_range(part.strip()) for part in text.split(",") if part.strip())


def listed_ports(value: object) -> object:
    """Ports as a file may give them, `443` or `[443, "8000-8999"]`, as they are written; anything else as it is."""
    parts = value if isinstance(value, list) else [value]
    if all(isinstance(part, int | str) and not isinstance(part, bool) for part in parts):
        return ",".join(map(str, parts))
    return value


def checked_ports(text: str) -> str:
    """The text, if it is ports as `ports` reads them. Raises InvalidInput."""
    ports(text)
    return text


def _range(part: str) -> tuple[int, int]:
    found = _PORTS.fullmatch(part)
    if found is not None:
        first = int(found[1])
        last = first if found[2] is None else int(found[2])
        if 1 <= first <= last <= _MOST_PORT:
            return first, last
    raise InvalidInput(f"{part!r:.40} is not a port from 1 to {_MOST_PORT} such as 443, or some such as 8000-8999")
