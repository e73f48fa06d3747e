"""A notification as a message: DESIGN §3, "A message on the wire". Fixed: any AMQP client may write one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from notifier.domain import notification as rules
from notifier.domain.ladder import Ladder
from notifier.domain.notification import Notification
from notifier.errors import InvalidLadder, InvalidNotification, UnreadableMessage

VERSION = 1

#: The highest run of a message. What ends there is told in the next one, so the ledger takes a few more.
MOST_RUN = 2**31 - 1

#: What the broker adds on the way. A copied x-death makes brokers up to 3.13 see a cycle and drop the message, a
#: copied x-delay means "no delay", CC and BCC copy the message into other tiers (FACTS §1). The two counts are quorum
#: queues' own, of the delivery that just was.
_BROKERS_OWN = ("x-death", "x-first-death", "x-last-death")
_NEVER_COPIED = frozenset({"x-delay", "CC", "BCC", "x-delivery-count", "x-acquired-count"})

#: The one header of a message whose headers cannot be decoded: their bytes as they came.
UNDECODABLE = "notifier-undecodable-headers"

#: 3000-01-01. What lies beyond is no moment in milliseconds (nanoseconds, say).
_MOST_MOMENT = 32_503_680_000_000

_KNOWN = frozenset(
    [
        "v",
        "notification",
        "merchant",
        "url",
        "ladder",
        "step",
        "attempt",
        "run",
        "enqueued-at",
        "due-at",
        "reference",
        "traceparent",
        "released",
    ]
)


@dataclass(frozen=True, slots=True)
class Message:
    """What travels: body, headers, and the properties notifier reads or sets. message_id: unique per publish."""

    body: bytes
    headers: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    content_type: str | None = None
    message_id: str | None = None
    correlation_id: str | None = None


def identity(message: Message) -> str | None:
    """The notification's id: its header, else correlation_id, else message_id, where they can be an id.

    None: the message names none and must be stamped. Raises UnreadableMessage for a header that cannot be an id, and
    where no header can be read at all.
    """
    if UNDECODABLE in message.headers:
        raise UnreadableMessage("its headers cannot be decoded: nested too deep, or not as AMQP 0-9-1 says")
    stated = _text(message.headers, "notification")
    if stated is not None:
        if not rules.is_id(stated):
            raise UnreadableMessage(
                f"header 'notification' is {stated!r:.80}; 1 to 128 of A-Z a-z 0-9 _ - are possible"
            )
        return stated
    return fallback_id(message)


def run_of(message: Message) -> int | None:
    """The run that the headers state; None where they state none that can be."""
    try:
        return _integer(message.headers, "run", default=0)
    except UnreadableMessage:
        return None


def fallback_id(message: Message) -> str | None:
    """The id of a message without a `notification` header: correlation_id, else message_id, where one can be an id."""
    candidates = (message.correlation_id, message.message_id)
    return next((text for text in candidates if text and rules.is_id(text)), None)


def stamped(message: Message, notification_id: str, message_id: str) -> Message:
    """The same message with an id of its own, to be published again before anything is done with it."""
    headers = {**portable(message.headers), "notification": notification_id}
    return replace(message, headers=headers, message_id=message_id)


def portable(headers: Mapping[str, object]) -> dict[str, object]:
    """The headers without what the broker wrote on the way: what may stand in a republish."""
    return {
        name: _writable(value)
        for name, value in headers.items()
        if name not in _NEVER_COPIED and not name.startswith(_BROKERS_OWN)
    }


def essential(headers: Mapping[str, object]) -> dict[str, object]:
    """The least that says whose message it is, where no more can be kept: short texts among the known headers."""
    kept = {name: headers.get(name) for name in ("notification", "merchant", "url", "reference")}
    return {name: value for name, value in kept.items() if isinstance(value, str) and len(value) <= rules.MOST_URL}


def read(message: Message, *, most_payload: int | None = None) -> Notification:
    """The notification in a message that has an identity.

    most_payload: bytes; None means unbounded. Raises UnreadableMessage naming the header and what is expected.
    """
    headers = message.headers
    version = _integer(headers, "v", default=VERSION, least=1)
    if version > VERSION:
        raise UnreadableMessage(
            f"header 'v' is {version}; this notifier reads wire version {VERSION}: update it, then requeue"
        )
    notification_id = identity(message)
    if notification_id is None:
        raise UnreadableMessage("the message carries no notification id")
    merchant = _text(headers, "merchant")
    if merchant is None:
        raise UnreadableMessage("header 'merchant' is missing; it is the only required one")
    if most_payload is not None and len(message.body) > most_payload:
        raise UnreadableMessage(f"the body holds {len(message.body)} bytes; at most {most_payload} are allowed")
    step = _integer(headers, "step", default=0)
    try:
        url, reference, spelled = _text(headers, "url"), _text(headers, "reference"), _text(headers, "ladder")
        rules.check_known_merchant(merchant)
        if url is not None:
            rules.check_url(url)
        if reference is not None:
            rules.check_reference(reference)
        ladder = None if spelled is None else Ladder.parse(spelled)
    except (InvalidNotification, InvalidLadder) as error:
        raise UnreadableMessage(str(error)) from None
    traceparent = _text(headers, "traceparent", lenient=True)
    return Notification(
        id=notification_id,
        merchant=merchant,
        payload=message.body,
        content_type=_content_type(message.content_type),
        url=url,
        ladder=ladder,
        step=step,
        attempt=_integer(headers, "attempt", default=step + 1, least=1),
        run=_integer(headers, "run", default=0),
        enqueued_at=_moment(headers, "enqueued-at"),
        due_at=_moment(headers, "due-at"),
        reference=reference,
        traceparent=traceparent if traceparent and rules.is_traceparent(traceparent) else None,
        released=_moment(headers, "released"),
        extra={name: value for name, value in portable(headers).items() if name not in _KNOWN},
    )


def write(notification: Notification, message_id: str) -> Message:
    """The message that carries a notification. message_id: fresh for every publish."""
    headers: dict[str, object] = dict(notification.extra)
    headers |= {
        "v": VERSION,
        "notification": notification.id,
        "merchant": notification.merchant,
        "step": notification.step,
        "attempt": notification.attempt,
        "run": notification.run,
    }
    optional = {
        "url": notification.url,
        "ladder": None if notification.ladder is None else str(notification.ladder),
        "enqueued-at": notification.enqueued_at,
        "due-at": notification.due_at,
        "reference": notification.reference,
        "traceparent": notification.traceparent,
        "released": notification.released,
    }
    headers |= {name: value for name, value in optional.items() if value is not None}
    return Message(
        body=notification.payload, headers=headers, content_type=notification.content_type, message_id=message_id
    )


def _writable(value: object) -> object:
    """AMQP clients read a string that is not UTF-8 as bytes, and write bytes only as a byte array: so be it one."""
    match value:
        case bytes():
            return bytearray(value)
        case list():
            return [_writable(part) for part in value]
        case dict():
            return {name: _writable(part) for name, part in value.items()}
        case _:
            return value


def _text(headers: Mapping[str, object], name: str, *, lenient: bool = False) -> str | None:
    value = headers.get(name)
    if value is None:
        return None
    if isinstance(value, bytes | bytearray):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            value = None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # ids that a producer keeps as numbers
    if isinstance(value, str):
        return value
    if lenient:
        return None
    raise UnreadableMessage(f"header {name!r} must be UTF-8 text; it is {headers[name]!r:.80}")


def _integer(headers: Mapping[str, object], name: str, *, default: int, least: int = 0) -> int:
    value = headers.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**31:
        raise UnreadableMessage(f"header {name!r} must be a whole number, {least} or more; it is {value!r:.80}")
    return value


def _moment(headers: Mapping[str, object], name: str) -> int | None:
    """Unix milliseconds, or None: a moment that cannot be read costs the measurement, not the delivery."""
    value = headers.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < _MOST_MOMENT else None


def _content_type(stated: str | None) -> str:
    if not stated or not stated.isascii() or not stated.isprintable() or len(stated) > 128:
        return "application/json"
    return stated
