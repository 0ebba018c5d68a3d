"""``python -m midwife.serve.http``: the HTTP data plane, started by the supervisor with bound sockets.

It ends when the supervisor does (its standard input reaches end of file) or on SIGTERM: no new connections are
taken, running downloads are finished first.
"""

import argparse
import asyncio
import contextlib
import signal
import socket
import sys
from pathlib import Path

from aiohttp import web

from midwife.serve.http.app import boot_app
from midwife.serve.lifeline import watch_stdin
from midwife.serve.link import ControlLink
from midwife.serve.logs import configure

_GRACE = 600.0  # seconds that running downloads get


async def _main(control: Path, fds: list[int]) -> None:
    link = ControlLink(control)
    runner = web.AppRunner(boot_app(link), access_log=None, shutdown_timeout=_GRACE)
    await runner.setup()
    for fd in fds:
        await web.SockSite(runner, socket.socket(fileno=fd), backlog=1024).start()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, lambda: None)  # Ctrl-C is the supervisor's to handle
    watch_stdin(loop, stop.set)
    talking = asyncio.create_task(link.run())
    await stop.wait()
    await runner.cleanup()
    talking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await talking


def main() -> int:
    """Read the command line that the supervisor wrote."""
    parser = argparse.ArgumentParser(prog="midwife.serve.http")
    parser.add_argument("--control", type=Path, required=True)
    parser.add_argument("--fds", required=True)
    arguments = parser.parse_args()
    configure()
    asyncio.run(_main(arguments.control, [int(fd) for fd in arguments.fds.split(",")]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
