"""The field: broker, service, load and merchants, and what a fault may do with them."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aio_pika

from notifier.broker import poison
from notifier.broker.cleanup import delete_namespace
from notifier.domain.tier import Tier
from notifier.errors import NotifierError
from tests.acceptance.service import SECRET, environment
from tests.acceptance.truth import Books
from tests.faults.around import Around, Surrounding
from tests.faults.broker import BrokerUnderTest
from tests.faults.line import BrokerLine
from tests.faults.load import Load
from tests.faults.receiver import Receiver, receiving
from tests.faults.service import LADDER, ServiceUnderTest
from tests.faults.verdict import Evidence, Sent, Told, Window, outstanding

#: Where callbacks may go: the merchants listen there, and at a second address, at which nothing may ever arrive.
ALLOWED = "127.0.0.1/32"
#: Notifications per second and service; three run side by side on two cores.
PER_SECOND = 75
#: Seconds for everything to be on time again after a fault, and to be drained at the end: late is not lost.
_CALM, DRAIN = 90.0, 240.0
#: Milliseconds of lateness below which things count as calm again.
_ON_TIME = 400.0
#: Milliseconds between a first attempt and a second.
_SECOND_DELAY = 2000.0
#: How often the evidence is looked for until nothing moves meanwhile.
_LOOKS = 120
#: What is held without its payload could not be sent any more: that is a status of its own, which none may end with.
_STATUS = """
    SELECT id, CASE WHEN status = 'held' AND payload IS NULL THEN 'held without payload' ELSE status END, run
    FROM notifications
"""


@dataclass
class Field:
    """What a fault has in its hands. line: the service's and the load's way to the broker, None when they go direct.
    drain: seconds for everything to be drained at the end.
    """

    broker: BrokerUnderTest
    service: ServiceUnderTest
    load: Load
    receiver: Receiver
    line: BrokerLine | None
    namespace: str
    around: Around
    drain: float = DRAIN

    @property
    def books(self) -> Books:
        """The ledger."""
        variables = self.service.variables
        return Books(variables.get("NOTIFIER_DATABASE_URL", f"sqlite:///{variables['NOTIFIER_STATE_DIR']}/ledger.db"))

    async def calm(self) -> None:
        """Wait until every slot is ready and what is handed in from now on comes on time, first and second attempts."""
        await self.service.ready()
        watch = _Punctuality(self)
        try:
            await self.receiver.until(watch.seen, _CALM, "deliveries were on time")
        except TimeoutError as error:
            raise TimeoutError(f"{error}; {watch}") from None

    async def drained(self, windows: Sequence[Window]) -> Evidence:
        """Wait until everything sent has arrived and no queue holds anything; with what there is when that fails."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.drain):
                await self.load.told()
                await self.receiver.until(
                    lambda: not outstanding(self.load.sent, self.receiver.arrivals), self.drain, "all had arrived"
                )
                while any((await self.broker.depths(self.namespace)).values()):  # noqa: ASYNC110  a queue tells nobody
                    await asyncio.sleep(0.2)
                await self._ended()
        return await self._evidence(windows)

    async def _ended(self) -> None:
        """Wait until the ledger has each as what it may end as. A probe may be on its way from what is held."""
        while not self._has_ended(await self.books.rows(_STATUS)):  # noqa: ASYNC110  a database tells nobody
            await asyncio.sleep(0.3)

    def _has_ended(self, rows: Iterable[tuple[Any, ...]]) -> bool:
        status = {name: said for name, said, _ in rows}
        return all(status.get(each.id) in each.ends for each in self.load.sent if each.confirmed)

    async def _evidence(self, windows: Sequence[Window]) -> Evidence:
        """All of one moment: what is held may be on its way between two looks, and then it is looked again. The broker
        does not tell of one that was released within the last seconds, for as old may its counts be; the ledger does.
        """
        ids = {each.id for each in self.load.sent}
        for _ in range(min(_LOOKS, int(self.drain))):  # where something is lost it never ends
            status = await self.books.rows(_STATUS)
            arrivals = list(self.receiver.arrivals)
            rows = await self.books.rows("SELECT notification, number, started, status FROM attempts")
            depths = await self.broker.depths(self.namespace)
            unchanged = sorted(status) == sorted(await self.books.rows(_STATUS))
            if unchanged and self._has_ended(status) and not any(depths.values()):
                break
            await asyncio.sleep(1)  # a probe is under way
        return Evidence(
            sent=list(self.load.sent),
            arrivals=arrivals,
            rows=[
                Told(name, number, float(started), answered=code is not None)
                for name, number, started, code in rows
                if name in ids
            ],
            status={name: said for name, said, _ in status if name in ids},
            depths=depths,
            windows=windows,
            poison=await self._in_poison() if depths.get(f"{self.namespace}.poison") else (),
        )

    async def _in_poison(self) -> list[str]:
        """Why these messages are there; they stay."""
        async with await aio_pika.connect(self.broker.url.split(",")[0]) as connection:
            queue = await (await connection.channel()).get_queue(f"{self.namespace}.poison", ensure=False)
            reasons: list[str] = []
            while (message := await queue.get(fail=False)) is not None:
                reasons.append(f"{message.headers.get(poison.REASON)}: {message.headers.get('notification')}")
        return reasons

    def forget(self) -> None:
        """What was sent and came until now is judged."""
        self.load.sent = []
        self.receiver.forget()


