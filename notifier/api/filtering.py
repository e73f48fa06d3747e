"""Which notifications are meant: the same members in a query and in the body of a replay."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from notifier.ledger.notifications import Filter


class Stated(BaseModel):
    """Members that are left out do not restrict. All that are there must match."""

    model_config = ConfigDict(extra="forbid")

    status: str | None = Field(
        default=None,
        max_length=200,
        description="one or several, with commas: accepted, attempted, held, stopped, exhausted, completed, poisoned",
        examples=["exhausted,stopped"],
    )
    merchant: str | None = Field(default=None, max_length=128, examples=["shop-7"])
    reference: str | None = Field(default=None, max_length=256, examples=["order-42"])
    tier: str | None = Field(default=None, max_length=32, examples=["5s"])
    since: str | None = Field(
        default=None, max_length=40, description="accepted at this moment or later", examples=["2026-11-21T00:00:00Z"]
    )
    until: str | None = Field(default=None, max_length=40, description="accepted before this moment")
    error: str | None = Field(
        default=None,
        max_length=32,
        description="of the last attempt: dns, connect, tls, timeout, reset, guard, too-large, status, wrong-answer",
        examples=["timeout"],
    )
    reason: str | None = Field(default=None, max_length=64, description="why it is held or has ended")

    def wanted(self) -> Filter:
        """As the ledger takes it. Raises InvalidInput."""
        return Filter.parse(self.members())

    def members(self) -> dict[str, Any]:
        """What was stated, as JSON."""
        return self.model_dump(exclude_none=True)


async def _of_query(
    status: Annotated[str | None, Query(max_length=200, description=Stated.model_fields["status"].description)] = None,
    merchant: Annotated[str | None, Query(max_length=128)] = None,
    reference: Annotated[str | None, Query(max_length=256)] = None,
    tier: Annotated[str | None, Query(max_length=32)] = None,
    since: Annotated[str | None, Query(max_length=40, description=Stated.model_fields["since"].description)] = None,
    until: Annotated[str | None, Query(max_length=40, description=Stated.model_fields["until"].description)] = None,
    error: Annotated[str | None, Query(max_length=32, description=Stated.model_fields["error"].description)] = None,
    reason: Annotated[str | None, Query(max_length=64, description=Stated.model_fields["reason"].description)] = None,
) -> Filter:
    return Stated(
        status=status,
        merchant=merchant,
        reference=reference,
        tier=tier,
        since=since,
        until=until,
        error=error,
        reason=reason,
    ).wanted()


#: What a route declares that lists: the filter of its query.
Filtered = Annotated[Filter, Depends(_of_query)]
