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

from midwife.serve.children import ChildProcess
from midwife.serve.datadir import lock_data_dir
from midwife.serve.lifeline import GIVE_UP
from midwife.serve.sockets import PortError, Sockets, open_sockets
from midwife.serve.systemd import notify, notify_reloading
from midwife.site.model import Site

__all__ = ["Supervisor"]

_STEADY = 30.0  # seconds a process must live for its next death to count as the first
_MAX_PAUSE = 10.0
_FIRST_TRIES = 3
"""Deaths of the control process before it ever served, after which the service ends."""
_TRANSFER_GRACE = 2.0  # seconds; transfers that take longer are finished by a data plane without supervisor
_CONTROL_GRACE = 8.0
_PREDECESSOR = 5.0
"""Seconds that the data plane of a service that was killed may take to let go of the ports."""


class Supervisor:
    """The processes of one site."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._log = structlog.get_logger().bind(part="supervisor")
        self._children: dict[str, ChildProcess] = {}
        self._stopping = asyncio.Event()
        self._served = asyncio.Event()
        """The control process was ready at least once."""
        self._mended = asyncio.Event()
        """Somebody asked for a reload while the control process was pausing between two tries."""
        self._failed = False

    async def run(self, ready: Callable[[Sockets], None]) -> int:
        """Serve until SIGTERM or SIGINT; 0, or 1 if the control process cannot start.

        ``ready`` is called once, when the control process answers. Raises DataDirError and PortError before
        anything is started.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        data_dir = self._site.data_dir
        lock = lock_data_dir(data_dir)
        control_path = data_dir / "control.sock"
        try:
            sockets = await self._open_sockets(control_path, _PREDECESSOR if lock.crashed else 0.0)
        except PortError:
            lock.release()
            raise
        ready_read, ready_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        loop.add_reader(ready_read, self._control_ready, ready_read)
        keepers = [
            asyncio.create_task(self._keep("control", self._control_command(sockets, ready_write))),
            asyncio.create_task(self._keep("tftp", self._tftp_command(sockets, control_path))),
            asyncio.create_task(self._keep("http", self._http_command(sockets, control_path))),
        ]
        try:
            if await self._first(self._served, self._stopping) is self._served:
                ready(sockets)
                await self._stopping.wait()
            notify("STOPPING=1")
        finally:
            self._stopping.set()
            await self._stop(keepers)
            sockets.close()
            with contextlib.suppress(OSError):
                control_path.unlink()
            lock.release()
        return 1 if self._failed else 0

    async def _open_sockets(self, control_path: Path, patience: float) -> Sockets:
        end = time.monotonic() + patience
        while True:
            try:
                return open_sockets(self._site, control_path)
            except PortError:
                if time.monotonic() >= end or self._stopping.is_set():
                    raise
            self._log.info(
                "the service before this one was killed; its processes are letting go of their ports"
            )
            await self._first(self._stopping, within=0.3)

    async def _keep(self, name: str, command: Sequence[str] | None) -> None:
        """One process, again and again, until the service stops."""
        pause, deaths = 0.0, 0
        while command and not self._stopping.is_set():
            started = time.monotonic()
            code = await self._run_once(name, command)
            if self._stopping.is_set():
                return
            deaths += 1
            if name == "control" and self._is_hopeless(code, deaths):
                self._failed = True
                self._stopping.set()
                return
            hint = {}
            if name == "control" and code == GIVE_UP:
                # The data plane goes on with what it knows: transfers end, cached files are served.
                hint = {"hint": "mend what it says above; midwife reload tries again at once"}
                pause = _MAX_PAUSE
            elif time.monotonic() - started > _STEADY:
                pause = 0.0
            self._log.error("process died, starting it again", process=name, code=code, pause=pause, **hint)
            if pause:
                self._mended.clear()
                await self._first(self._stopping, self._mended, within=pause)
            pause = min(pause * 2 or 0.5, _MAX_PAUSE)

    def _is_hopeless(self, code: int | None, deaths: int) -> bool:
        """Whether the control process will not come up. Once it has served, it is tried for ever: the data plane
        does its work meanwhile, and somebody may be in the middle of an edit."""
        if self._served.is_set():
            return False
        if code != GIVE_UP and deaths >= _FIRST_TRIES:
            self._log.error("the control process cannot start; the lines above say why", tries=deaths)
        return code == GIVE_UP or deaths >= _FIRST_TRIES

    async def _run_once(self, name: str, command: Sequence[str]) -> int | None:
        """The exit code; None if it could not even be started."""
        try:
            child = self._children[name] = ChildProcess(command, _fds(command))
        except OSError as error:  # no memory, too many processes
            self._log.error("process cannot be started", process=name, reason=str(error))
            return None
        try:
            return await child.wait()
        finally:
            if not self._stopping.is_set():
                del self._children[name]

    @staticmethod
    async def _first(*events: asyncio.Event, within: float | None = None) -> asyncio.Event | None:
        """The event that is set first, None if the time is over."""
        waiting = [asyncio.create_task(event.wait()) for event in events]
        await asyncio.wait(waiting, timeout=within, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        return next((event for event in events if event.is_set()), None)

    def _control_ready(self, fd: int) -> None:
        """The control process serves, or has taken (or refused) a reload."""
        with contextlib.suppress(BlockingIOError):
            os.read(fd, 64)
        self._served.set()
        notify("READY=1")

    async def _stop(self, keepers: Sequence[asyncio.Task[None]]) -> None:
        """The data plane finishes its transfers, by itself if they take long; the control process ends now."""
        for one in self._children.values():
            one.stop()
        _, late = await asyncio.wait(keepers, timeout=_TRANSFER_GRACE)
        control, *planes = keepers
        if control in late:
            await asyncio.wait([control], timeout=_CONTROL_GRACE)
        if not control.done() and (child := self._children.get("control")):
            self._log.warning("control process does not end, killing it")
            child.signal(signal.SIGKILL)
            await asyncio.wait([control], timeout=1.0)
        for name, task in zip(("tftp", "http"), planes, strict=True):
            if not task.done() and (child := self._children.get(name)):
                self._log.info("leaving transfers to finish by themselves", process=name, pid=child.pid)
            task.cancel()

    def _reload(self) -> None:
        notify_reloading()
        self._mended.set()
        if child := self._children.get("control"):
            child.signal(signal.SIGHUP)

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
