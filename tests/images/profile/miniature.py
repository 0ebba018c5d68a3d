"""An ESXi small enough to read: a base, drivers, an OEM's better one, an overlay VIB, an agent."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from midwife.images.depot.depot import Bulletin
from midwife.images.errors import ImageError
from midwife.images.objects.acceptance import AcceptanceLevel
from midwife.images.objects.constraint import SoftwareConstraint, SoftwareProvide
from midwife.images.objects.package import Checksum, Payload, SoftwarePackage, SoftwarePlatform
from midwife.images.objects.profile import ImageProfile, ProfileVib
from midwife.images.objects.version import SoftwareVersion
from midwife.images.profile.resolved import ResolvedProfile
from midwife.images.vib.content import Vib

NOW = datetime(2026, 11, 26, 4, 0, tzinfo=UTC)
LATER = datetime(2026, 11, 27, 4, 0, tzinfo=UTC)
GUID = "57ffe944378b11e8ae0c0200e5cbd056"
PARTNER, COMMUNITY, CERTIFIED = AcceptanceLevel.PARTNER, AcceptanceLevel.COMMUNITY, AcceptanceLevel.CERTIFIED


def constraints(texts: Iterable[str]) -> tuple[SoftwareConstraint, ...]:
    return tuple(SoftwareConstraint.parse(text) for text in texts)


def package(
    name: str,
    version: str = "1.0-1",
    *,
    vendor: str = "VMW",
    type: str = "bootbank",
    depends: Iterable[str] = (),
    conflicts: Iterable[str] = (),
    replaces: Iterable[str] = (),
    provides: Iterable[str] = (),
    files: Iterable[str] | None = None,
    level: AcceptanceLevel = CERTIFIED,
    payloads: Iterable[str] | None = None,
    sum: str = "0" * 64,
    platforms: Iterable[str] = (),
    **more: object,
) -> SoftwarePackage:
    """``payloads``: their types. ``platforms``: products."""
    given = []
    for text in provides:
        provide, _, release = text.partition(" = ")
        given.append(SoftwareProvide(provide, SoftwareVersion.parse(release) if release else None))
    types = ["vgz"] if payloads is None else list(payloads)
    return SoftwarePackage(
        name=name,
        version_object=SoftwareVersion.parse(version),
        vendor=vendor,
        type=type,
        depends=constraints(depends),
        conflicts=constraints(conflicts),
        replaces=constraints(replaces),
        provides=tuple(given),
        files=(f"usr/lib/vmware/{name}/{name}.so",) if files is None else tuple(files),
        acceptance_level=level,
        payloads=tuple(
            Payload(f"p{number}", kind, 100, (Checksum("sha-256", sum),)) for number, kind in enumerate(types)
        ),
        software_platforms=tuple(SoftwarePlatform(product) for product in platforms),
        **more,  # type: ignore[arg-type]
    )


def base(version: str = "8.0.3-0.35.24280767", **more: object) -> SoftwarePackage:
    short = version.partition("-")[0]
    return package(
        "esx-base",
        version,
        vendor="VMware",
        provides=[f"esx-version = {short}", "vmkapi_2_9_0_0", "vmkapi_2_12_0_0"],
        depends=["esx-update >= 8.0"],
        payloads=["boot", "boot", "vgz"],
        files=["bin/vmx", "bin/ls", "etc/"],
        **more,  # type: ignore[arg-type]
    )


def update() -> SoftwarePackage:
    return package("esx-update", "8.0.3-0.35.24280767", vendor="VMware", provides=["esximage = 1.0"])


def tools() -> SoftwarePackage:
    return package("tools-light", "12.4.0-24280767", vendor="VMware", type="locker", payloads=["tgz"])


def inbox_driver(version: str = "1.11-1vmw.803") -> SoftwarePackage:
    return package("i40en", version, depends=["vmkapi_2_9_0_0"])


def oem_driver() -> SoftwarePackage:
    """Takes the place of the inbox driver under another name."""
    return package(
        "i40en-acme",
        "3.0-1OEM.803",
        vendor="ACME",
        replaces=["i40en"],
        depends=["vmkapi_2_12_0_0"],
        level=PARTNER,
    )


def overlay() -> SoftwarePackage:
    return package("gc", "8.0.3-1", vendor="VMware", files=["bin/ls"], overlay=True)


def agent(version: str = "1.0.0-1", **more: object) -> SoftwarePackage:
    return package("lab-agent", version, vendor="Lab", files=["opt/lab/agent"], level=COMMUNITY, **more)  # type: ignore[arg-type]


def esxi() -> list[SoftwarePackage]:
    """Valid."""
    return [
        base(),
        update(),
        tools(),
        inbox_driver(),
        overlay(),
        package("nvmxnet3", depends=["vmkapi_2_9_0_0"]),
    ]


def resolved(
    packages: Iterable[SoftwarePackage],
    *,
    name: str = "lab",
    level: AcceptanceLevel = PARTNER,
    missing: Iterable[str] = (),
    depot: str = "vmware",
    **more: object,
) -> ResolvedProfile:
    """Those packages as an image profile of the lab."""
    members = {one.id: one for one in packages}
    ids = sorted({*members, *missing})
    profile = ImageProfile(
        name=name,
        vendor="Lab",
        guid=GUID,
        acceptance_level=level,
        creation_time=NOW,
        modified_time=NOW,
        vibs=tuple(ProfileVib(vib) for vib in ids),
        **more,  # type: ignore[arg-type]
    )
    return ResolvedProfile(profile, members, dict.fromkeys(members, depot), tuple(sorted(missing)))


@dataclass
class Shelf:
    """A depot that is nothing but a list."""

    name: str
    packages: Mapping[str, SoftwarePackage]
    profiles: tuple[ImageProfile, ...] = ()
    bulletins: tuple[Bulletin, ...] = ()
    warnings: tuple[str, ...] = ()
    source: str = "a test"

    def vib(self, vib_id: str) -> Vib:
        raise ImageError(f"{vib_id}: this depot has no contents")


def shelf(name: str, *packages: SoftwarePackage, profiles: Iterable[ImageProfile] = ()) -> Shelf:
    return Shelf(name, {one.id: one for one in sorted(packages, key=lambda one: one.id)}, tuple(profiles))
