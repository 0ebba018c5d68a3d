"""For all tests: nothing here cuts the power, so nothing waits for the disk."""

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def impatient() -> Iterator[None]:
    """``os.fsync`` only looks whether the descriptor is one. Thousands of imports would wear a disk out, and on a
    slow one take minutes. Processes that tests start are as careful as ever.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)
        yield