class _Punctuality:
    """Whether what is handed in from now on comes on time. Reads each arrival once: there are hundreds per second."""

    def __init__(self, field: Field) -> None:
        self._field = field
        self._handed_in, self._read = len(field.load.sent), len(field.receiver.arrivals)
        self._unstamped: list[Sent] = []
        self._due: dict[str, float] = {}
        self._prompt: set[int] = set()
        self._late = 0.0

    def __str__(self) -> str:
        return (
            f"on time were attempts {sorted(self._prompt)}, the last one came {self._late:.0f} ms late; "
            f"{self._field.load.unconfirmed} publishes are unconfirmed"
        )

    def seen(self) -> bool:
        """First and second attempts, one of each at least."""
        sent, arrivals = self._field.load.sent, self._field.receiver.arrivals
        self._unstamped += sent[self._handed_in :]
        self._handed_in = len(sent)
        self._due |= {each.id: each.enqueued_at + each.delays[0] for each in self._unstamped if each.enqueued_at}
        self._unstamped = [each for each in self._unstamped if not each.enqueued_at]
        for arrival in arrivals[self._read :]:
            if (due := self._due.get(arrival.id)) is not None:
                self._late = arrival.moment - due
                if self._late < _ON_TIME:
                    self._prompt.add(arrival.attempt)
                self._due[arrival.id] = arrival.moment + _SECOND_DELAY
        self._read = len(arrivals)
        return {1, 2} <= self._prompt


@contextlib.asynccontextmanager
async def standing(
    broker: BrokerUnderTest,
    *,
    through_line: bool = False,
    api: bool = False,
    settings: Mapping[str, str] | None = None,
    per_second: int = PER_SECOND,
    around: Surrounding | None = None,
    drain: float = DRAIN,
) -> AsyncIterator[Field]:
    """A field on this broker, in a namespace of its own, with a service that is ready and everything old enough.

    settings: further variables of its environment.
    """
    namespace = f"faults-{secrets.token_hex(4)}"
    async with contextlib.AsyncExitStack() as stack:
        line = await stack.enter_async_context(BrokerLine(broker.url)) if through_line else None
        receiver = await stack.enter_async_context(receiving(SECRET))
        given = await stack.enter_async_context(around(receiver)) if around else Around()
        variables = environment(
            line.url if line else broker.url,
            namespace,
            **{"NOTIFIER_LADDER": LADDER, "NOTIFIER_EGRESS__ALLOW": ALLOWED, **(settings or {}), **given.settings},
        )
        service = ServiceUnderTest(variables, *(() if api else ("--no-api",)))
        try:
            await service.start()
            await broker.settled()
            async with Load(variables, receiver.url, per_second) as load:
                yield Field(broker, service, load, receiver, line, namespace, given, drain)
        finally:
            await service.stop()
            with contextlib.suppress(NotifierError):  # a broker that did not come back has nothing to be tidied
                tiers = [Tier.parse(name) for name in ("1s", "2s")]
                await delete_namespace(broker.url.split(",")[0], namespace, tiers)
