"""Sites for commands about image profiles."""

from pathlib import Path

import pytest

from tests.cli.imagesite import copy_site, image, make_site
from tests.peers.esximage import Content


@pytest.fixture(scope="session")
def esxi_site(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Content]:
    """Made once; ``site`` is a copy of it."""
    root = tmp_path_factory.mktemp("site")
    return root, make_site(root)


@pytest.fixture
def site(esxi_site: tuple[Path, Content], tmp_path: Path) -> Path:
    """A site with a depot and no image profile."""
    return copy_site(esxi_site[0], tmp_path / "site")


@pytest.fixture
def content(esxi_site: tuple[Path, Content]) -> Content:
    """What is in the depot."""
    return esxi_site[1]


@pytest.fixture
def lab(site: Path, content: Content) -> Path:
    """A site that has a copy of the depot's profile, called lab."""
    done = image(
        site, "clone", content.profile_name, "lab", "--vendor", "Lab", "--acceptance-level", "community"
    )
    assert done.exit_code == 0, done.output
    return site
