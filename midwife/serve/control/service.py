"""Puts the parts of the control process together for one site, and replaces the site when it is read again."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from midwife.core.decide import Action, facts_of
from midwife.core.dhcpanswer import Decision
from midwife.core.facts import Facts
from midwife.images.boot import loaders
from midwife.images.boot.files import LOADERS
from midwife.images.boot.library import Library
from midwife.images.errors import ImageError
from midwife.images.shelf import clear_leftovers
from midwife.serve.attempts import Attempts
from midwife.serve.callback import CallbackListener
from midwife.serve.control.bound import keep_bound
from midwife.serve.control.desk import Desk
from midwife.serve.control.enrolment import enroll
from midwife.serve.control.imagecheck import ImageCheck
from midwife.serve.control.pushes import Pushes
from midwife.serve.control.reception import Reception
from midwife.serve.control.runs import Runs
from midwife.serve.keys import ServiceKeys
from midwife.serve.messages import Report, split_attempt
from midwife.serve.netboot import dhcp_decision
from midwife.serve.proxydhcp import DhcpSeen, ProxyDhcp
from midwife.serve.quiet import Quiet
from midwife.serve.render import Renderer
from midwife.serve.resolver import Resolver
from midwife.site.model import Host, Site
from midwife.store.patient import PatientStore
from midwife.store.store import Store

__all__ = ["ControlSockets", "Service"]

_TICK = 0.5  # seconds
_ARRIVED = frozenset({"served", "progress"})
_TROUBLE = frozenset({"refused", "aborted", "timeout", "malformed"})
_QUIET_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class ControlSockets:
    """What the supervisor bound for this process."""

    control: socket.socket
    callback_tcp: Sequence[socket.socket] = ()
    callback_udp: Sequence[socket.socket] = ()
    dhcp: Sequence[socket.socket] = ()
    dhcp_4011: Sequence[socket.socket] = ()


class Service:
    """One control process."""

    def __init__(self, site: Site, store: Store, keys: ServiceKeys) -> None:
        self._site = site
        self._store = PatientStore.over(store)
        self._keys = keys
        self._log = structlog.get_logger().bind(part="control")
        self._quiet = Quiet(_QUIET_SECONDS)
        self._attempts = Attempts(self._store, keys.secret, site.main.deadlines)
        self._runs = Runs(site, store, keys, self._attempts)
        self._attempts.on_over = self._runs.cancel
        self._resolver = self._make_resolver(site)
        self._reception = Reception(site, self._attempts, self._runs, self._resolver.decide, keys.secret)
        self._pushes = Pushes(site, self._attempts, self._runs, self._resolver.decide)
        self._desk = Desk(lambda ask: self._resolver.resolve(ask), self._report, self._pushes.handle)
        self._callbacks = CallbackListener(lambda call: self._reception.handle(call))
        self._images = ImageCheck(self.note)

    async def run(self, sockets: ControlSockets, ready: Callable[[], None], stop: asyncio.Event) -> None:
        """Serve until ``stop``."""
        clear_leftovers(self._library.images_dir)
        enroll(self._site, self._store, self._attempts, self._resolver.decide)
        self._attempts.recover()
        self._runs.bind(asyncio.get_running_loop())
        await self._desk.start(sockets.control)
        await self._callbacks.start(sockets.callback_tcp, sockets.callback_udp)
        background = [asyncio.create_task(self._tick())]
        if sockets.dhcp:
            proxy = ProxyDhcp(
                sockets67=sockets.dhcp,
                sockets4011=sockets.dhcp_4011,
                server=self._site.main.server.address,
                ask=self._dhcp_decision,
                seen=self._dhcp_seen,
            )
            background.append(asyncio.create_task(proxy.run()))
        self._runs.resume()
        self._images.start(self._library.images_dir)
        self._advise()
        ready()
        stopping = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait([*background, stopping], return_when=asyncio.FIRST_COMPLETED)
        for task in [*background, stopping]:
            task.cancel()
        self._images.close()
        await self._callbacks.close()
        await self._desk.close()
        self._runs.close()
        self._attempts.tick()
        for task in done - {stopping}:
            task.result()  # a background task ended by itself: let its error be seen

    def reload(self, site: Site) -> None:
        """Take a site that was read again and found without errors; what needs a restart is told."""
        site, unchanged = keep_bound(self._site, site)
        self._site = site
        self._attempts.deadlines = site.main.deadlines
        self._runs.site = site
        self._resolver = self._make_resolver(site)
        for asker in (self._reception, self._pushes):
            asker.site = site
            asker.decide = self._resolver.decide
        enroll(site, self._store, self._attempts, self._resolver.decide)
        self._desk.flush()
        self.note("reloaded", f"{_count(site.hosts, 'host')}, {_count(site.rules, 'rule')}")
        if unchanged:
            self.note(
                "restart-needed",
                f"{', '.join(unchanged)} changed: takes effect when midwife serve starts again",
            )
        self._images.start(self._library.images_dir)
        self._advise()

    def note(self, kind: str, text: str) -> None:
        """A line in the timeline that belongs to no host."""
        self._attempts.event("", kind, text)

    def _make_resolver(self, site: Site) -> Resolver:
        library = Library(site.data_dir, site.main.images, site.root, self._keys.public_key)
        self._library = library
        return Resolver(site, library, Renderer(site), self._attempts)

    def _advise(self) -> None:
        """What will not work later and can be mended now."""
        pxelinux = loaders.find("pxelinux.0", self._site.root)
        warning = loaders.old_pxelinux_warning(pxelinux) if pxelinux else None
        if warning and any(self._gets_esxi(host) for host in self._site.hosts):
            self._log.warning("BIOS machines cannot boot ESXi", reason=warning)

    def _gets_esxi(self, host: Host) -> bool:
        answer = self._resolver.decide(facts_of(host))
        try:
            return answer.action is Action.BOOT and self._library.describe(answer.image).kind == "esxi"
        except ImageError:
            return False

    # files

    def _report(self, report: Report) -> None:
        """What the data plane served. Names of image files are lower case in the library."""
        named, rest = split_attempt(report.name)
        attempt = report.attempt or named  # TFTP tells them apart, HTTP tells the name as it was asked
        image, _, name = rest.lower().partition("/")
        if attempt and report.kind in _ARRIVED:
            found = self._attempts.find(attempt)
            if found is None or image != str(found.answer.get("image")).lower():
                return  # a rendered configuration: told when it was made
            if name not in found.files and name.rpartition("/")[2] not in LOADERS:
                return  # one that mboot looks for beside itself: IMAGE/01-mac/boot.cfg
            complete = report.kind == "served" and report.sent >= report.size
            self._attempts.served(
                attempt, name, report.sent, complete=complete, proto=report.proto, client=report.client
            )
        elif report.kind == "served" and not attempt:
            self._loader(report, rest.rpartition("/")[2].lower())
        if report.kind in _TROUBLE:
            self._trouble(report, attempt)

    def _loader(self, report: Report, name: str) -> None:
        """A boot loader went to somebody: told where it is known to whom."""
        facts = self._resolver.machine_at(report.client)
        if facts is None or not (name in LOADERS or name in loaders.DISTRIBUTED):
            return
        text = (
            f"{name} fetched by {report.client} over {report.proto}, "
            f"{report.sent / 1000:.0f} kB in {report.seconds:.1f} s"
        )
        if self._quiet.once(asyncio.get_running_loop().time(), "loader", report.client, name):
            self._attempts.seen(
                self._resolver.decide(facts), facts, "loader", text, {"detail": report.detail}
            )

    def _trouble(self, report: Report, attempt: str) -> None:
        """Told on the host's timeline where the host is known, in the log where not; never a flood."""
        found = self._attempts.find(attempt) if attempt else self._attempts.of_address(report.client)
        if not self._quiet.once(asyncio.get_running_loop().time(), report.kind, report.client, report.name):
            return
        text = f"{report.proto} {report.kind} {report.name[:120]!r} to {report.client}: {report.detail[:200]}"
        if found and report.kind != "refused":
            self._attempts.event(found.host, f"{report.proto}-{report.kind}", text)
        else:
            self._log.info(report.kind, proto=report.proto, client=report.client, text=text)

    # DHCP

    def _dhcp_decision(self, facts: Facts) -> Decision:
        return dhcp_decision(self._site, self._library, self._resolver.decide(facts), facts.firmware)

    def _dhcp_seen(self, seen: DhcpSeen) -> None:
        self._resolver.remember(seen.facts.ipv4, seen.facts)  # its loader asks TFTP by address alone
        answer = self._resolver.decide(seen.facts)
        if not self._quiet.once(
            asyncio.get_running_loop().time(), "dhcp", answer.name, seen.message, seen.outcome
        ):
            return
        self._attempts.seen(
            answer, seen.facts, "dhcp", f"{seen.message}: {seen.outcome}", {"packet": list(seen.summary)}
        )

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK)
            self._store.catch_up()
            self._attempts.tick()


def _count(things: Sequence[object], name: str) -> str:
    return f"{len(things)} {name}" + ("s" if len(things) != 1 else "")
