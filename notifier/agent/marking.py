"""Facts of the agent's own: straight into the ledger, else by the broker like everybody's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

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
        """Store the facts. What they tell has happened already, so without the database they wait in the broker."""
        try:
            await self._writer.write(_decoded(facts))
        except DatabaseUnavailable:
            await self._recorder.record(*facts)

    async def store(self, facts: Sequence[Fact]) -> None:
        """Store the facts, or raise DatabaseUnavailable and nothing has happened."""
        await self._writer.write(_decoded(facts))


def _decoded(facts: Sequence[Fact]) -> list[Mapping[str, Any]]:
    """As they stand on the wire."""
    told: list[Mapping[str, Any]] = json.loads(fact.encode(facts))
    return told
