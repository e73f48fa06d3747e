"""How alembic runs the migrations: on the connection that `migrating.py` gives it, in its transaction."""

from alembic import context

from notifier.ledger.migrating import VERSION_TABLE
from notifier.ledger.schema import metadata

connection = context.config.attributes["connection"]
assert connection is not None, "run `notifier migrate`"
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=connection.dialect.name == "sqlite",
)
with context.begin_transaction():
    context.run_migrations()
