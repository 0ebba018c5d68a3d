"""``python -m midwife.serve.control``: the control process, started by the supervisor with bound sockets."""

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path

import structlog

from midwife.serve.control.service import ControlSockets, Service
from midwife.serve.keys import ServiceKeys
from midwife.serve.lifeline import GIVE_UP, watch_stdin
from midwife.serve.logs import configure
from midwife.site.load import SiteError, load
from midwife.store.database import DatabaseError
from midwife.store.store import Store


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def _sockets(fds: list[int]) -> list[socket.socket]:
    return [socket.socket(fileno=fd) for fd in fds]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="midwife.serve.control")
    parser.add_argument("--site", type=Path, required=True)
    parser.add_argument("--ready-fds", type=int, required=True)
    for name in ("control", "callback-tcp", "callback-udp", "dhcp", "dhcp-4011"):
        parser.add_argument(f"--{name}-fds", type=_numbers, default=[])
    return parser.parse_args()


async def _main(arguments: argparse.Namespace, service: Service) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    log = structlog.get_logger().bind(part="control")

    def reload() -> None:
        try:
            loaded = load(arguments.site)
        except SiteError as error:
            for problem in error.problems:
                log.error("site not taken, the old one stays in force", problem=str(problem))
            service.note("reload-refused", f"the site has {len(error.problems)} problems: midwife check")
        else:
            service.reload(loaded.site)
        ready()

    def ready() -> None:
        with contextlib.suppress(OSError):  # the supervisor is gone, and we soon
            os.write(arguments.ready_fds, b"1")

    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    loop.add_signal_handler(signal.SIGHUP, reload)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # blocked by the supervisor until now
    watch_stdin(loop, stop.set)
    sockets = ControlSockets(
        _sockets(arguments.control_fds)[0],
        _sockets(arguments.callback_tcp_fds),
        _sockets(arguments.callback_udp_fds),
        _sockets(arguments.dhcp_fds),
        _sockets(arguments.dhcp_4011_fds),
    )
    await service.run(sockets, ready, stop)


def main() -> int:
    """Open the site, the keys and the database; serve."""
    arguments = _arguments()
    configure()
    log = structlog.get_logger().bind(part="control")
    try:
        site = load(arguments.site).site
        keys = ServiceKeys.open(site.data_dir)
        store = Store.open(site.data_dir / "midwife.db")
    except SiteError as error:
        for problem in error.problems:
            log.error("the site has errors", problem=str(problem))
        return GIVE_UP
    except (DatabaseError, OSError, ValueError) as error:
        log.error("cannot start", reason=str(error))
        return GIVE_UP
    try:
        asyncio.run(_main(arguments, Service(site, store, keys)))
    finally:
        store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
