"""Everything that matches a filter, again: counted first if wanted, then as a job of the agent."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse

from notifier.api.asking import ask_agent
from notifier.api.filtering import Stated
from notifier.api.notifications import who_of
from notifier.api.parts import Given
from notifier.errors import NotFound
from notifier.ledger import notifications, replays

router = APIRouter(prefix="/v1", tags=["replays"])

#: Jobs that are listed.
MOST_LISTED = 100


class Asked(BaseModel):
    """Which ones, and whether they are only to be counted."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"filter": {"merchant": "shop-7", "status": "exhausted"}, "dry_run": True}],
        },
    )

    filter: Stated = Field(description="at least one member; all that are there must match")
    dry_run: bool = Field(default=False, description="count only, send nothing")


@router.post(
    "/replays",
    status_code=202,
    summary="Send again whatever matches a filter",
    responses={200: {"description": "A dry run: how many there are", "content": {"application/json": {}}}},
)
async def start(request: Request, parts: Given, asked: Asked) -> JSONResponse:
    """A job with progress that survives restarts. With `dry_run` it only says how many there are.

    What was delivered is left out unless `status` names `completed`.
    """
    wanted = asked.filter.wanted().to_send()
    if asked.dry_run:
        total = await notifications.count(parts.database, wanted)
        return JSONResponse({"dry_run": True, "total": total})
    answer = await ask_agent(parts, "replays.start", {"filter": asked.filter.members(), "who": who_of(request)})
    return JSONResponse(answer, 202, {"Location": f"/v1/replays/{answer['replay']}"})


@router.get("/replays", summary="The newest jobs")
async def latest(parts: Given) -> dict[str, Any]:
    """Newest first, at most 100."""
    return {"replays": [replay.shown() for replay in await replays.latest(parts.database, MOST_LISTED)]}


@router.get("/replays/{replay}", summary="How far a job has come")
async def show(parts: Given, replay: str) -> dict[str, Any]:
    """`done` were sent again, `skipped` cannot be (payload gone, still on their way)."""
    found = await replays.get(parts.database, replay)
    if found is None:
        raise NotFound(f"there is no replay {replay!r:.80}")
    return found.shown()


@router.post("/replays/{replay}/stop", summary="Send no more of a job")
async def stop(parts: Given, replay: str) -> dict[str, Any]:
    """What was sent again stays so. 409 if it has ended."""
    return dict(await ask_agent(parts, "replays.stop", {"id": replay}))
