"""`notifier enqueue`: one notification, or a file of them."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
import uvloop

from notifier.cli.apart import apart
from notifier.cli.lines import Line, Splitter, fields, require_json
from notifier.cli.producing import Entry, Producer
from notifier.cli.registered import Registered
from notifier.cli.seen import Seen
from notifier.cli.telling import Telling
from notifier.delivery.acceptance import compose
from notifier.domain.notification import Notification
from notifier.errors import InvalidInput, NoBroker
from notifier.settings import Settings, load

_CHUNK = 65_536


def enqueue(
    merchant: Annotated[str | None, typer.Option(help="Who is told.")] = None,
    url: Annotated[str | None, typer.Option(help="Where to post; without it, the merchant's registered one.")] = None,
    payload: Annotated[
        str | None, typer.Option(metavar="JSON|@FILE|-", help="What the merchant receives, byte for byte: JSON, UTF-8.")
    ] = None,
    ladder: Annotated[
        str | None,
        typer.Option(
            help="A name such as wechat, or tiers such as 1s,3s,5s. Default: the merchant's, else the setting."
        ),
    ] = None,
    notification_id: Annotated[
        str | None, typer.Option("--id", help="Sent as webhook-id on every attempt. Default: a fresh one.")
    ] = None,
    reference: Annotated[str | None, typer.Option(help="Your own key, such as the order number.")] = None,
    file: Annotated[
        str | None, typer.Option(metavar="FILE|-", help="Many: one JSON object a line, instead of all of the above.")
    ] = None,
) -> None:
    """Hand over one notification, or a file of them, and print the id of each once RabbitMQ confirmed it.

    What has an id on stdout is accepted: it reaches its merchant or ends visibly, whatever dies on the way. Nothing
    has to be running but RabbitMQ.

    A line of --file is {"merchant": …, "payload": …} and, as needed, "url", "ladder", "id", "reference". The payload
    is any JSON value; it is sent compactly, its members in their order, its numbers as they are written. A text is a
    JSON value too: "payload": "hello" sends it with its quotes. Blank lines count, but are passed over.

    A bad line is told on stderr by its number and the others are sent all the same. If the reader of stdout leaves
    (| head -1) everything is sent all the same. Ctrl-C stops reading, waits for what is under way and says after which
    line it stopped; again, and it does not wait.

    Exit code: 0 all accepted, 1 not all (or their ids could not be printed), 2 usage, 78 settings, 130 Ctrl-C.

    Examples:
      notifier enqueue --merchant shop-7 --url https://shop.example/paid --payload '{"order": 42, "state": "paid"}'
      notifier enqueue --merchant shop-7 --url https://shop.example/paid --payload @order.json --ladder wechat
      notifier enqueue --file notifications.jsonl > ids.txt
      export-orders | notifier enqueue --file -
    """
    one = {
        "--merchant": merchant,
        "--url": url,
        "--payload": payload,
        "--ladder": ladder,
        "--id": notification_id,
        "--reference": reference,
    }
    _check_usage(one, file)
    settings = load()
    if not settings.amqp_urls:
        raise NoBroker.named()
    registered = Registered(settings)
    if file is not None:
        with _opened(file) as source:
            raise typer.Exit(uvloop.run(_enqueue_lines(settings, registered, file, source)))
    assert merchant is not None
    assert payload is not None
    notification = compose(
        settings,
        merchant=merchant,
        payload=_payload(payload, settings.payload_limit),
        url=url,
        ladder=registered.ladder(merchant) if ladder is None else ladder,
        notification_id=notification_id,
        reference=reference,
    )
    raise typer.Exit(uvloop.run(_enqueue_one(settings, registered, notification)))


async def _enqueue_one(settings: Settings, registered: Registered, notification: Notification) -> int:
    async def entries() -> AsyncIterator[Entry]:
        yield Entry(None, notification)

    telling = Telling()
    producer = Producer(settings, telling, registered, entries())
    await producer.run()
    if producer.unsure:
        telling.say(f"{notification.id} was sent but not confirmed: it may or may not have been accepted")
    elif producer.interrupted and not producer.accepted:
        telling.say("stopped before anything was sent")
    return producer.exit_code


async def _enqueue_lines(settings: Settings, registered: Registered, name: str, source: BinaryIO) -> int:
    telling = Telling()
    telling.start_moving(_size(source))
    producer = Producer(settings, telling, registered, _entries(settings, registered, source))
    await producer.run()
    if producer.reading_failed:
        telling.say(f"{name} cannot be read any further: {producer.reading_failed}")
    if producer.interrupted:
        telling.say(_how_far(producer, name))
    elif producer.exit_code or (sys.stderr is not None and sys.stderr.isatty()):
        telling.say(_summary(producer))
    return producer.exit_code


async def _entries(settings: Settings, registered: Registered, source: BinaryIO) -> AsyncIterator[Entry]:
    """The lines of a file, each composed or with what is wrong about it; read no further than they are taken."""
    splitter = Splitter(longest=6 * settings.payload_limit + _CHUNK)  # each byte of a payload may be a \u00xx
    seen = Seen()
    read = 0
    try:
        while chunk := await apart(partial(os.read, source.fileno(), _CHUNK)):
            read += len(chunk)
            for line in splitter.feed(chunk):
                yield Entry(line.number, _composed(settings, registered, line, seen), read)
        for line in splitter.end():
            yield Entry(line.number, _composed(settings, registered, line, seen), read)
    finally:
        seen.close()


def _composed(settings: Settings, registered: Registered, line: Line, seen: Seen) -> Notification | InvalidInput:
    try:
        if line.text is None:
            raise InvalidInput(f"too long for a payload of {settings.payload_limit:,} bytes (NOTIFIER_PAYLOAD_LIMIT)")
        stated = fields(line.text)
        notification = compose(
            settings,
            merchant=stated.merchant,
            payload=stated.payload,
            url=stated.url,
            ladder=registered.ladder(stated.merchant) if stated.ladder is None else stated.ladder,
            notification_id=stated.id,
            reference=stated.reference,
        )
        if stated.id is not None:
            seen.check(stated.id, line.number)
    except InvalidInput as error:
        return error
    return notification


def _summary(producer: Producer) -> str:
    failed = f", {producer.failed:,} not" if producer.failed else ""
    return (
        f"{producer.accepted:,} accepted{failed}, in {producer.seconds:.1f} s "
        f"({producer.accepted / max(0.001, producer.seconds):,.0f}/s)"
    )


def _how_far(producer: Producer, name: str) -> str:
    """What somebody needs who wants to go on where Ctrl-C stopped it."""
    if not producer.last_line:
        return "stopped before anything was sent"
    if producer.read_all and not producer.unsure:
        return _summary(producer)
    failed = f", {producer.failed:,} not (told above)" if producer.failed else ""
    said = f"stopped after line {producer.last_line}: {producer.accepted:,} accepted{failed}."
    if producer.unsure:
        first, last = producer.unsure[0], producer.unsure[-1]
        said += (
            f" {len(producer.unsure):,} of lines {first} to {last} were sent but not confirmed: "
            "they may or may not have been accepted."
        )
    following = producer.unsure[0] if producer.unsure else producer.last_line + 1
    if name != "-":
        said += f"\nto go on: tail -n +{following} {name} | notifier enqueue --file -"
    return said


def _check_usage(one: dict[str, str | None], file: str | None) -> None:
    given = [option for option, value in one.items() if value is not None]
    if file is not None and given:
        raise typer.BadParameter(f"each line states its own; leave out {', '.join(given)}", param_hint="--file")
    missing = [option for option in ("--merchant", "--payload") if one[option] is None]
    if file is None and missing:
        raise typer.BadParameter(f"give --merchant and --payload, or --file; missing: {', '.join(missing)}")


def _payload(stated: str, limit: int) -> bytes:
    """The bytes of --payload, exactly. Raises InvalidInput when they are no JSON or cannot be read."""
    if stated == "-" or stated.startswith("@"):
        name = stated.removeprefix("@")
        with _opened(name) as source:
            payload = source.read(limit + 1)
        if len(payload) > limit:
            raise InvalidInput(f"--payload: more than the {limit:,} bytes that are accepted (NOTIFIER_PAYLOAD_LIMIT)")
    else:
        payload = os.fsencode(stated)  # as the shell gave them, also where they are not UTF-8
    try:
        require_json(payload)
    except InvalidInput as error:
        raise InvalidInput(f"--payload: {error}") from None
    return payload


def _opened(name: str) -> BinaryIO:
    """A file, or standard input for `-`, as bytes."""
    if name == "-":
        if sys.stdin is None:
            raise InvalidInput("standard input is closed: there is nothing to read")
        return open(sys.stdin.fileno(), "rb", closefd=False)  # a descriptor, which Path cannot open
    try:
        return Path(name).open("rb")
    except OSError as error:
        raise InvalidInput(f"{name} cannot be read: {error.strerror}") from None


def _size(source: BinaryIO) -> int | None:
    status = os.fstat(source.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None
