"""A small site with its images and everything that decides, put together as the control process does it, with a
clock that stands still.

    host     identified by   boots
    esx-01   MAC ...:01      linux image "rescue", configuration "base"
    esx-02   MAC ...:02      ESXi image "8.0U3"
    disk-03  MAC ...:03      its own disk
    byuuid   UUID only       "rescue"
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from midwife.core.decide import Answer, decide
from midwife.core.facts import Facts
from midwife.images.boot.library import BootImage, Library
from midwife.images.boot.manifest import Entry, Manifest, write_manifest
from midwife.serve.attempts import Attempts, Grant
from midwife.serve.callback import Call, Transport
from midwife.serve.control.reception import Reception
from midwife.serve.messages import Ask, Content, Outcome
from midwife.serve.render import Renderer
from midwife.serve.resolver import Resolver
from midwife.site.model import Configuration, Host, Main, Rule, Site
from midwife.store.records import Attempt
from midwife.store.store import Store
from midwife.wire.callback import CallbackMessage, Reply

MACS = {name: f"52:54:00:00:00:0{number}" for number, name in enumerate(("esx-01", "esx-02", "disk-03"), 1)}
UUID = "11223344-5566-7788-99aa-bbccddeeff00"
HOSTKEY = "SHA256:" + "A" * 43
SECRET = b"the secret of the tokens, 32 byte"
ESXI_FILES = {
    "b.b00": b"kernel",
    "k.b00": b"module one",
    "s.v00": b"module two, longer",
    "mboot.efi": b"loader",
    "mboot.c32": b"loader for BIOS",
    "efi/boot/crypto64.efi": b"crypto",
}
BOOT_CFG = (
    "bootstate=0\ntitle=Loading ESXi installer\ntimeout=5\nprefix=\nkernel=/b.b00\n"
    "kernelopt=runweasel cdromBoot\nmodules=/k.b00 --- /s.v00\nbuild=8.0.3-0.0.24022510\nupdated=0\n"
)


class Clock:
    """Stands still until it is told to go."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += seconds


def main_section(**changes: Any) -> Main:
    values: dict[str, Any] = {
        "server": {"address": "192.0.2.2"},
        "images": {
            "rescue": {"kernel": "images/vmlinuz", "initrd": ["images/initrd.img"], "options": "quiet"}
        },
        **changes,
    }
    return Main.model_validate(values)


def usual_hosts() -> tuple[Host, ...]:
    return (
        Host(name="esx-01", macs=(MACS["esx-01"],), image="rescue", configuration="base", serial="SN-1"),
        Host(name="esx-02", macs=(MACS["esx-02"],), image="8.0U3"),
        Host(name="disk-03", macs=(MACS["disk-03"],), boot="local"),
        Host(name="byuuid", uuid=UUID, image="rescue"),
    )


def make_site(
    root: Path,
    *,
    hosts: Iterable[Host] | None = None,
    rules: Iterable[dict[str, Any]] = (),
    steps: Iterable[dict[str, Any]] = ({"run": "true"},),
    **main: Any,
) -> Site:
    """Files and all: a kernel, an initial RAM disk, an imported ESXi image."""
    (root / "images").mkdir(parents=True, exist_ok=True)
    (root / "images" / "vmlinuz").write_bytes(b"a kernel")
    (root / "images" / "initrd.img").write_bytes(b"an initial RAM disk")
    (root / "files").mkdir(exist_ok=True)
    site = Site(
        root=root,
        main=main_section(**main),
        hosts=tuple(usual_hosts() if hosts is None else hosts),
        rules=tuple(Rule.model_validate(rule) for rule in rules),
        configurations={"base": Configuration.model_validate({"name": "base", "steps": list(steps)})},
    )
    import_esxi(site.data_dir)
    return site


