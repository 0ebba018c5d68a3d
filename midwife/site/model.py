"""What a site directory can say, as types. Text to value and value checks live here; reading files, positions
and checks across files live in ``midwife.site.load``.

Every field of a YAML file arrives as text (the loader does not guess types, because YAML would read the MAC
address 52:54:00:12:34:56 as the number 41135085296), and pydantic turns it into what is declared here.
"""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, InstanceOf

from midwife.rules.patterns import parse_pattern
from midwife.rules.sets import RuleSets
from midwife.site.imageprofile import ImageProfileFile
from midwife.wire.identity import clean_serial, parse_mac, parse_uuid

__all__ = [
    "BootMode",
    "Callback",
    "Configuration",
    "Deadlines",
    "Endpoint",
    "Host",
    "Image",
    "Items",
    "ProxyDhcp",
    "Rule",
    "SecretRef",
    "Server",
    "Site",
    "Ssh",
    "Step",
    "seconds",
]

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d)?")
_UNIT = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST = 366 * 86400.0  # also keeps a mistyped number from becoming infinite


def seconds(value: object) -> float:
    """Seconds out of ``90``, ``90s``, ``15m``, ``1h``, ``2d``. Raises ValueError."""
    if isinstance(value, int | float):
        return float(value)
    match = _DURATION.fullmatch(str(value).strip())
    if not match:
        raise ValueError(f"{value!r} is not a duration; write 90s, 15m, 1h or 2d")
    result = float(match[1]) * _UNIT[match[2] or "s"]
    if result > _LONGEST:
        raise ValueError(f"{value!r} is longer than a year")
    return result


def _address(text: str) -> str:
    try:
        # Not fe80::1%eth0: a zone means something on one machine only.
        return str(ipaddress.ip_address(text.replace("%", "/")))
    except ValueError:
        raise ValueError(f"{text!r} is not an IPv4 or IPv6 address") from None


class Endpoint(BaseModel):
    """Where to listen: ``*:69``, ``192.0.2.3:69``, ``[::]:69`` or a bare port (all addresses)."""

    model_config = ConfigDict(frozen=True)
    host: str
    port: int

    @classmethod
    def parse(cls, value: object) -> "Endpoint":
        """Raises ValueError with the accepted forms."""
        if isinstance(value, Endpoint):
            return value
        text = str(value).strip()
        host, _, port = text.rpartition(":")
        host = host.strip("[]") or "*"
        if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
            raise ValueError(f"{text!r} is not an address to listen on; write *:69, 192.0.2.3:69 or [::]:69")
        return cls(host="*" if host == "*" else _address(host), port=int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,79}", text):
        raise ValueError(f"{text!r} is not a name: letters, digits and . _ - + only, at most 80")
    return text


def _secret_ref(text: str) -> str:
    kind, _, rest = text.partition(":")
    if kind not in ("env", "file", "clear") or not rest:
        raise ValueError("a secret is a reference: env:NAME, file:/path or, for a throw-away lab, clear:TEXT")
    return text


def _kernel_words(text: str) -> str:
    words = " ".join(text.split())
    if any(ord(c) < 32 or ord(c) > 126 for c in words):
        raise ValueError("a kernel command line is printable ASCII")
    for word in words.split():
        if word.startswith(("PBHOST=", "PBTOKEN=")):
            raise ValueError(f"{word.split('=')[0]}= is set by midwife; leave it out")
    return words


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _patterns(value: Any) -> Any:
    return [] if isinstance(value, str) and value.strip().lower() == "all" else _as_list(value)


def _pattern(text: str) -> str:
    if text.strip().lower() == "all":
        raise ValueError("all stands alone: write patterns: all")
    parse_pattern(text)
    return text


def _mac(text: str) -> str:
    mac = parse_mac(text)
    if int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
        raise ValueError(f"{mac} is no network card's address (a group address or all zeros)")
    return mac


def _uuid(text: str) -> str:
    value = parse_uuid(text)
    if not value:
        raise ValueError(f"{text!r} is a vendor's dummy, on many machines; use macs or serial instead")
    return value


def _serial(text: str) -> str:
    value = clean_serial(text)
    if text.strip() and not value:
        raise ValueError(f"{text!r} is what vendors leave in place of a serial number; use macs or uuid")
    return value


