"""``midwife serve``: binds the ports, starts the processes, and keeps them alive.

It decides nothing and holds no state but the sockets, so it can outlive any of its children. A child that dies
is started again, at once the first time and with growing pauses if it keeps dying. Every child's standard input
is a pipe from here: when the supervisor dies, however it dies, the children notice and end by themselves.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from midwife.serve.datadir import lock_data_dir
from midwife.serve.sockets import Sockets, open_sockets
from midwife.site.model import Site

__all__ = ["Supervisor"]

_STEADY = 30.0  # seconds a process must live for its next death to count as the first
_MAX_PAUSE = 10.0
_STOP_GRACE = 10.0  # seconds for the control process to end; the data plane finishes its transfers in peace


class Supervisor:
    """The processes of one site."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._log = structlog.get_logger().bind(part="supervisor")
        self._children: dict[str, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()

    async def run(self, ready: Callable[[Sockets], None]) -> int:
        """Serve until SIGTERM or SIGINT; 0, or 1 if the control process cannot start.

        ``ready`` is called once, when the control process answers. Raises DataDirError and PortError before
        anything is started.
        """
        data_dir = self._site.data_dir
        lock = lock_data_dir(data_dir)
        control_path = data_dir / "control.sock"
        sockets = open_sockets(self._site, control_path)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        ready_read, ready_write = os.pipe()
        os.set_inheritable(ready_write, True)
        keepers = [
            asyncio.create_task(self._keep("control", self._control_command(sockets, ready_write))),
            asyncio.create_task(self._keep("tftp", self._tftp_command(sockets, control_path))),
            asyncio.create_task(self._keep("http", self._http_command(sockets, control_path))),
        ]
        try:
            started = await self._wait_ready(ready_read, keepers[0])
            if started:
                ready(sockets)
                _notify_systemd("READY=1")
                await self._stopping.wait()
            _notify_systemd("STOPPING=1")
            return 0 if started else 1
        finally:
            self._stopping.set()
            await self._stop(keepers)
            sockets.close()
            control_path.unlink(missing_ok=True)
            os.close(lock)

    async def _keep(self, name: str, command: Sequence[str] | None) -> None:
        """One process, again and again, until the service stops."""
        pause = 0.0
        while command and not self._stopping.is_set():
            started = time.monotonic()
            child = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.PIPE, pass_fds=_fds(command)
            )
            self._children[name] = child
            code = await child.wait()
            self._children.pop(name, None)
            if self._stopping.is_set():
                return
            if name == "control" and code == 2:  # its own word for: this cannot be mended by trying again
                self._stopping.set()
                return
            steady = time.monotonic() - started > _STEADY
            self._log.error("process died, starting it again", process=name, code=code, pause=pause)
            if pause:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), pause)
            pause = 0.0 if steady else min(pause * 2 or 0.5, _MAX_PAUSE)

    async def _wait_ready(self, fd: int, control: asyncio.Task[None]) -> bool:
        """True once the control process wrote a byte; False if it gave up, or the service is stopped."""
        seen = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(fd, seen.set)
        tasks = [asyncio.create_task(seen.wait()), asyncio.create_task(self._stopping.wait())]
        await asyncio.wait([*tasks, control], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        loop.remove_reader(fd)
        return seen.is_set()

    async def _stop(self, keepers: Sequence[asyncio.Task[None]]) -> None:
        """The data plane finishes its transfers; the control process ends now."""
        for child in list(self._children.values()):
            with contextlib.suppress(ProcessLookupError):
                child.terminate()
        _, late = await asyncio.wait(keepers, timeout=_STOP_GRACE)
        for name, child in list(self._children.items()):
            if name == "control":
                self._log.warning("control process does not end, killing it")
            else:
                self._log.info("leaving transfers to finish by themselves", process=name, pid=child.pid)
                continue
            with contextlib.suppress(ProcessLookupError):
                child.kill()
        for task in late:
            task.cancel()

    def _reload(self) -> None:
        if child := self._children.get("control"):
            child.send_signal(signal.SIGHUP)

    def _control_command(self, sockets: Sockets, ready: int) -> list[str]:
        groups = {
            "control": [sockets.control],
            "callback-tcp": sockets.callback_tcp,
            "callback-udp": sockets.callback_udp,
            "dhcp": sockets.dhcp,
            "dhcp-4011": sockets.dhcp_4011,
        }
        options = [f"--{name}-fds={_numbers(group)}" for name, group in groups.items() if group]
        site = str(self._site.root)
        return [*_python("midwife.serve.control"), "--site", site, f"--ready-fds={ready}", *options]

    def _tftp_command(self, sockets: Sockets, control: Path) -> list[str] | None:
        if not sockets.tftp:
            return None
        limits = self._site.main.tftp
        return [
            *_python("midwife.serve.tftp"),
            "--control",
            str(control),
            f"--fds={_numbers(sockets.tftp)}",
            "--stdin-lifeline",
            f"--max-transfers={limits.max_transfers}",
            f"--max-per-client={limits.max_transfers_per_client}",
        ]

    def _http_command(self, sockets: Sockets, control: Path) -> list[str] | None:
        if not sockets.http:
            return None
        return [
            *_python("midwife.serve.http"),
            "--control",
            str(control),
            f"--fds={_numbers(sockets.http)}",
        ]


def _python(module: str) -> list[str]:
    return [sys.executable, "-m", module]


def _numbers(group: Sequence[socket.socket]) -> str:
    return ",".join(str(one.fileno()) for one in group)


def _fds(command: Sequence[str]) -> list[int]:
    """The descriptors that a command line names in its ``--…fds=`` options."""
    lists = [word.partition("=")[2] for word in command if word.startswith("--") and "fds=" in word]
    return [int(fd) for text in lists for fd in text.split(",")]


def _notify_systemd(text: str) -> None:
    """sd_notify(3), for units of Type=notify; nothing without NOTIFY_SOCKET."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.sendto(text.encode(), address)
