"""What `notifier doctor` checks on this machine alone, and what a finding is."""

from __future__ import annotations

import ipaddress
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from notifier.delivery.callback import UserCallback
from notifier.domain.signature import Secret
from notifier.errors import ConfigurationError
from notifier.sections import Network
from notifier.settings import Settings

#: A process needs files besides its callbacks: broker connections, pipes, logs, DNS.
SPARE_FILES = 64
#: No clock of a working machine shows less: this program is younger.
EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)

#: First release that can dead-letter at least once, which native delay stands on.
_NATIVE_SINCE = (3, 10)
#: First release without Mnesia, which the delayed-message plugin needs.
_NO_PLUGIN_SINCE = (4, 3)
#: Seconds between the broker's clock and ours from which on lateness is measured wrongly.
_CLOCKS_APART = 1.0

_LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
_LINK_LOCAL = (ipaddress.ip_network("169.254.0.0/16"), ipaddress.ip_network("fe80::/10"))


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor. remedy: what to do, for anything but ok."""

    check: str
    level: Literal["ok", "warn", "fail"]
    said: str
    remedy: str | None = None


def secret(settings: Settings) -> Finding:
    """Whether webhooks can be signed. That secrets are well-formed is settled when settings are read."""
    if settings.secrets:
        active = "1 secret" if len(settings.secrets) == 1 else f"{len(settings.secrets)} secrets sign together"
        return Finding("secret", "ok", f"webhooks are signed: {active}")
    if settings.callback is not None:
        return Finding("secret", "ok", "none, and none is needed: the callback is your own")
    fresh = Secret(secrets.token_bytes(32)).text
    return Finding(
        "secret",
        "fail",
        "NOTIFIER_SIGNING_SECRET is not set, and webhooks are never sent unsigned",
        f"export NOTIFIER_SIGNING_SECRET={fresh}   (a fresh one; keep it, merchants verify with it)",
    )


def egress(settings: Settings) -> Finding:
    """Whether the guard against internal addresses has holes that production should not have."""
    allowed = settings.egress.networks
    how = ", by https alone" if settings.egress.https_only else ""
    how += f", on ports {settings.egress.ports} alone" if settings.egress.ports else ""
    if not allowed:
        return Finding("egress", "ok", f"callbacks reach globally reachable addresses only{how}")
    holes = [f"{network} ({hole})" for network in allowed if (hole := _hole(network))]
    if not holes:
        return Finding("egress", "ok", f"callbacks also reach {settings.egress.allow}{how}")
    return Finding(
        "egress",
        "warn",
        f"callbacks may reach {', '.join(holes)}: merchants choose their urls, so they could call what listens there",
        "fine on a developer's machine; in production take it out of NOTIFIER_EGRESS__ALLOW",
    )


def _hole(network: Network) -> str | None:
    if network.prefixlen == 0:
        return "every address"
    for ranges, what in ((_LOOPBACK, "this machine itself"), (_LINK_LOCAL, "link-local: the cloud's metadata service")):
        if any(network.version == known.version and network.overlaps(known) for known in ranges):
            return what
    return None


def callback(settings: Settings) -> Finding:
    """Whether a callback of the user's own can be imported."""
    if settings.callback is None:
        return Finding("callback", "ok", "signed webhooks")
    try:
        UserCallback(settings.callback, settings.egress.timeout)
    except ConfigurationError as error:
        return Finding(
            "callback", "fail", str(error), "NOTIFIER_CALLBACK is package.module:function, importable from here"
        )
    except Exception as error:
        return Finding(
            "callback",
            "fail",
            f"importing {settings.callback} raises {type(error).__name__}: {error}",
            "mend the module; tier processes import it when they start",
        )
    return Finding("callback", "ok", f"{settings.callback} can be imported")


def files(settings: Settings, soft: int) -> Finding:
    """Whether a tier process may have as many callbacks open as it takes. soft: the limit of open files."""
    needed = settings.prefetch + SPARE_FILES
    each = f"{len(settings.tiers)} tier processes, {settings.prefetch} callbacks at once in each"
    if soft < 0 or soft >= needed:
        limit = "any number of" if soft < 0 else f"{soft:,}"
        return Finding("files", "ok", f"{each}; {limit} open files allowed to a process")
    return Finding(
        "files",
        "fail",
        f"{each}; only {soft:,} open files allowed to a process, {needed:,} may be needed",
        f"ulimit -n {needed} (systemd: LimitNOFILE={needed}), or NOTIFIER_PREFETCH={max(1, soft - SPARE_FILES)}",
    )


def release(settings: Settings, said: str, numbers: tuple[int, ...]) -> Finding:
    """Whether a broker's release can do what is asked of it. said: which one it is, for people."""
    if numbers and numbers < _NATIVE_SINCE:
        return Finding("broker", "fail", f"{said}: too old", "RabbitMQ 3.10 or later is needed")
    if settings.delay == "plugin" and numbers >= _NO_PLUGIN_SINCE:
        return Finding("broker", "fail", f"{said}: the plugin cannot run on it", "set NOTIFIER_DELAY=native")
    return Finding("broker", "ok", said)


def clock(now: datetime, apart: float | None) -> Finding:
    """Whether this machine's clock can be right. Timestamps are signed and judged by it.

    apart: seconds that the broker's is ahead of it, None when not known.
    """
    said = f"{now:%Y-%m-%d %H:%M:%S} UTC"
    if now < EARLIEST:
        return Finding(
            "clock",
            "fail",
            f"this machine believes it is {said}: merchants will refuse every timestamp",
            "set the clock and let NTP keep it (timedatectl set-ntp true)",
        )
    if apart is None:
        return Finding("clock", "ok", f"{said}; plausible (the broker's is not known)")
    if abs(apart) < _CLOCKS_APART:
        return Finding("clock", "ok", f"{said}; the broker's agrees to the second")
    ahead = "ahead of" if apart > 0 else "behind"
    return Finding(
        "clock",
        "warn",
        f"{said}; the broker's is {abs(apart):.0f} s {ahead} it, so one of them is wrong: lateness is measured by "
        "ours, and merchants judge our timestamps by theirs",
        "let NTP keep both (timedatectl status)",
    )
