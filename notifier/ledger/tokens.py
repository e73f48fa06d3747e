"""Bearer tokens of the HTTP API. Only their SHA-256 is kept: of 192 random bits, nothing slower is needed."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import Any, Literal, cast

from sqlalchemy import delete, insert, select

from notifier.domain.notification import check_merchant
from notifier.errors import InvalidInput, NotFound
from notifier.ledger.database import Database
from notifier.ledger.schema import tokens

Role = Literal["read", "write", "merchant"]
ROLES: tuple[Role, ...] = ("read", "write", "merchant")
#: Characters of a note.
MOST_NOTE = 200


@dataclass(frozen=True, slots=True)
class Token:
    """What is known of a token; never the token itself. created_at: Unix milliseconds. merchant: of role merchant."""

    id: str
    digest: str
    role: Role
    merchant: str | None
    note: str | None
    created_at: int

    def shown(self) -> dict[str, Any]:
        """For people and programs, but for the moment, which is theirs to write."""
        return {"id": self.id, "role": self.role, "merchant": self.merchant, "note": self.note}


def digest_of(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


async def add(database: Database, *, role: str, merchant: str | None, note: str | None, now_ms: int) -> tuple[str, str]:
    """Make a token; returns its id and the token, which cannot be had again.

    Raises InvalidInput for a role that there is not, a merchant's token without a merchant, or one on another role;
    DatabaseUnavailable.
    """
    if role not in ROLES:
        raise InvalidInput(f"{role!r:.80} is no role; possible are {', '.join(ROLES)}")
    if (role == "merchant") is not (merchant is not None):
        raise InvalidInput("a token of role merchant names its merchant, and one of another role names none")
    if note is not None and (len(note) > MOST_NOTE or not note.isprintable()):
        raise InvalidInput(f"a note has at most {MOST_NOTE} printable characters")
    if merchant is not None:
        check_merchant(merchant)
    token, token_id = f"ntk_{secrets.token_hex(24)}", f"tok_{secrets.token_hex(6)}"
    row = {
        "id": token_id,
        "digest": digest_of(token),
        "role": role,
        "merchant": merchant,
        "note": note,
        "created_at": now_ms,
    }
    async with database.begin() as connection:
        await connection.execute(insert(tokens).values(row))
    return token_id, token


async def remove(database: Database, token_id: str) -> None:
    """Make a token worthless. Raises NotFound, DatabaseUnavailable."""
    async with database.begin() as connection:
        found = await connection.execute(delete(tokens).where(tokens.c.id == token_id))
    if not found.rowcount:
        raise NotFound(f"there is no token {token_id!r:.80}")


async def list_tokens(database: Database) -> list[Token]:
    """All of them, oldest first. Raises DatabaseUnavailable."""
    async with database.connect() as connection:
        rows = await connection.execute(select(tokens).order_by(tokens.c.created_at, tokens.c.id))
        return [_token(row._mapping) for row in rows]


async def find(database: Database, *, digest: str | None = None, token_id: str | None = None) -> Token | None:
    """The token with that digest, or of that id; None when there is none. Raises DatabaseUnavailable."""
    which = tokens.c.digest == digest if digest is not None else tokens.c.id == token_id
    async with database.connect() as connection:
        row = (await connection.execute(select(tokens).where(which))).first()
    return None if row is None else _token(row._mapping)


def _token(row: Any) -> Token:
    return Token(row["id"], row["digest"], cast(Role, row["role"]), row["merchant"], row["note"], row["created_at"])