def import_esxi(data: Path, name: str = "8.0U3") -> None:
    """As ``midwife image import`` leaves it."""
    folder = data / "images" / name
    for file, body in ESXI_FILES.items():
        path = folder / "files" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    manifest = Manifest(
        name=name,
        kind="esxi",
        title="Loading ESXi installer",
        build="8.0.3-0.0.24022510",
        profile="",
        source="lab.iso",
        iso_sha256="0" * 64,
        imported="2026-01-01T00:00:00Z",
        boot_cfg=BOOT_CFG,
        files={file: Entry(len(body), "0" * 64) for file, body in ESXI_FILES.items()},
    )
    write_manifest(folder, manifest)


class StartedRuns:
    """In place of the engine: remembers what was to be pushed."""

    def __init__(self) -> None:
        self.started: list[tuple[Attempt, Facts, str, bool]] = []

    def start(self, attempt: Attempt, facts: Facts, client: str, *, trusted: bool) -> None:
        self.started.append((attempt, facts, client, trusted))


class World:
    """Everything between the wire and the database."""

    def __init__(self, site: Site, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.site = site
        self.store = Store.open(site.data_dir / "midwife.db")
        self.runs = StartedRuns()
        self.over: list[tuple[str, str]] = []
        self.start()

    def start(self) -> None:
        """A fresh process on the same database."""
        self.library = Library(
            self.site.data_dir, self.site.main.images, self.site.root, "ssh-ed25519 AAAA m"
        )
        self.renderer = Renderer(self.site)
        self.attempts = Attempts(self.store, SECRET, self.site.main.deadlines, self.clock)
        self.attempts.on_over = lambda attempt, why: self.over.append((attempt, why))
        self.resolver = Resolver(self.site, self.library, self.renderer, self.attempts)
        self.reception = Reception(
            self.site, self.attempts, self.runs, self.resolver.decide, SECRET, self.clock
        )
        self.attempts.recover()

    def close(self) -> None:
        self.store.close()

    # what machines do

    def answer(self, name: str = "esx-01") -> tuple[Answer, Facts]:
        facts = Facts(macs=(MACS.get(name, name),))
        return decide(facts, self.site, self.library.hardware()), facts

    def image(self, name: str = "rescue") -> BootImage:
        return self.library.get(name)

    def grant(self, name: str = "esx-01", address: str = "192.0.2.11", image: str = "rescue") -> Grant:
        """The host fetches its configuration."""
        return self.attempts.grant(*self.answer(name), self.image(image), address, "ipxe over http")

    def load(self, attempt: str, image: str = "rescue", only: int | None = None) -> None:
        """The image's files reach the host, or the first few of them."""
        whole = self.image(image)
        for name in whole.loads[:only]:
            size = whole.files[name].size
            self.attempts.served(attempt, name, size, complete=True, proto="http", client="192.0.2.11")

    def ask(
        self,
        name: str,
        proto: str = "http",
        client: str = "192.0.2.11",
        query: dict[str, str] | None = None,
    ) -> Outcome:
        return self.resolver.resolve(Ask(7, proto, name, client, "192.0.2.2", query or {}))

    def text(self, name: str, proto: str = "http", client: str = "192.0.2.11", **query: str) -> str:
        """The rendered answer."""
        outcome = self.ask(name, proto, client, query)
        assert isinstance(outcome, Content), outcome
        return outcome.body.decode()

    def call(
        self,
        message: CallbackMessage | None,
        client: str = "192.0.2.11",
        transport: Transport = Transport.TCP,
    ) -> Reply:
        return self.reception.handle(Call(transport, client, "192.0.2.2", message))

    # what people see

    def state(self, host: str = "esx-01") -> str:
        row = self.store.host(host)
        assert row, f"no row for {host}"
        return row.state.value

    def kinds(self, host: str = "esx-01") -> list[str]:
        return [event.kind for event in self.store.events(host)]

    def texts(self, host: str = "esx-01") -> str:
        return "\n".join(event.text for event in self.store.events(host))
