"""``python -m midwife.serve.tftp``: the TFTP process as the supervisor starts it.

The sockets come bound, by number; the control process is reached over a Unix socket. Logs go to standard
error.
"""

import argparse
import contextlib
import resource
import signal
import sys

import structlog

from midwife.serve.lifeline import GIVE_UP
from midwife.serve.logs import configure
from midwife.serve.tftp.desk import Limits
from midwife.serve.tftp.server import Server
from midwife.serve.tftp.sockets import prepare_listener

__all__ = ["main"]

_OTHER_DESCRIPTORS = 600  # open files (image.MAX_OPEN_FILES), listeners, the control socket, epoll


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 after an orderly end, GIVE_UP if it cannot start and never will."""
    options = _parser().parse_args(arguments)
    configure(options.log_level)
    log = structlog.get_logger()
    try:
        listeners = [prepare_listener(int(fd)) for fd in options.fds.split(",")]
    except (OSError, ValueError, OverflowError) as error:
        log.error("cannot serve", fds=options.fds, error=str(error))
        return GIVE_UP
    server = Server(
        listeners, options.control, Limits(_allowed(options.max_transfers), options.max_per_client)
    )
    server.stop_on(signal.SIGTERM, signal.SIGINT)
    if options.stdin_lifeline:
        try:
            server.stop_at_end_of(sys.stdin.fileno())
        except (OSError, ValueError, AttributeError) as error:
            log.error("--stdin-lifeline needs a pipe on standard input", error=str(error))
            return GIVE_UP
    log.info("serving", addresses=[_where(listener.getsockname()) for listener in listeners])
    server.run()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m midwife.serve.tftp", description=__doc__)
    parser.add_argument("--control", required=True, metavar="PATH", help="Unix socket of the control process")
    parser.add_argument("--fds", required=True, metavar="N,N", help="bound UDP sockets, inherited")
    parser.add_argument("--max-transfers", type=_positive, default=4096, metavar="N")
    parser.add_argument("--max-per-client", type=_positive, default=32, metavar="N")
    parser.add_argument(
        "--stdin-lifeline", action="store_true", help="stop in order when standard input ends"
    )
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), help="else MIDWIFE_LOG")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def _allowed(transfers: int) -> int:
    """As many transfers as there can be sockets for; the soft limit is raised as far as it goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = transfers + _OTHER_DESCRIPTORS
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    possible = transfers if soft == resource.RLIM_INFINITY else max(1, soft - _OTHER_DESCRIPTORS)
    if possible < transfers:
        structlog.get_logger().warning(
            "fewer transfers than asked: too few file descriptors; raise LimitNOFILE= or ulimit -n",
            asked=transfers,
            possible=possible,
        )
    return min(transfers, possible)


def _where(name: tuple[str, int]) -> str:
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"


if __name__ == "__main__":
    sys.exit(main())
