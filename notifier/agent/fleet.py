"""All machines of a namespace: they know each other, tell each other of changes, and do what an operator asks of all.

Everything goes through the exchange `notifier.control`, sealed (`seal.py`). Each message is heard by every machine; a
question is answered by each, and an answer taken by the one who asked. The broker keeps nothing of it: a machine that
was away asks the database for the registry's version as it does every 10 s, so nothing depends on having heard.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from notifier import logs
from notifier.agent.machines import EVERY, Machine, Machines
from notifier.agent.seal import Seal, Unbelieved
from notifier.agent.watched import watched
from notifier.broker.connection import Waiting
from notifier.broker.fanout import Fanout
from notifier.broker.topology import Topology
from notifier.errors import BrokerError, InvalidInput, NotifierError
from notifier.settings import Settings

#: Seconds that the other machines get for a change of the registry, and that their answers may be on the way.
PATIENCE = 5.0
GRACE = 1.0
#: Seconds after a new connection in which the other machines make themselves known; whoever asks them waits so long.
ACQUAINTED = 1.0
#: What may be asked of another machine: nothing that ends the process which has to answer.
VERBS = ("status", "state", "ping", "push", "clear")
#: Longest that one may ask the others to work, seconds.
LONGEST = 120.0
#: Questions that are worked on at once.
MOST = 64
#: Seconds between two words in the log about messages that were not believed.
_TELL = 60.0

Registry = Callable[[int, bool], Awaitable[Mapping[str, Any]]]
Verb = Callable[[str, Mapping[str, Any], float], Awaitable[Mapping[str, Any]]]


@dataclass(slots=True)
class _Question:
    """What was asked, and what came of it. awaited: instances that have not answered yet."""

    awaited: set[str]
    answers: dict[str, tuple[str, Mapping[str, Any]]] = field(default_factory=dict)
    complete: asyncio.Event = field(default_factory=asyncio.Event)


class Fleet:
    """This machine's place among the others. `start` once, `close` as often as you like.

    machine_state: what this machine says about itself in its announcements, JSON without secrets: since when it runs
    (`since`), its processes (`slots`), the registry's version (`registry`), the API's address (`address`).
    on_registry(version, critical): another machine changed the registry; bring this one's processes up to that version
    and return {"live", "of"}. on_verb(verb, body, timeout): ask this machine's master. What they raise, if it is a
    NotifierError, is told to the machine that asked.

    Without a signing secret (the user's own callback needs none) nobody could be believed: then there is no fleet.
    """

    def __init__(
        self,
        settings: Settings,
        topology: Topology,
        machine_state: Callable[[], Mapping[str, Any]],
        on_registry: Registry,
        on_verb: Verb,
    ) -> None:
        self._name = settings.machine
        self._instance = secrets.token_hex(8)
        self._machine_state = machine_state
        self._on_registry = on_registry
        self._on_verb = on_verb
        self._seal = Seal(settings.secrets, settings.namespace) if settings.secrets else None
        self._fanout = Fanout(settings.amqp_urls, topology.control, self._heard, self._connected, "fleet")
        self._machines = Machines()
        self._asked: dict[str, _Question] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._announcing: asyncio.Task[None] | None = None
        self._soon = asyncio.Event()
        self._new = True
        self._connected_at = 0.0
        self._dropped: Counter[str] = Counter()
        self._told_dropped = 0.0
        self._twins: set[str] = set()

    async def start(self, waiting: Waiting | None = None) -> None:
        """Connect and announce this machine. Waits for the broker; see Link.start."""
        if self._seal is None:
            logs.event("fleet.alone", logging.WARNING, hint="without a signing secret no other machine can be believed")
            return
        await self._fanout.start(waiting=waiting)
        self._announcing = watched("fleet announcements", self._announce)

    async def close(self) -> None:
        """Say goodbye, if the broker is there, so that nobody waits for this machine."""
        announcing, self._announcing = self._announcing, None
        if announcing is None:
            return
        announcing.cancel()
        for task in self._answering:
            task.cancel()
        await asyncio.gather(announcing, *self._answering, return_exceptions=True)
        await self._say({"kind": "leave"}, timeout=1)
        await self._fanout.close()

    @property
    def dropped(self) -> Mapping[str, int]:
        """Messages that were not believed, by reason: garbage, forged, stale, replayed."""
        return dict(self._dropped)

    def machines(self) -> list[dict[str, Any]]:
        """This machine first, then the others by name: {"machine", "here", "heard_s", "twin", and what it says}.

        heard_s: seconds since its last word. twin: another service has the same name.
        """
        now = time.monotonic()
        others = self._machines.alive(now)
        names = Counter([self._name, *(machine.name for machine in others)])
        here = {"machine": self._name, "here": True, "heard_s": 0.0, "twin": names[self._name] > 1}
        return [
            {**self._machine_state(), **here},
            *(
                {
                    **machine.state,
                    "machine": machine.name,
                    "here": False,
                    "heard_s": round(now - machine.heard, 1),
                    "twin": names[machine.name] > 1,
                }
                for machine in others
            ),
        ]

    async def changed(self, version: int, critical: bool, timeout: float = PATIENCE) -> list[dict[str, Any]]:
        """Tell the other machines that the registry has this version, and wait until all of them live by it.

        For each: {"machine", "live", "of"}, or {"machine", "error": sentence} for one that did not answer in time
        or could not. Never raises for what another machine does: a change is not undone for that.
        """
        answers = await self._ask({"kind": "registry", "version": version, "critical": critical}, timeout, None)
        return [{key: answer[key] for key in answer if key != "silent"} for answer in answers]

    async def ask(
        self, verb: str, body: Mapping[str, Any], timeout: float, machine: str | None = None
    ) -> dict[str, Any]:
        """Ask every machine's master, this one's included; or only the machine of that name.

        Returns {"machines": [{"machine", "answer"} | {"machine", "error"}], "missing": [names that did not answer]}.
        Raises InvalidInput for a verb that is not for all, or a machine that is not known.
        """
        if verb not in VERBS:
            raise InvalidInput(f"{verb!r:.40} cannot be asked of other machines; what can: {', '.join(VERBS)}")
        timeout = min(timeout, LONGEST)
        known = [self._name, *(other.name for other in self._machines.alive(time.monotonic()))]
        if machine is not None and machine not in known:
            raise InvalidInput(f"no machine is called {machine!r:.80}; there are {', '.join(sorted(set(known)))}")
        said = {"kind": "ask", "verb": verb, "body": dict(body), "timeout": timeout}
        asking = asyncio.create_task(self._ask(said, timeout, machine))
        answers = []
        try:
            if machine in (None, self._name):
                answers.append({"machine": self._name, **await self._do(said)})
            answers += await asking
        finally:
            asking.cancel()
        missing = [answer["machine"] for answer in answers if answer.pop("silent", False)]
        return {"machines": answers, "missing": missing}

    async def tell(self, verb: str, body: Mapping[str, Any]) -> None:
        """Have every other machine's master do this, without waiting for what comes of it: those that are away, or as
        long as the broker is, never hear of it.
        """
        if self._announcing is not None:
            said = {"kind": "ask", "verb": verb, "body": dict(body), "timeout": PATIENCE, "machine_asked": None}
            await self._say({**said, "id": secrets.token_hex(8)})

    async def _announce(self) -> None:
        while True:
            await self._fanout.connection()
            self._soon.clear()
            new, self._new = self._new, False
            try:
                said = await self._say({"kind": "announce", "new": new, "state": dict(self._machine_state())})
            except Exception as error:  # a fault in what this machine says about itself must not make it vanish
                logs.event("failed", logging.ERROR, exc_info=error)
                said = False
            self._new = self._new or (new and not said)
            try:
                async with asyncio.timeout(EVERY):
                    await self._soon.wait()
            except TimeoutError:
                continue

    def _connected(self) -> None:
        """Others may have appeared or gone meanwhile: ask all to announce themselves."""
        self._new = True
        self._connected_at = time.monotonic()
        self._soon.set()

    async def _say(self, said: Mapping[str, Any], timeout: float = 5.0) -> bool:
        """Whether it is said. What cannot be said now is not said later: it would be stale."""
        assert self._seal is not None
        sealed = self._seal.seal({**said, "machine": self._name, "instance": self._instance}, time.time())
        try:
            await self._fanout.say(sealed, timeout)
        except BrokerError as error:
            logs.event("fleet.unsaid", logging.WARNING, kind=said["kind"], why=str(error))
            return False
        return True

    def _heard(self, sealed: bytes) -> None:
        assert self._seal is not None
        try:
            said = self._seal.open(sealed, time.time())
        except Unbelieved as unbelieved:
            return self._drop(str(unbelieved))
        match said:
            case {"instance": self._instance}:
                return None
            case {
                "kind": "announce",
                "machine": str(name),
                "instance": str(instance),
                "new": new,
                "state": dict(state),
            }:
                self._meet(name, instance, state, new=bool(new))
            case {"kind": "leave", "instance": str(instance)}:
                self._machines.leave(instance)
                self._let_go(instance)
            case {"kind": "registry" | "ask", "id": str(), "instance": str()}:
                self._answer_later(said)
            case {"kind": "answer", "to": str(to), "id": str(id_), "machine": str(name), "instance": str(instance)}:
                if to == self._instance and isinstance(said.get("result"), dict):
                    self._answered(id_, name, instance, said["result"])
            case _:  # of a newer notifier
                self._drop("unknown")
        return None

    def _drop(self, reason: str) -> None:
        self._dropped[reason] += 1
        if time.monotonic() - self._told_dropped > _TELL:
            self._told_dropped = time.monotonic()
            dropped = sum(self._dropped.values())
            logs.event("fleet.unbelieved", logging.WARNING, reason=reason, dropped=dropped, hint=_HINTS.get(reason))

    def _meet(self, name: str, instance: str, state: Mapping[str, Any], *, new: bool) -> None:
        known = self._machines.of(instance) is not None
        self._machines.hear(name, instance, state, time.monotonic())
        if not known:
            logs.event("fleet.met", machine=name, instance=instance)
        if new:
            self._soon.set()
        for twin in {each["machine"] for each in self.machines() if each["twin"]} - self._twins:
            self._twins.add(twin)
            logs.event("fleet.twins", logging.ERROR, machine=twin, hint="two services have this name: NOTIFIER_MACHINE")

    def _let_go(self, instance: str) -> None:
        """Nobody waits for an answer of one who left."""
        for question in self._asked.values():
            self._settle(question, instance)

    async def _ask(self, said: Mapping[str, Any], timeout: float, machine: str | None) -> list[dict[str, Any]]:
        """What each of the others answered; and who did not, and why."""
        if self._announcing is None:
            return []
        await asyncio.sleep(max(0.0, self._connected_at + ACQUAINTED - time.monotonic()))
        alive = [each for each in self._machines.alive(time.monotonic()) if machine in (None, each.name)]
        id_ = secrets.token_hex(8)
        question = self._asked[id_] = _Question({each.instance for each in alive})
        failed = False
        try:
            async with asyncio.timeout(timeout + GRACE):
                failed = not await self._say({**said, "id": id_, "machine_asked": machine}, timeout)
                if question.awaited and not failed:
                    await question.complete.wait()
        except TimeoutError:
            pass
        finally:
            del self._asked[id_]
        return [*self._answers(question), *(_silent(each, timeout, failed) for each in alive if _lacks(question, each))]

    @staticmethod
    def _answers(question: _Question) -> list[dict[str, Any]]:
        return [{"machine": name, **result} for name, result in question.answers.values()]

    def _answered(self, id_: str, name: str, instance: str, result: Mapping[str, Any]) -> None:
        if (question := self._asked.get(id_)) is not None:
            question.answers[instance] = (name, {key: result[key] for key in result if key in _RESULTS})
            self._settle(question, instance)

    @staticmethod
    def _settle(question: _Question, instance: str) -> None:
        question.awaited.discard(instance)
        if not question.awaited:
            question.complete.set()

    def _answer_later(self, said: Mapping[str, Any]) -> None:
        if said.get("machine_asked") not in (None, self._name):
            return
        if len(self._answering) >= MOST:
            logs.event("fleet.busy", logging.WARNING, asked_by=said.get("machine"))
            return
        task = asyncio.create_task(self._answer(said))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, said: Mapping[str, Any]) -> None:
        answer = {"kind": "answer", "to": said["instance"], "id": said["id"]}
        result = await self._do(said)
        try:
            await self._say({**answer, "result": result})
        except ValueError as error:  # too long, for example: thousands of overrides
            await self._say({**answer, "result": {"error": f"its answer cannot be sent: {error}"}})

    async def _do(self, said: Mapping[str, Any]) -> dict[str, Any]:
        """What was asked, as {"live", "of"} or {"answer"}; {"error"} with a sentence if it cannot be."""
        try:
            match said:
                case {"kind": "registry", "version": int(version), "critical": bool(critical)}:
                    done = await self._on_registry(version, critical)
                    return {"live": done["live"], "of": done["of"]}
                case {"kind": "ask", "verb": str(verb), "body": dict(body), "timeout": int() | float() as timeout}:
                    if verb not in VERBS:
                        return {"error": f"{verb!r:.40} cannot be asked of another machine"}
                    return {"answer": dict(await self._on_verb(verb, body, min(timeout, LONGEST)))}
            return {"error": "what was asked cannot be understood: do all machines run the same notifier?"}
        except NotifierError as error:
            return {"error": str(error)}
        except Exception as error:
            logs.event("failed", logging.ERROR, exc_info=error)
            return {"error": f"it failed there, see its log: {type(error).__name__}"}


_RESULTS = ("live", "of", "answer", "error")
_HINTS = {
    "forged": "a machine with other signing secrets, or somebody who has none of them",
    "stale": "is the clock of a machine wrong?",
}


def _lacks(question: _Question, machine: Machine) -> bool:
    return machine.instance in question.awaited


def _silent(machine: Machine, timeout: float, failed: bool) -> dict[str, Any]:
    said = "could not be asked: RabbitMQ cannot be reached" if failed else f"did not answer in {timeout:g} s"
    return {"machine": machine.name, "error": f"{machine.name} {said}", "silent": True}
