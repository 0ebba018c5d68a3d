"""Which boot is a host in? Linux says it, ESXi's uptime lets it be computed."""

from typing import cast

import pytest

from midwife.customize.capture import Output
from midwife.customize.errors import PermanentError
from midwife.customize.operations.reboot import boot_of, same_boot
from midwife.customize.ssh import Connection


class Says:
    """A host that answers one thing."""

    def __init__(self, text: str) -> None:
        self.text = text

    def run(self, command: str, *, timeout: float) -> Output:
        return Output(0, self.text, "")


def ask(text: str) -> str:
    return boot_of(cast(Connection, Says(text)), 1.0)


def test_what_hosts_answer() -> None:
    assert ask("id 0055a683-5820-4cc9-b4d6-5102af1618f1\n") == "id 0055a683-5820-4cc9-b4d6-5102af1618f1"
    assert ask("us 61000000\n").startswith("up 61 ")  # `esxcli system stats uptime get`: microseconds
    assert ask("s 61\n").startswith("up 61 ")
    for nonsense in ("", "id ", "us", "sh: esxcli: not found", "us 1e6"):
        with pytest.raises(PermanentError, match="which boot"):
            ask(nonsense)


@pytest.mark.parametrize(
    ("before", "now", "same"),
    [
        ("id a", "id a", True),
        ("id a", "id b", False),
        ("up 1000 5000", "up 1060 5060", True),
        ("up 1000 5000", "up 1050 5060", True),  # our clock was set 10 s ahead meanwhile
        ("up 1000 5000", "up 40 5300", False),  # rebooted, and up for 40 s
        (
            "up 10 5000",
            "up 200 5400",
            False,
        ),  # rebooted soon after a boot: up longer than then, but not enough
        ("up 1000 5000", "up 1060 4000", True),  # our clock was set back
    ],
)
def test_same_boot(before: str, now: str, same: bool) -> None:
    assert same_boot(before, now) is same
