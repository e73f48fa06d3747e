"""Facts of the agent's own: straight into the ledger, else by the broker like everybody's."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from notifier import logs
from notifier.agent.intake import Writer
from notifier.delivery.facts import Recorder
from notifier.domain import fact
from notifier.domain.fact import Fact
from notifier.errors import DatabaseUnavailable


class Marker:
    """Tells the ledger what the agent did. Once `mark` returned, it is told for good."""

    def __init__(self, writer: Writer, recorder: Recorder) -> None:
        self._writer = writer
        self._recorder = recorder

    async def mark(self, facts: Sequence[Fact]) -> None:
        """Store the facts. What they tell has happened already, so without the database they wait in the broker.

        One that cannot be stored keeps no other from being; it goes the way of everybody's: to the poison queue.
        """
        try:
            await self._writer.write(_decoded(facts))
        except DatabaseUnavailable:
            await self._recorder.record(*facts)
        except Exception as error:
            if len(facts) > 1:
                for fact_ in facts:
                    await self.mark([fact_])
                return
            _cannot_be_stored(facts[0], error)
            await self._recorder.record(*facts)

    async def store(self, facts: Sequence[Fact]) -> Sequence[Fact]:
        """Store the facts; returns those that could be. Raises DatabaseUnavailable, and then nothing has happened to
        those that were not stored.
        """
        try:
            await self._writer.write(_decoded(facts))
        except DatabaseUnavailable:
            raise
        except Exception as error:
            if len(facts) > 1:
                return [stored for fact_ in facts for stored in await self.store([fact_])]
            _cannot_be_stored(facts[0], error)
            return []
        return facts


def _cannot_be_stored(fact_: Fact, error: Exception) -> None:
    logs.event(
        "failed", logging.ERROR, notification=fact_.notification, kind=fact_.kind, run=fact_.run, why=str(error)[:500],
        what="a fact of the agent's own could not be stored",
    )  # fmt: skip


def _decoded(facts: Sequence[Fact]) -> list[Mapping[str, Any]]:
    """As they stand on the wire."""
    told: list[Mapping[str, Any]] = json.loads(fact.encode(facts))
    return told
