"""A merchant of the registry as JSON: as it is kept, secrets included, and as it is shown, without them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from notifier import logs
from notifier.domain.acknowledgement import AckRule
from notifier.domain.ladder import Ladder
from notifier.domain.merchant import MASKED
from notifier.domain.registration import Former, Off, Registration
from notifier.domain.signature import Secret
from notifier.sections import Isolation


def written(registration: Registration) -> str:
    """What is kept of it, in the ledger's database and in its copies; what says nothing is left out.

    Its id, version and time of change stand beside it there.
    """
    kept = {
        "url": registration.url,
        "secret": registration.secret and registration.secret.text,
        "former": [[former.secret.text, former.until] for former in registration.former],
        "ack": registration.ack and str(registration.ack),
        "ladder": registration.ladder and str(registration.ladder),
        "headers": [list(header) for header in registration.headers],
        "concurrency": registration.concurrency,
        "rate": registration.rate,
        "disabled": _off(registration.disabled),
        "blocked": _off(registration.blocked),
    }
    stated = {name: value for name, value in kept.items() if value not in (None, [])}
    return json.dumps(stated, separators=(",", ":"), ensure_ascii=False, sort_keys=True)


def read(merchant: str, body: str, version: int, changed_at: int = 0) -> Registration:
    """Back from what `written` gave. Raises ValueError, which does not repeat it, for anything else."""
    try:
        kept = json.loads(body)
        secret, ack, ladder = kept.get("secret"), kept.get("ack"), kept.get("ladder")
        return Registration(
            merchant,
            url=kept.get("url"),
            secret=None if secret is None else Secret.parse(secret),
            former=tuple(Former(Secret.parse(text), until) for text, until in kept.get("former", ())),
            ack=None if ack is None else AckRule.parse(ack),
            ladder=None if ladder is None else Ladder.parse(ladder),
            headers=tuple((name, value) for name, value in kept.get("headers", ())),
            concurrency=kept.get("concurrency"),
            rate=kept.get("rate"),
            disabled=_read_off(kept.get("disabled")),
            blocked=_read_off(kept.get("blocked")),
            version=version,
            changed_at=changed_at,
        )
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"what is kept of merchant {merchant!r} cannot be read: {type(error).__name__}") from None


def shown(registration: Registration, now_ms: int) -> dict[str, Any]:
    """What everybody may see of it: no secret, and of the headers, which may be credentials, only the names.

    standing, why, since, until, who: as they are at this moment. disabled and blocked: both reasons, if there are two.
    secrets: one entry for each that signs, with the end of its grace. added false: it is only known as blocked.
    """
    standing, off = registration.standing(now_ms)
    ends = [None, *(former.until for former in registration.former if now_ms < former.until)]
    return {
        "id": registration.id,
        "added": registration.added,
        "url": registration.url,
        "ladder": None if registration.ladder is None else [tier.name for tier in registration.ladder],
        "ack": None if registration.ack is None else str(registration.ack),
        "concurrency": registration.concurrency,
        "rate": registration.rate,
        "headers": {name: MASKED for name, _ in registration.headers},
        "standing": str(standing),
        "why": off.why if off else None,
        "since": _moment(off.since if off else None),
        "until": _moment(off.until if off else None),
        "who": (off.who or None) if off else None,
        "disabled": _shown_off(registration.disabled),
        "blocked": _shown_off(registration.blocked) if registration.blocked is off or registration.disabled else None,
        "secrets": [{"until": _moment(end)} for end in ends] if registration.added else [],
        "version": registration.version,
        "changed_at": _moment(registration.changed_at),
    }


def effective(merchant: Mapping[str, Any], isolation: Isolation) -> dict[str, Any]:
    """The bounds that are in force for a merchant as `shown`, in each tier process: its own, else the settings'."""
    own, usual = merchant["concurrency"], isolation.concurrency
    rate = merchant["rate"] if merchant["rate"] is not None else isolation.rate
    return {"concurrency": own if own is not None else usual, "rate": rate}


def _off(off: Off | None) -> list[Any] | None:
    return None if off is None else [off.why, off.since, off.until, off.who]


def _read_off(kept: Any) -> Off | None:
    if kept is None:
        return None
    why, since, until, who = kept
    return Off(why, since, until, who)


def _shown_off(off: Off | None) -> dict[str, Any] | None:
    if off is None:
        return None
    return {"why": off.why, "since": _moment(off.since), "until": _moment(off.until), "who": off.who or None}


def _moment(unix_ms: int | None) -> str | None:
    return None if unix_ms is None else logs.moment(unix_ms)
