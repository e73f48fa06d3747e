"""Further bearer tokens. Shown once, when they are made."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from notifier.api.asking import ask_agent
from notifier.api.parts import Given
from notifier.ledger import tokens
from notifier.ledger.tokens import MOST_NOTE, Role
from notifier.logs import moment

router = APIRouter(prefix="/v1", tags=["tokens"])


class Wanted(BaseModel):
    """What a token may. merchant: for role merchant, whose own undelivered notifications it pulls."""

    model_config = ConfigDict(extra="forbid")

    role: Role = Field(examples=["read"])
    merchant: str | None = Field(default=None, max_length=128)
    note: str | None = Field(default=None, max_length=MOST_NOTE, examples=["grafana"])


@router.get("/tokens", summary="The tokens there are")
async def page(parts: Given) -> dict[str, Any]:
    """Not the tokens themselves: they are kept hashed. The one of the settings is not among them."""
    found = await tokens.list_tokens(parts.database)
    return {"tokens": [{**token.shown(), "created_at": moment(token.created_at)} for token in found]}


@router.post("/tokens", status_code=201, summary="Make a token")
async def add(parts: Given, wanted: Wanted) -> dict[str, Any]:
    """The answer holds the `token`: the only time that it is shown."""
    return dict(await ask_agent(parts, "tokens.add", wanted.model_dump()))


@router.delete("/tokens/{id}", summary="Make a token worthless")
async def remove(parts: Given, token: Annotated[str, Path(alias="id")]) -> dict[str, Any]:
    """It may be taken for five seconds more."""
    return dict(await ask_agent(parts, "tokens.remove", {"id": token}) or {})
