"""When something was last released, for windows; indexes for what is looked up at every round of a release"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("notifications", sa.Column("released_at", sa.BigInteger(), nullable=True))
    op.add_column("notifications", sa.Column("released_attempts", sa.Integer(), nullable=True))
    with_url = sa.text("stands = 'held' AND url IS NOT NULL")
    for_room = sa.text("stands = 'held' AND stands_why = 'no-room'")
    released = sa.text("stands IN ('accepted', 'held') AND released_at IS NOT NULL")
    op.create_index(
        "ix_notifications_held_with_url_merchant_accepted_at",
        "notifications",
        ["merchant", "accepted_at"],
        sqlite_where=with_url,
        postgresql_where=with_url,
    )
    op.create_index(
        "ix_notifications_held_for_room_merchant_tier",
        "notifications",
        ["merchant", "tier"],
        sqlite_where=for_room,
        postgresql_where=for_room,
    )
    op.create_index(
        "ix_notifications_released_at_merchant",
        "notifications",
        ["released_at", "merchant"],
        sqlite_where=released,
        postgresql_where=released,
    )
