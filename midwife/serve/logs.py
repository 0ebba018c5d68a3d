"""How the service logs: structlog, one event per line on standard error, which systemd and terminals read.

What libraries say through ``logging`` comes out the same way. A log that cannot be written (a full disk, a
closed terminal) is lost in silence: the service goes on.
"""

import contextlib
import logging
import os
import sys
from typing import TextIO, cast

import structlog

__all__ = ["configure"]


def configure(level: str | None = None) -> None:
    """Set up structlog for this process; ``MIDWIFE_LOG`` (debug, info, warning) sets the level.

    On a terminal lines are coloured for people; elsewhere they are ``key=value``, for grep.
    """
    name = (level or os.environ.get("MIDWIFE_LOG") or "info").upper()
    wanted = logging.getLevelNamesMapping().get(name, logging.INFO)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _printable,
            *_renderers(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(wanted),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Careful(sys.stderr))),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers[:] = [_Forward()]
    root.setLevel(logging.WARNING)


def _renderers() -> list[structlog.typing.Processor]:
    if sys.stderr.isatty() and "NO_COLOR" not in os.environ:
        # Not structlog's default for exceptions: it prints local variables, and those hold secrets.
        plain = structlog.dev.plain_traceback
        return [structlog.dev.ConsoleRenderer(pad_event_to=28, exception_formatter=plain)]
    order = ["timestamp", "level", "event", "part", "host", "attempt"]
    return [
        structlog.processors.format_exc_info,
        structlog.processors.LogfmtRenderer(drop_missing=True, key_order=order),
    ]


def _printable(
    _logger: structlog.typing.WrappedLogger, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """No escape sequence of a hostile client reaches the terminal of whoever reads the log."""
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[key] = "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in value)
    return event


class _Careful:
    """Standard error, for whom failing is no reason to stop serving."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


class _Forward(logging.Handler):
    """What asyncio, aiohttp and others say, as events of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger().bind(part=record.name)
        log.log(record.levelno, record.getMessage(), exc_info=record.exc_info or None)
