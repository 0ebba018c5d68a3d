"""A look-alike ESXi ISO, made once, and an empty library; a miniature ESXi as VIBs, bundle and ISO."""

from pathlib import Path

import pytest

from midwife.images.boot.library import Kind, Library
from tests.peers.esximage import Content, Pki, look_alike_profile, write_bundle, write_installer_iso
from tests.peers.esxiso import LookAlike, look_alike


def stand_in_module(public_key: str, kind: Kind) -> bytes:
    """Bytes that depend on the key and the kind, as the boot module's do."""
    return f"{kind} module with {public_key}".encode()


@pytest.fixture(scope="session")
def installer(tmp_path_factory: pytest.TempPathFactory) -> LookAlike:
    return look_alike(tmp_path_factory.mktemp("iso"))


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "data", {}, tmp_path, "ssh-ed25519 AAAA midwife", stand_in_module)


@pytest.fixture(scope="session")
def pki() -> Pki:
    """Keys that stand in for VMware's."""
    return Pki.make()


@pytest.fixture(scope="session")
def esxi(pki: Pki) -> Content:
    """A signed miniature of ESXi 8.0.3: about 30 VIBs of two profiles, and a dozen of others beside them."""
    return look_alike_profile("8.0.3", pki=pki)


@pytest.fixture(scope="session")
def esxi_bundle(esxi: Content, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its offline bundle."""
    return write_bundle(tmp_path_factory.mktemp("bundle") / "VMware-ESXi-8.0.3-depot.zip", esxi)


@pytest.fixture(scope="session")
def esxi_iso(esxi: Content, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installer ISO of its standard profile."""
    return write_installer_iso(tmp_path_factory.mktemp("iso") / "VMware-ESXi-8.0.3.iso", esxi)
