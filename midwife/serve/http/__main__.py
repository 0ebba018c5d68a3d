"""``python -m midwife.serve.http``: the HTTP data plane, started by the supervisor with bound sockets.

It ends when the supervisor does (its standard input reaches end of file) or on SIGTERM: no new connections are
taken, running downloads are finished first.
"""

import argparse
import asyncio
import contextlib
import resource
import signal
import socket
import sys
from pathlib import Path

from aiohttp import web

from midwife.serve.http.app import boot_server
from midwife.serve.lifeline import watch_stdin
from midwife.serve.link import ControlLink
from midwife.serve.logs import configure

_GRACE = 600.0  # seconds that running downloads get
_BACKLOG = 1024
_DEAD_PEER = 120_000
"""Milliseconds without an acknowledgement (TCP_USER_TIMEOUT, which accepted sockets inherit). A machine that was
reset in the middle of a download never says goodbye, and the kernel's own patience is a quarter of an hour."""
_DESCRIPTORS = 65_536
"""Two for each download, its socket and its file; the usual soft limit of 1024 is 500 hosts."""


async def _main(control: Path, fds: list[int]) -> None:
    link = ControlLink(control)
    runner = web.ServerRunner(boot_server(link), shutdown_timeout=_GRACE)
    await runner.setup()
    for fd in fds:
        listener = socket.socket(fileno=fd)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_PEER)
        await web.SockSite(runner, listener, backlog=_BACKLOG).start()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, lambda: None)  # Ctrl-C is the supervisor's to handle
    watch_stdin(loop, stop.set)
    talking = asyncio.create_task(link.run())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([stopping, talking], return_when=asyncio.FIRST_COMPLETED)
    if talking.done():
        talking.result()  # a bug: end with its traceback, and be started again
    await runner.cleanup()
    talking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await talking


def _raise_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def main() -> int:
    """Read the command line that the supervisor wrote."""
    parser = argparse.ArgumentParser(prog="midwife.serve.http")
    parser.add_argument("--control", type=Path, required=True)
    parser.add_argument("--fds", required=True)
    arguments = parser.parse_args()
    configure()
    _raise_limit()
    asyncio.run(_main(arguments.control, [int(fd) for fd in arguments.fds.split(",")]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
