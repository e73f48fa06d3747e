"""The tables. One migration history makes them on SQLite and PostgreSQL alike, and a test holds the two together.

Moments are Unix milliseconds in 64 bits, as on the wire. What is JSON is stored as text: nothing is searched inside it.
There are no foreign keys: facts arrive in any order, an attempt before its notification.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, LargeBinary, MetaData, String, Table, Text, text

metadata = MetaData(
    naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s", "pk": "pk_%(table_name)s"},
)

#: SQLite numbers rows by itself only in a column that is exactly INTEGER PRIMARY KEY.
_Number = BigInteger().with_variant(Integer, "sqlite")


def _place(name: str) -> Column[bytes]:
    """The place of the fact that certain other columns are taken from; empty: of none."""
    return Column(name, LargeBinary, nullable=False, server_default=text("''"))


#: What waits for an attempt in the broker; what is held, at all, with an address of its own, for want of room; what was
#: released and may be on its way.
WAITS = "stands IN ('accepted', 'attempted')"
HELD = "stands = 'held'"
HELD_WITH_URL = "stands = 'held' AND url IS NOT NULL"
HELD_FOR_ROOM = "stands = 'held' AND stands_why = 'no-room'"
RELEASED = "stands IN ('accepted', 'held') AND released_at IS NOT NULL"

#: One row per notification: what its facts come to. Every column is merged so that their order does not matter.
notifications = Table(
    "notifications",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("merchant", String(128), nullable=False, server_default=""),
    Column("reference", String(256)),
    Column("url", Text),
    Column("ladder", Text),
    Column("content_type", String(128)),
    Column("headers", Text),
    Column("payload", LargeBinary),
    Column("accepted_at", BigInteger, nullable=False),  # the earliest moment known of it
    Column("updated_at", BigInteger, nullable=False),  # of its newest fact
    _place("status_of"),  # see standing.py: the place of the fact that says status … detail
    Column("status", String(16), nullable=False),
    Column("reason", String(64)),
    Column("detail", Text),
    _place("stands_of"),  # of that which says how its newest run stands: stands, stands_why, finished_at
    Column("stands", String(16), nullable=False),  # a status; another than `status` where a delivered one was replayed
    Column("stands_why", String(64)),  # held: the reason
    Column("run", BigInteger, nullable=False),  # the highest
    Column("attempts", Integer, nullable=False, server_default="0"),
    _place("whole_of"),  # the place of the fact that says reference … payload
    _place("step_of"),  # … step, tier, due_at
    Column("step", Integer),
    Column("tier", String(32)),  # where it waits, or was last
    Column("due_at", BigInteger),  # of the next attempt, as far as it is known
    _place("last_of"),  # … last_error, last_status
    Column("last_error", String(32)),
    Column("last_status", Integer),
    Column("finished_at", BigInteger),  # the newest run: completed, exhausted, stopped, poisoned; None otherwise
    Column("release_after", BigInteger),  # held: not to be released before
    Column("release_tries", Integer, nullable=False, server_default="0"),  # in vain: without an attempt between them
    Column("released_at", BigInteger),  # when it was last taken in hand for that
    Column("released_attempts", Integer),  # how many attempts of it were known then
    Index("ix_notifications_accepted_at_id", "accepted_at", "id"),
    Index("ix_notifications_merchant_accepted_at_id", "merchant", "accepted_at", "id"),
    Index("ix_notifications_status_accepted_at_id", "status", "accepted_at", "id"),
    Index("ix_notifications_status_merchant_accepted_at", "status", "merchant", "accepted_at"),
    Index("ix_notifications_reference", "reference"),
    Index("ix_notifications_finished_at", "finished_at"),
    # for what is late now: nothing but what waits, however much has been finished
    Index("ix_notifications_tier_due_at", "tier", "due_at", sqlite_where=text(WAITS), postgresql_where=text(WAITS)),
    # for what may be released, and for deadlines
    Index(
        "ix_notifications_held_merchant_accepted_at",
        *("merchant", "accepted_at"),
        sqlite_where=text(HELD),
        postgresql_where=text(HELD),
    ),
    Index(
        "ix_notifications_held_accepted_at_id",
        *("accepted_at", "id"),
        sqlite_where=text(HELD),
        postgresql_where=text(HELD),
    ),
    # for what can be sent although nobody registered an address
    Index(
        "ix_notifications_held_with_url_merchant_accepted_at",
        *("merchant", "accepted_at"),
        sqlite_where=text(HELD_WITH_URL),
        postgresql_where=text(HELD_WITH_URL),
    ),
    # for whether a merchant still waits for room in a tier
    Index(
        "ix_notifications_held_for_room_merchant_tier",
        *("merchant", "tier"),
        sqlite_where=text(HELD_FOR_ROOM),
        postgresql_where=text(HELD_FOR_ROOM),
    ),
    # for how much of a merchant is on its way after a release
    Index(
        "ix_notifications_released_at_merchant",
        *("released_at", "merchant"),
        sqlite_where=text(RELEASED),
        postgresql_where=text(RELEASED),
    ),
)

#: One row per attempt.
attempts = Table(
    "attempts",
    metadata,
    Column("seq", _Number, primary_key=True, autoincrement=True),  # in the order of arrival: for those who follow
    Column("attempt", String(64), nullable=False),
    Column("notification", String(128), nullable=False),
    Column("merchant", String(128), nullable=False),
    Column("run", BigInteger, nullable=False),
    Column("number", Integer, nullable=False),
    Column("step", Integer, nullable=False),
    Column("tier", String(32), nullable=False),
    Column("due", BigInteger),
    Column("started", BigInteger, nullable=False),
    Column("late_ms", Float),
    Column("duration_ms", Float),
    Column("address", Text),
    Column("sent_headers", Text),
    Column("status", Integer),
    Column("error", String(32)),
    Column("detail", Text),
    Column("answer", LargeBinary),  # the first 2 KiB
    Column("decision", String(16), nullable=False),
    Column("next_tier", String(32)),
    Index("ix_attempts_attempt", "attempt", unique=True),
    Index("ix_attempts_notification_run_number", "notification", "run", "number"),
    Index("ix_attempts_started", "started"),
    Index("ix_attempts_merchant_started", "merchant", "started"),
)

#: Every other fact, by its own id.
events = Table(
    "events",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("notification", String(128), nullable=False),
    Column("run", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("tier", String(32)),
    Column("reason", String(64)),
    Column("detail", Text),
    Column("who", Text),
    Index("ix_events_notification_at", "notification", "at"),
    Index("ix_events_at", "at"),
)

#: The registry. Removed merchants stay as tombstones, so that their removal can be replicated.
merchants = Table(
    "merchants",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("version", BigInteger, nullable=False),  # of the registry, when this merchant last changed
    Column("body", Text),  # JSON, secrets included; None: removed
    Column("standing", String(16), nullable=False),  # as in the body, for queries
    Column("until", BigInteger),  # end of a block
    Column("url", Text),
    Column("changed_at", BigInteger, nullable=False),
    Index("ix_merchants_version", "version", unique=True),
    Index("ix_merchants_standing", "standing"),
)

#: Notifications that were cancelled while they waited in the broker, up to and with a run. Replicated as merchants are.
cancellations = Table(
    "cancellations",
    metadata,
    Column("notification", String(128), primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("run", BigInteger, nullable=False),
    Column("why", Text),
    Column("until", BigInteger, nullable=False),  # nothing of it can be on its way after that
    Index("ix_cancellations_version", "version", unique=True),
    Index("ix_cancellations_until", "until"),
)

#: One row: the registry's version. Every change takes it in its own transaction, so versions are in order of commit.
registry_version = Table(
    "registry_version",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # always 1
    Column("origin", String(64), nullable=False),  # which registry this is: copies of another one are made anew
    Column("version", BigInteger, nullable=False),
)

#: Idempotency keys of the HTTP API: the ids are here before anything is published.
claims = Table(
    "claims",
    metadata,
    Column("scope", String(64), primary_key=True),  # whose key it is
    Column("key", String(256), primary_key=True),
    Column("digest", String(64), nullable=False),  # of the request
    Column("ids", Text, nullable=False),  # JSON
    Column("created_at", BigInteger, nullable=False),
    Column("taken_at", BigInteger, nullable=False),  # by whoever works on it now
    Column("code", Integer),  # None until it is answered
    Column("answer", Text),
    Index("ix_claims_created_at", "created_at"),
)

#: Replays by filter, in the background.
replays = Table(
    "replays",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("filter", Text, nullable=False),  # JSON
    Column("who", Text, nullable=False),
    Column("state", String(16), nullable=False),  # running, done, cancelled
    Column("total", Integer, nullable=False),
    Column("done", Integer, nullable=False),
    Column("skipped", Integer, nullable=False),
    Column("cursor", Text),  # where to go on
    Column("created_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Column("problem", Text),
    Index("ix_replays_created_at", "created_at"),
)

#: What only one agent of the fleet does at a time, and who does it now.
leases = Table(
    "leases",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("holder", String(128), nullable=False),
    Column("until", BigInteger, nullable=False),
)

#: Bearer tokens of the HTTP API, hashed.
tokens = Table(
    "tokens",
    metadata,
    Column("id", String(64), primary_key=True),  # shown; not secret
    Column("digest", String(64), nullable=False),  # SHA-256 of the token
    Column("role", String(16), nullable=False),  # read, write, merchant
    Column("merchant", String(128)),  # of role merchant: only its own
    Column("note", Text),
    Column("created_at", BigInteger, nullable=False),
    Index("ix_tokens_digest", "digest", unique=True),
)
