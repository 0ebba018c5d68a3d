"""Real firmware in virtual machines: the guest, the machines, the networks they boot from. See README.md."""

import pytest

# Their assertions are to show values, as those of test files do.
pytest.register_assert_rewrite("tests.boot.scenario", "tests.boot.service")
