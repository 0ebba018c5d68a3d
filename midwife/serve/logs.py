"""How the service logs: structlog, one event per line on standard error, which systemd and terminals read."""

import logging
import os
import sys

import structlog

__all__ = ["configure"]


def configure(level: str | None = None) -> None:
    """Set up structlog for this process; ``MIDWIFE_LOG`` (debug, info, warning) sets the level.

    On a terminal lines are coloured for people; elsewhere they are ``key=value``, for grep.
    """
    name = (level or os.environ.get("MIDWIFE_LOG") or "info").upper()
    wanted = getattr(logging, name, logging.INFO)
    render: structlog.typing.Processor
    if sys.stderr.isatty() and "NO_COLOR" not in os.environ:
        render = structlog.dev.ConsoleRenderer(pad_event_to=28)
    else:
        render = structlog.processors.LogfmtRenderer(
            drop_missing=True, key_order=["timestamp", "level", "event", "part", "host", "attempt"]
        )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(wanted),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
