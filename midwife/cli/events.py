"""``midwife events``: the timeline of a host."""

import json
import sqlite3
import time
from datetime import datetime
from pathlib import Path

import click

from midwife.cli.common import fail, output_option, printable, site_option
from midwife.cli.observed import connect

__all__ = ["command", "line"]

_POLL = 0.3  # seconds


@click.command("events")
@click.argument("host", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on with new events as they happen, until Ctrl-C.")
@click.option("-n", "--last", type=click.IntRange(0), default=200, show_default=True, help="At most so many.")
@output_option
@site_option
def command(host: str | None, follow: bool, last: int, output: str, site: Path) -> None:
    """What happened to HOST (or to all), oldest first."""
    db = connect(site)
    if host and not db.execute("SELECT 1 FROM hosts WHERE id = ?", (host,)).fetchone():
        fail(f"no such host: {host}; midwife status shows all of them")
    try:
        seen = db.execute("SELECT coalesce(max(id), 0) FROM events").fetchone()[0]
        for row in _read(db, host, 0, last):
            seen = max(seen, row["id"])
            _show(row, output, host)
        while follow:
            time.sleep(_POLL)
            for row in _read(db, host, seen, -1):
                seen = row["id"]
                _show(row, output, host)
    except KeyboardInterrupt:
        return
    except sqlite3.Error as error:
        fail(f"the events cannot be read: {error}")
    finally:
        db.close()


def _read(db: sqlite3.Connection, host: str | None, after: int, last: int) -> list[sqlite3.Row]:
    query = "SELECT * FROM events WHERE id > ? AND (? IS NULL OR host = ?) ORDER BY id DESC LIMIT ?"
    return db.execute(query, (after, host, host, last)).fetchall()[::-1]


def _show(row: sqlite3.Row, output: str, host: str | None) -> None:
    if output == "json":
        click.echo(json.dumps({**dict(row), "data": json.loads(row["data"])}))
    else:
        click.echo(line(row["at"], None if host else row["host"], row["kind"], row["text"]))


def line(at: float, host: str | None, kind: str, text: str) -> str:
    """``2026-01-31 11:02:09.412  esx-01  booted  all 137 files served``, in local time; host None: not told."""
    moment = datetime.fromtimestamp(at).astimezone()
    who = "" if host is None else f"{host or '-':<17}  "
    return f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d}  {who}{kind:<13} {printable(text)}"
