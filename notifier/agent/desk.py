"""What may be asked of the agent, and the answers: the table of its actions."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from notifier import logs
from notifier.agent.answers import answering, text
from notifier.agent.cancelling import Cancelling
from notifier.agent.fleet import Fleet
from notifier.agent.registrar import Registrar
from notifier.agent.replaying import Replaying
from notifier.delivery.acceptance import Entrance, compose
from notifier.errors import InvalidInput, NotFound
from notifier.ledger import merchants, tokens
from notifier.ledger.database import Database
from notifier.settings import Settings
from notifier.supervision.child import Parent

#: Longest that one may ask the fleet to work, seconds.
_PATIENCE = 30.0


class Desk:
    """Answers the actions; see `answers.answering` for their form."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        registrar: Registrar,
        fleet: Fleet,
        replaying: Replaying,
        cancelling: Cancelling,
        entrance: Entrance,
    ) -> None:
        self._settings = settings
        self._database = database
        self._registrar = registrar
        self._fleet = fleet
        self._replaying = replaying
        self._cancelling = cancelling
        self._entrance = entrance

    def serve(self, parent: Parent) -> None:
        """Register all of them; call it once, before ready."""
        table = {
            "merchants.change": self._change,
            "merchants.test": self._test,
            "notifications.replay": self._replay,
            "notifications.cancel": self._cancel,
            "replays.start": self._start_replay,
            "replays.stop": self._stop_replay,
            "tokens.add": self._add_token,
            "tokens.remove": self._remove_token,
            "fleet.ask": self._ask_fleet,
        }
        for action, work in table.items():
            parent.on(action, answering(work))

    async def _change(self, data: Mapping[str, Any]) -> dict[str, Any]:
        return await self._registrar.change(
            text(data, "op"),
            text(data, "merchant"),
            _object(data, "fields"),
            text(data, "who", "somebody"),
            _optional(data, "why"),
            data.get("for"),
        )

    async def _test(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """An ordinary notification to a registered merchant, on its own ladder."""
        merchant = text(data, "merchant")
        row = await merchants.get(self._database, merchant)
        if row is None or row.body is None:
            raise NotFound(f"there is no merchant {merchant!r:.140} in the registry")
        now = logs.moment(int(time.time() * 1000))
        payload = json.dumps({"type": "test", "merchant": merchant, "sent_at": now}, ensure_ascii=False).encode()
        ladder = json.loads(row.body).get("ladder")
        composed = compose(self._settings, merchant=merchant, payload=payload, ladder=ladder)
        accepted = await self._entrance.accept(composed)
        logs.event("merchant.tested", merchant=merchant, notification=accepted.id, who=data.get("who"))
        return {"id": accepted.id}

    async def _replay(self, data: Mapping[str, Any]) -> dict[str, Any]:
        return await self._replaying.one(text(data, "id"), text(data, "who", "somebody"))

    async def _cancel(self, data: Mapping[str, Any]) -> dict[str, Any]:
        return await self._cancelling.cancel(text(data, "id"), text(data, "who", "somebody"), _optional(data, "why"))

    async def _start_replay(self, data: Mapping[str, Any]) -> dict[str, Any]:
        return await self._replaying.start(_object(data, "filter"), text(data, "who", "somebody"))

    async def _stop_replay(self, data: Mapping[str, Any]) -> dict[str, Any]:
        return await self._replaying.stop(text(data, "id"))

    async def _add_token(self, data: Mapping[str, Any]) -> dict[str, Any]:
        token_id, token = await tokens.add(
            self._database,
            role=text(data, "role"),
            merchant=_optional(data, "merchant"),
            note=_optional(data, "note"),
            now_ms=int(time.time() * 1000),
        )
        return {"id": token_id, "token": token}

    async def _remove_token(self, data: Mapping[str, Any]) -> dict[str, Any]:
        token_id = text(data, "id")
        await tokens.remove(self._database, token_id)
        return {"id": token_id}

    async def _ask_fleet(self, data: Mapping[str, Any]) -> dict[str, Any]:
        timeout = data.get("timeout", _PATIENCE)
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0:
            raise InvalidInput(f"{timeout!r:.40} is not a number of seconds")
        return await self._fleet.ask(text(data, "verb"), _object(data, "body"), timeout, _optional(data, "machine"))


def _object(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = data.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{name!r} is no object")
    return value


def _optional(data: Mapping[str, Any], name: str) -> str | None:
    return None if data.get(name) is None else text(data, name)
