"""What became of notifications; one of them again, or no more."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from notifier.api.asking import ask_agent
from notifier.api.filtering import Filtered
from notifier.api.identity import Who
from notifier.api.parts import Given
from notifier.domain.notification import is_id
from notifier.errors import NotFound
from notifier.ledger import notifications

router = APIRouter(prefix="/v1", tags=["notifications"])

Id = Annotated[str, Path(alias="id", description="the notification's id", examples=["order-42-paid"])]


class Reason(BaseModel):
    """Why something is done, for those who look later."""

    model_config = ConfigDict(extra="forbid")

    reason: str | None = Field(default=None, max_length=500, examples=["the order was a test"])


@router.get("/notifications", summary="Notifications, newest first")
async def page(
    parts: Given,
    wanted: Filtered,
    after: Annotated[str | None, Query(description="`next` of the page before", max_length=1000)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> dict[str, Any]:
    """`next` is null on the last page. What was accepted a moment ago may not be in the ledger yet."""
    found = await notifications.list_notifications(parts.database, wanted, after, limit)
    return {"notifications": list(found.items), "next": found.next}


@router.get("/undelivered", summary="What is undelivered, and why")
async def undelivered(parts: Given, wanted: Filtered) -> dict[str, Any]:
    """Grouped by merchant, reason and last error, with how many, the oldest and the newest."""
    return {"groups": list(await notifications.undelivered(parts.database, wanted))}


@router.get("/notifications/{id}", summary="One notification with its attempts")
async def show(parts: Given, notification: Id) -> dict[str, Any]:
    """Every attempt with the merchant's answer, everything that happened to it, and its payload while it is kept."""
    found = await notifications.show(parts.database, _checked(notification))
    if found is None:
        raise NotFound(
            f"the ledger knows no notification {notification}; one that was accepted just now is there in a moment"
        )
    return dict(found)


@router.post("/notifications/{id}/replay", status_code=202, summary="Send one again")
async def replay(request: Request, parts: Given, notification: Id) -> dict[str, Any]:
    """From the first step of its ladder, under the same id, in a run of its own. 409 if its payload is gone."""
    answer = await ask_agent(parts, "notifications.replay", {"id": _checked(notification), "who": who_of(request)})
    return dict(answer)


@router.post("/notifications/{id}/cancel", summary="Let no attempt of it start any more")
async def cancel(
    request: Request,
    parts: Given,
    notification: Id,
    body: Reason | None = None,
) -> dict[str, Any]:
    """`live` says in how many processes that is so. 409 if it is finished."""
    why = None if body is None else body.reason
    answer = await ask_agent(
        parts, "notifications.cancel", {"id": _checked(notification), "who": who_of(request), "why": why}
    )
    return dict(answer)


def who_of(request: Request) -> str:
    """Whoever sends the request, as it is kept beside what they did."""
    who: Who = request.state.who
    return str(who)


def _checked(notification: str) -> str:
    if not is_id(notification):
        raise NotFound(f"{notification!r:.140} is no notification id")
    return notification