def _reachable(text: str) -> str:
    address = ipaddress.ip_address(_address(text))
    if address.is_unspecified or address.is_multicast:
        raise ValueError(f"{text!r} is not an address that hosts can reach; give one of this machine's own")
    return str(address)


def _rule_name(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError(f"{text!r} is not a rule's name: printable characters, no blank at either end")
    return text


def _location(text: str) -> str:
    parts = text.split("/")
    if not all(part and part == part.strip() and part.isprintable() for part in parts):
        raise ValueError(
            f"{text!r} is not a location; write DATACENTER, DATACENTER/FOLDER or DATACENTER/CLUSTER, "
            "and %2f for a slash in a name"
        )
    if long := [part for part in parts if len(part) > 80]:  # vSphere's own limit of names
        raise ValueError(
            f"{long[0][:40] + '…'!r} is longer than 80 characters, the longest name in a vCenter"
        )
    return text


def _bundle(text: str) -> str:
    if not text.lower().endswith((".tgz", ".tar.gz")):
        raise ValueError(f"{text!r} is not a script bundle; it is a .tgz file in bundles/")
    return text


Name = Annotated[str, AfterValidator(_name)]
Address = Annotated[str, AfterValidator(_address)]
Duration = Annotated[float, BeforeValidator(seconds)]
Mac = Annotated[str, AfterValidator(_mac)]
Pattern = Annotated[str, AfterValidator(_pattern)]
SecretRef = Annotated[str, AfterValidator(_secret_ref)]
Bundle = Annotated[str, AfterValidator(_bundle)]
KernelWords = Annotated[str, AfterValidator(_kernel_words)]
Listen = Annotated[Endpoint, BeforeValidator(Endpoint.parse)]
Listens = Annotated[tuple[Listen, ...], BeforeValidator(_as_list)]
BootMode = Literal["stateless", "install", "local"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Tftp(_Strict):
    """TFTP, read-only."""

    listen: Listens = (Endpoint(host="*", port=69),)
    max_transfers_per_client: Annotated[int, Field(alias="max-transfers-per-client", ge=1)] = 32
    max_transfers: Annotated[int, Field(alias="max-transfers", ge=1)] = 4096


class Http(_Strict):
    """The boot plane's HTTP; nothing of the administration is on it."""

    listen: Listens = (Endpoint(host="*", port=8080),)


class Callback(_Strict):
    """Where hosts call (TCP and UDP on the same port), and what an unproven caller may cause."""

    listen: Listens = (Endpoint(host="*", port=3500),)
    unauthenticated: Literal["record", "push"] = "record"
    """``push`` runs customizations without secrets on hosts whose callback carried no valid token."""
    address: Literal["exact", "any"] = "exact"
    """``exact``: a token counts only from the address that fetched the configuration (or the host's own
    ``address:``). ``any``: firmware and system may get different leases; the token alone counts."""
    token_lifetime: Annotated[Duration, Field(alias="token-lifetime")] = 3600.0


class ProxyDhcp(_Strict):
    """Boot information beside a DHCP server that gives none. Off unless asked for."""

    enabled: bool = False
    interfaces: tuple[str, ...] = ()
    """Empty: the interface that carries ``server.address``."""
    answer: Literal["known", "all"] = "known"
    """``known``: hosts of the site only. ``all``: strangers too, if a rule gives them an image."""
    bios: Literal["ipxe", "pxelinux"] = "ipxe"
    """``pxelinux``: BIOS machines load PXELINUX, even where their ROM is iPXE."""


class Deadlines(_Strict):
    """How long a state may last before the boot attempt is declared failed."""

    loading: Duration = 1800.0
    booted: Duration = 600.0
    called_back: Annotated[Duration, Field(alias="called-back")] = 300.0
    customizing: Duration = 3600.0


class Ssh(_Strict):
    """How midwife logs in to a booted host."""

    user: str = "root"
    port: Annotated[int, Field(ge=1, le=65535)] = 22
    key: Path | None = None
    """Private key file; none: the service's own (in the data directory), which the boot module installs."""
    password: SecretRef | None = None


class Server(_Strict):
    """The service itself."""

    address: Annotated[str, AfterValidator(_reachable)]
    """The address at which booting hosts reach midwife."""
    data: Path = Path("data")
    """Observed state, imported images, keys; relative to the site directory."""


class Image(_Strict):
    """A kernel with its initial RAM disks, or an imported ESXi image with options of this site's own."""

    kernel: Path | None = None
    initrd: Annotated[tuple[Path, ...], BeforeValidator(_as_list)] = ()
    imported: Name | None = None
    """Name in the image library, for an ESXi image under another name with other options."""
    options: KernelWords = ""
    netboot: bool = False
    """Add the boot module (callback client, start script, the service's public key)."""


class Host(_Strict):
    """One machine that the site knows. Any of macs, uuid and serial identifies it."""

    name: Name
    macs: Annotated[tuple[Mac, ...], BeforeValidator(_as_list)] = ()
    uuid: Annotated[str, AfterValidator(_uuid)] | None = None
    serial: Annotated[str, AfterValidator(_serial)] = ""
    address: Address | None = None
    """The address the booted system will have, where it differs from the one its firmware gets."""
    image: Name | None = None
    configuration: Name | None = None
    boot: BootMode | None = None
    options: KernelWords = ""
    ssh: Ssh | None = None
    labels: dict[str, str] = {}
    vars: dict[str, Any] = {}


class Items(_Strict):
    """What a rule gives; per type the first matching rule wins."""

    image: Name | None = None
    configuration: Name | None = None
    boot: BootMode | None = None
    location: Annotated[str, AfterValidator(_location)] | None = None
    """``datacenter[/folder…][/cluster]``: where a host that joins a vCenter goes."""
    script_bundle: Annotated[Bundle | None, Field(alias="script-bundle")] = None
    """File in the site's ``bundles/``."""

    def given(self) -> dict[str, str]:
        """Item type (as people write it) -> value, only what is given."""
        values = {
            "image": self.image,
            "configuration": self.configuration,
            "boot": self.boot,
            "location": self.location,
            "script-bundle": self.script_bundle,
        }
        return {kind: value for kind, value in values.items() if value is not None}


class Rule(_Strict):
    """Patterns (all of them must match; ``all``, here an empty tuple: every host) and items."""

    name: Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_rule_name)]
    """Hidden from lists if it begins with a dot."""
    patterns: Annotated[tuple[Pattern, ...], BeforeValidator(_patterns)]
    items: Items


