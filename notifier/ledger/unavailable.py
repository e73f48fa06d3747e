"""Which errors of the two drivers mean "not now", and which mean that what was to be written is wrong.

In doubt it is "not now": facts then wait in the broker and come again, while a fact taken for wrong leaves the ledger.
"""

from __future__ import annotations

import sqlite3

import asyncpg  # type: ignore[import-untyped]  # it has no types
from sqlalchemy import exc

from notifier.errors import DatabaseUnavailable

#: What a driver raises by itself, before SQLAlchemy has a connection to put it into words of its own.
FROM_CONNECTING = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, exc.TimeoutError)

#: SQLite's primary result codes that are the fault of a statement or its values (https://sqlite.org/rescode.html).
_OUR_FAULT = {
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_MISUSE,
    sqlite3.SQLITE_RANGE,
}
#: Of these, what lies in the values. PostgreSQL: data exception, integrity constraint violation.
_VALUES = {sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_RANGE}
_PG_VALUES = ("22", "23")
#: But these sentences of SQLITE_ERROR say that the tables are gone, or another version's.
_TABLES_GONE = ("no such table", "no such column", "has no column named")
#: Classes and codes of PostgreSQL (its documentation, appendix A) that are not the fault of a statement or its values:
#: connection, invalid authorization, no such database, transaction rollback, resources, object state, operator
#: intervention, system error, internal error, read-only, privileges, tables or columns gone or another version's.
_PG_CLASSES = ("08", "28", "3D", "40", "53", "55", "57", "58", "F0", "XX")
_PG_CODES = ("25006", "42501", "42P01", "42703")


def said(database: str, why: str) -> DatabaseUnavailable:
    """The error, with its sentence. database: which, without its password."""
    return DatabaseUnavailable(f"the ledger's database {database} cannot be used now: {why}")


def reason(error: BaseException) -> str | None:
    """Why it cannot be now, in one line; None for an error that would come again whenever it is tried."""
    if isinstance(error, exc.DBAPIError):
        return _of_driver(error)
    if isinstance(error, asyncpg.PostgresError):
        return _line(error) if _postgres_not_now(error.sqlstate) else None
    if isinstance(error, (*FROM_CONNECTING, exc.PendingRollbackError, exc.ResourceClosedError)):
        return _line(error)
    return None


def retryable(error: BaseException | None) -> bool:
    """Whether PostgreSQL undid the transaction only because another one was in its way: the same again may work."""
    while error is not None:
        if str(getattr(error, "sqlstate", None) or "").startswith("40"):
            return True
        error = error.__cause__
    return False


def lies_in_values(error: BaseException) -> bool:
    """Whether it is for certain the values that the database refuses, and refuses again: too long, out of range, …"""
    cause = error.orig if isinstance(error, exc.DBAPIError) else error
    if isinstance(cause, sqlite3.Error):
        return getattr(cause, "sqlite_errorcode", 0) & 0xFF in _VALUES
    return str(getattr(cause, "sqlstate", None) or "").startswith(_PG_VALUES)


def _of_driver(error: exc.DBAPIError) -> str | None:
    cause: BaseException | None = error.orig
    if isinstance(cause, sqlite3.Error):
        return _line(cause) if _sqlite_not_now(cause) else None
    code = getattr(cause, "sqlstate", None)
    if error.connection_invalidated or (isinstance(error, exc.InterfaceError) and not code):
        return _line(cause or error)
    return _line(cause or error) if _postgres_not_now(code) else None


def _sqlite_not_now(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # raised by the module itself: a closed connection, a value that it cannot take
        return isinstance(error, sqlite3.ProgrammingError) and "closed" in str(error).lower()
    return code & 0xFF not in _OUR_FAULT or any(part in str(error) for part in _TABLES_GONE)


def _postgres_not_now(code: object) -> bool:
    return isinstance(code, str) and (code.startswith(_PG_CLASSES) or code in _PG_CODES)


def _line(error: BaseException) -> str:
    if isinstance(error, exc.TimeoutError):
        return "all connections to it are in use"
    text = " ".join(str(error).split())
    # SQLAlchemy puts the class of asyncpg's error before its words
    text = text.split(">: ", 1)[-1] if text.startswith("<class") else text
    return text[:300] or ("it did not answer in time" if isinstance(error, TimeoutError) else type(error).__name__)
