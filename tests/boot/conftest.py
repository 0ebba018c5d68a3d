"""What the tests with virtual machines share: the built guest, and a network, or why there is none."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .guest import Guest, GuestError, build_guest
from .lab import Lab
from .usernet import UserNet

_CACHE = Path(__file__).parents[2] / ".cache" / "lab"
_REQUIRED = "MIDWIFE_REQUIRE_LAB"


def _unavailable(reason: str) -> None:
    """Skips, by name; where MIDWIFE_REQUIRE_LAB is set (continuous integration), fails."""
    if os.environ.get(_REQUIRED):
        pytest.fail(f"{_REQUIRED} is set, but {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def guest() -> Guest:
    """The Linux guest in ESXi's clothes; built once and kept in .cache/lab of the checkout."""
    try:
        return build_guest(_CACHE)
    except GuestError as problem:
        _unavailable(str(problem))
        raise


@pytest.fixture(scope="session")
def netns_lab() -> None:
    """Skips the tests that need network namespaces where there are none."""
    possible, reason = Lab.available()
    if not possible:
        _unavailable(reason)


@pytest.fixture
def make_lab(netns_lab: None, tmp_path: Path) -> Iterator[Callable[..., Lab]]:
    """Makes labs (arguments as of ``Lab``) whose logs stay in the test's directory; all end with the test."""
    labs: list[Lab] = []

    def make(**options: object) -> Lab:
        labs.append(Lab(tmp_path / f"lab{len(labs)}", **options))  # type: ignore[arg-type]
        return labs[-1]

    yield make
    for lab in labs:
        lab.close()


@pytest.fixture
def usernet(tmp_path: Path) -> Iterator[UserNet]:
    """The lab without root; ends with the test."""
    possible, reason = UserNet.available()
    if not possible:
        _unavailable(reason)
    with UserNet(tmp_path / "usernet") as lab:
        yield lab