class Step(_Strict):
    """One operation. Exactly one of the kinds is given; texts are Jinja2 templates."""

    name: str = ""
    run: str | None = None
    esxcli: str | None = None
    upload: Path | None = None
    """File in the site's ``bundles/`` directory; with ``template: true`` rendered first."""
    content: str | None = None
    to: str | None = None
    mode: Annotated[str, Field(pattern=r"^[0-7]{3,4}$")] = "0644"
    template: bool = False
    wait_online: Annotated[Duration | None, Field(alias="wait-online")] = None
    reboot: str | None = None
    """The reason, as esxcli wants one."""
    check: str | None = None
    """Command that exits 0 if the step's work is already done."""
    verify: str | None = None
    """Command that must exit 0 afterwards."""
    timeout: Duration = 120.0
    retries: Annotated[int, Field(ge=0, le=20)] = 2


class Configuration(_Strict):
    """A host configuration: the steps that are pushed after the callback."""

    name: Name
    ssh: Ssh | None = None
    steps: tuple[Step, ...] = ()


class Main(_Strict):
    """``midwife.yaml``."""

    server: Server
    tftp: Tftp = Tftp()
    http: Http = Http()
    callback: Callback = Callback()
    proxydhcp: ProxyDhcp = ProxyDhcp()
    deadlines: Deadlines = Deadlines()
    ssh: Ssh = Ssh()
    secrets: dict[Name, SecretRef] = {}
    images: dict[Name, Image] = {}


class Site(_Strict):
    """Everything the user said, checked; ``root`` is the site directory (absolute)."""

    root: Path
    main: Main
    hosts: tuple[Host, ...] = ()
    rules: tuple[Rule, ...] = ()
    """The active rule set, in order: what decides."""
    rule_sets: InstanceOf[RuleSets[Rule]] = RuleSets()
    """Every rule, and which of them are active or in the working set."""
    pins: dict[str, Items] = {}
    """``pins.yaml``, by host name or MAC address (canonical)."""
    configurations: dict[str, Configuration] = {}
    image_profiles: tuple[ImageProfileFile, ...] = ()

    @property
    def data_dir(self) -> Path:
        """The data directory, absolute."""
        return self.root / self.main.server.data
