"""Alembic's entry: runs the revisions on the connection that ``midwife.store.database`` hands over."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, render_as_batch=True)  # batch: SQLite cannot alter columns in place
with context.begin_transaction():
    context.run_migrations()
