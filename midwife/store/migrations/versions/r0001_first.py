"""Hosts, boot attempts, runs, events."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the first tables."""
    op.create_table(
        "hosts",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("known", sa.Boolean, nullable=False),
        sa.Column("facts", sa.JSON, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("since", sa.Float, nullable=False),
        sa.Column("attempt", sa.Text),
        sa.Column("image", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
    )
    host = ("hosts.id",)
    op.create_table(
        "attempts",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column(
            "host", sa.Text, sa.ForeignKey(*host, onupdate="CASCADE", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("started", sa.Float, nullable=False),
        sa.Column("since", sa.Float, nullable=False),
        sa.Column("deadline", sa.Float),
        sa.Column("ended", sa.Float),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("answer", sa.JSON, nullable=False),
        sa.Column("files", sa.JSON, nullable=False),
        sa.Column("sent", sa.JSON, nullable=False),
        sa.Column("pinned", sa.JSON, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
    )
    op.create_index("attempts_host", "attempts", ["host", "started"])
    op.create_table(
        "runs",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column(
            "host", sa.Text, sa.ForeignKey(*host, onupdate="CASCADE", ondelete="CASCADE"), nullable=False
        ),
        sa.Column(
            "attempt",
            sa.Text,
            sa.ForeignKey("attempts.id", ondelete="CASCADE"),
            nullable=False,
            unique=True,
        ),
        sa.Column("plan", sa.JSON, nullable=False),
        sa.Column("target", sa.JSON, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("memory", sa.JSON, nullable=False),
        sa.Column("started", sa.Float, nullable=False),
        sa.Column("ended", sa.Float),
        sa.Column("error", sa.Text, nullable=False),
    )
    op.create_table(
        "events",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("attempt", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
    )
    op.create_index("events_host", "events", ["host", "id"])
