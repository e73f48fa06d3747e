"""What an operator, or a child for one, can ask of the master; each word checked before anything is done."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from notifier.errors import InvalidInput, NotifierError
from notifier.supervision import moments
from notifier.supervision.actions import Sender
from notifier.supervision.channel import Body

if TYPE_CHECKING:
    from notifier.supervision.master import Master

#: Longest timeout that a request may ask for, seconds.
LONGEST = 3600.0
#: They change nothing, so they are told to the log only if somebody wants it all.
READING = frozenset({"status", "state", "ping", "events", "stacks"})
OPERATOR = Sender("ctl", 0)


#: Gets the words of the request, who asks, and the sender of messages.
Method = Callable[["_Words", str, Sender], Awaitable[Body]]


class Verbs:
    """The list of verbs, each a method below."""

    def __init__(self, master: Master) -> None:
        self._master = master
        self._methods: dict[str, Method] = {
            "status": self._status, "state": self._state, "ping": self._ping, "push": self._push,
            "clear": self._clear, "send": self._send, "restart": self._restart, "drain": self._drain,
            "shutdown": self._shutdown, "reload": self._reload, "stacks": self._stacks,
            "recast": self._recast,
        }  # fmt: skip

    async def ask(self, who: str, verb: str, body: Body, sender: Sender = OPERATOR) -> Body:
        """Do it, and write one line about who did what and what came of it. Raises NotifierError."""
        result = "failed"
        try:
            answer = await self._method(verb)(_Words(verb, body), who, sender)
            result = _told(answer)
            return answer
        except NotifierError as error:
            result = f"refused: {error}"
            raise
        finally:
            level = logging.DEBUG if verb in READING else logging.INFO
            subject = {name: body.get(name) for name in ("to", "key", "action") if isinstance(body.get(name), str)}
            self._master.audit(level, who=who, verb=verb, result=result, **subject)

    def _method(self, verb: str) -> Method:
        if verb not in self._methods:
            known = ", ".join(self._methods)
            raise InvalidInput(f"there is no request {verb[:100]!r}; those there are: {known}, events")
        return self._methods[verb]

    async def _status(self, words: _Words, who: str, sender: Sender) -> Body:
        return self._master.status()

    async def _state(self, words: _Words, who: str, sender: Sender) -> Body:
        after = words.number("after", 0)
        entries, version = self._master.desired.batch(int(after))
        return {
            "entries": [entry.shown() for entry in entries if entry.value is not None],
            "version": version,
            "complete": version >= self._master.desired.version,
        }

    async def _ping(self, words: _Words, who: str, sender: Sender) -> Body:
        return {"pid": os.getpid(), "version": self._master.desired.version}

    async def _push(self, words: _Words, who: str, sender: Sender) -> Body:
        value = words.anything("value")
        if value is None:
            raise InvalidInput("push: the value null means nothing; `clear` removes a key")
        return await self._pushed(words, value, who)

    async def _clear(self, words: _Words, who: str, sender: Sender) -> Body:
        return await self._pushed(words, None, who)

    async def _pushed(self, words: _Words, value: Any, who: str) -> Body:
        return await self._master.push(
            words.text("key"), value, who=who, why=words.text("why", None), until=words.end(),
            timeout=words.seconds("timeout", 5.0), critical=words.flag("critical", False),
        )  # fmt: skip

    async def _send(self, words: _Words, who: str, sender: Sender) -> Body:
        replies = await self._master.send(
            words.text("to"), words.text("action"), words.anything("data"),
            timeout=words.seconds("timeout", 30.0), reply=words.flag("reply", True), sender=sender,
        )  # fmt: skip
        return {"replies": [reply.shown() for reply in replies]}

    async def _restart(self, words: _Words, who: str, sender: Sender) -> Body:
        return {"slots": await self._master.restart(words.text("to", "all"), who=who)}

    async def _drain(self, words: _Words, who: str, sender: Sender) -> Body:
        return {"slots": await self._master.drain(words.text("to"))}

    async def _shutdown(self, words: _Words, who: str, sender: Sender) -> Body:
        end = self._master.quick if words.flag("quick", False) else self._master.stop
        end(f"asked to by {who}")
        return {}

    async def _reload(self, words: _Words, who: str, sender: Sender) -> Body:
        return await self._master.reload(who)

    async def _recast(self, words: _Words, who: str, sender: Sender) -> Body:
        if sender is OPERATOR:
            raise InvalidInput("recast: a process of the service says this, nobody else")
        return self._master.recast(words.anything("cast"))

    async def _stacks(self, words: _Words, who: str, sender: Sender) -> Body:
        return {"slots": await self._master.stacks(words.text("to"))}


class _Words:
    """The body of a request, read word by word. Each method raises InvalidInput, naming verb and word."""

    def __init__(self, verb: str, body: Mapping[str, Any]) -> None:
        self._verb = verb
        self._body = body

    def anything(self, name: str) -> Any:
        return self._body.get(name)

    def text(self, name: str, default: Any = ...) -> Any:
        """Without a default it must be there."""
        value = self._body.get(name, None if default is ... else default)
        if isinstance(value, str) or (value is None and default is not ...):
            return value if value is not None else default
        raise InvalidInput(f"{self._verb}: {name} must be a text, not {str(value)[:100]!r}")

    def flag(self, name: str, default: bool) -> bool:
        value = self._body.get(name, default)
        if not isinstance(value, bool):
            raise InvalidInput(f"{self._verb}: {name} must be true or false, not {str(value)[:100]!r}")
        return value

    def number(self, name: str, default: float) -> float:
        value = self._body.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
            raise InvalidInput(f"{self._verb}: {name} must be a number from 0 on, not {str(value)[:100]!r}")
        return value

    def seconds(self, name: str, default: float) -> float:
        value = self.number(name, default)
        if value > LONGEST:
            raise InvalidInput(f"{self._verb}: {name} is at most {LONGEST:g} seconds, not {value:g}")
        return value

    def end(self) -> float | None:
        """`until`, a moment, or `for`, seconds from now; in Unix seconds."""
        until, seconds = self.text("until", None), self._body.get("for")
        if until is not None and seconds is not None:
            raise InvalidInput(f"{self._verb}: either until or for, not both")
        if seconds is not None:
            return time.time() + min(self.number("for", 0), 1e9)  # a century is long enough for every calendar
        if until is None:
            return None
        try:
            return moments.read(until)
        except (ValueError, OverflowError):
            raise InvalidInput(
                f"{self._verb}: until must be a moment such as 2026-11-21T10:00:00Z, not {until[:100]!r}"
            ) from None


def _told(answer: Body) -> str:
    """What came of it, counted: `applied 4, timeout 1`."""
    parts = answer.get("slots") or answer.get("replies") or ()
    results = [part.get("result") for part in parts if isinstance(part, Mapping)]
    counted = {result: results.count(result) for result in results if result is not None}
    return ", ".join(f"{result} {count}" for result, count in sorted(counted.items())) or "done"
