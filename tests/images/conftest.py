"""A look-alike ESXi ISO, made once, and an empty library."""

from pathlib import Path

import pytest

from midwife.images.library import Kind, Library
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
