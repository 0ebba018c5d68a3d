"""The tables of observed state. Times are seconds since the epoch (UTC); JSON columns hold plain data.

Changed only together with a new revision in ``migrations/versions``; a test compares the two.
"""

from sqlalchemy import JSON, Boolean, Column, Float, ForeignKey, Index, Integer, MetaData, Table, Text

__all__ = ["attempts", "events", "hosts", "metadata", "runs"]

metadata = MetaData()

hosts = Table(
    "hosts",
    metadata,
    Column("id", Text, primary_key=True, comment="name in the site, or the MAC address of a stranger"),
    Column("known", Boolean, nullable=False, comment="a host file names it"),
    Column("facts", JSON, nullable=False),
    Column("state", Text, nullable=False),
    Column("since", Float, nullable=False, comment="when it entered the state"),
    Column("attempt", Text, comment="the present or last boot attempt"),
    Column("image", Text, nullable=False, comment="what it got or would get"),
    Column("note", Text, nullable=False, comment="its last event, in words"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("host", Text, ForeignKey("hosts.id", onupdate="CASCADE", ondelete="CASCADE"), nullable=False),
    Column("state", Text, nullable=False),
    Column("started", Float, nullable=False),
    Column("since", Float, nullable=False),
    Column("deadline", Float, comment="when the state is declared stuck"),
    Column("ended", Float),
    Column(
        "address", Text, nullable=False, comment="which fetched the configuration; the token is bound to it"
    ),
    Column("answer", JSON, nullable=False, comment="image, mode, configuration, reasons"),
    Column("files", JSON, nullable=False, comment="name of each file of the image: size in bytes"),
    Column("sent", JSON, nullable=False, comment="name: bytes that arrived"),
    Column("pinned", JSON, nullable=False, comment="SSH host keys told by an authenticated callback"),
    Column("error", Text, nullable=False),
)
Index("attempts_host", attempts.c.host, attempts.c.started)

runs = Table(
    "runs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("host", Text, ForeignKey("hosts.id", onupdate="CASCADE", ondelete="CASCADE"), nullable=False),
    Column("attempt", Text, ForeignKey("attempts.id", ondelete="CASCADE"), nullable=False, unique=True),
    Column("plan", JSON, nullable=False),
    Column("target", JSON, nullable=False, comment="address, port, pinned host keys"),
    Column("state", Text, nullable=False, comment="running, done, failed, cancelled"),
    Column("step", Integer, nullable=False, comment="steps completed"),
    Column("label", Text, nullable=False, comment="name of the step under way"),
    Column("memory", JSON, nullable=False, comment="what steps must know again after a restart"),
    Column("started", Float, nullable=False),
    Column("ended", Float),
    Column("error", Text, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("host", Text, nullable=False, comment='"" for what belongs to no host'),
    Column("attempt", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("data", JSON, nullable=False),
)
Index("events_host", events.c.host, events.c.id)
