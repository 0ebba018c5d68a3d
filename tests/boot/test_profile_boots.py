"""From a depot to a host that is ready: an image profile composed, made bootable and served by midwife's own
commands boots a real UEFI machine, which calls back.

A look-alike ESXi: its kernel payload is a Linux kernel, its first module the guest's RAM disk, its boot loader one
of ours in mboot.efi's place; everything else is as in a depot of 8.0.3, signed by the tests' own authority.
"""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.peers.esximage import Content, Pki, look_alike_profile, write_bundle

from .conftest import _unavailable
from .efiloader import mboot_efi
from .guest import Guest
from .guest.cpio import Entry, pack
from .isoloaders import LoaderError
from .lab import Lab
from .scenario import HOST, Scene
from .service import STEPS, Service, write_site
from .vm import Firmware

pytestmark = [pytest.mark.firmware, pytest.mark.timeout(400)]

# What ESXi's kernel does with modules: archives are unpacked over the root, before the system starts.
_UNPACK = b"""#!/bin/busybox sh
for module in /modules/*.t[0-9a-g]*; do
    /bin/busybox tar -xzf "$module" -C / || echo "GUEST FAIL $module"
done
exec /init
"""


def depot(folder: Path, guest: Guest, trust: Path) -> Content:
    """A signed bundle, and its signers in the site's trust folder."""
    pki = Pki.make()
    for level, identity in (("certified", pki.certified), ("accepted", pki.root), ("partner", pki.root)):
        (trust / level).mkdir(parents=True)
        (trust / level / "anchor.pem").write_bytes(identity.pem)
    disk = b"".join(gzip.decompress(path.read_bytes()) for path in guest.initrds)
    disk += gzip.decompress(pack({"unpack": Entry.file(_UNPACK, 0o755)}))
    loader = mboot_efi(folder)
    replaced = {"b": guest.kernel.read_bytes(), "jumpstrt": disk, "BOOTx64.EFI": loader}
    content = look_alike_profile("8.0.3", pki=pki, replace=replaced)
    write_bundle(folder / "depot.zip", content)
    return content


def composed(site: Path, lab: Lab, content: Content, bundle: Path) -> Service:
    """What an administrator types; the service runs afterwards."""
    service = Service(lab, site)
    for words, expected in (
        (("depot", "add", str(bundle), "--name", "vmware"), "2 image profiles"),
        (("image", "clone", content.profile_name, "lab", "--vendor", "Lab"), "VIBs, valid"),
        (("image", "edit", "lab", "--acceptance-level", "community"), "VIBs, valid"),
        (("image", "add", "lab", "lab-agent", "i40en"), "replaced  VMW_bootbank_i40en"),
        (("image", "netboot", "lab"), "served with the boot module"),
        (("image", "verify", "lab"), "lab: ok"),
        (("check",), "no errors"),
    ):
        told = service.cli(*words, timeout=120)
        assert expected in told, told
    service.start()
    return service


def test_from_a_depot_to_a_host_that_is_ready(
    make_lab: Callable[..., Lab], guest: Guest, tmp_path: Path
) -> None:
    site = write_site(
        tmp_path / "site",
        guest,
        address=Lab.service,
        proxydhcp={"enabled": "true"},
        hosts={
            HOST: {
                "macs": "52:54:00:77:00:01",
                "image": "lab",
                "options": f"{guest.options} rdinit=/unpack",
            }
        },
    )
    try:
        content = depot(tmp_path, guest, site / "trust")
    except LoaderError as problem:
        _unavailable(str(problem))
        raise
    lab = make_lab()
    service = composed(site, lab, content, tmp_path / "depot.zip")
    scene = Scene(lab, service, lab.machine(HOST, Firmware.EFI, memory=512), guest, STEPS)
    scene.boot()

    status = service.status(HOST)
    assert (status["state"], status["image"]) == ("ready", "lab")
    loaded = sorted((site / "data/images/lab/files").glob("*.[vtb]*"))
    assert status["files"] == status["files_done"]
    assert status["files"] > len(loaded) > 40
    story = [(event["kind"], event["text"]) for event in service.events(HOST)]
    assert any(kind == "loader" and "mboot.efi fetched by" in text for kind, text in story), story
    assert any(kind == "loading" and text.startswith("first file b.b00, over tftp") for kind, text in story)
    scene.prove_customized()
    assert scene.ssh("cat /opt/lab/agent.sh") == "#!/bin/sh\n", "the VIB that was added is not in the host"
    scene.prove_silent()
