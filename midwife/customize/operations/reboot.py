"""``reboot``: which boot the host is in is remembered before it is told to reboot, so that a repeat of the
step (midwife was killed, the connection broke) sees that the reboot has happened and does not do it again.

Linux gives every boot an id. ESXi has no such file; its uptime, with our clock beside it, does the same.
"""

import re
import time

from midwife.customize.errors import (
    ConnectionLost,
    HostKeyError,
    PermanentError,
    StepError,
    StepTimeout,
    UnreachableError,
)
from midwife.customize.operations.base import Context, Result, checked
from midwife.customize.ssh import Connection

__all__ = ["Reboot", "boot_of", "same_boot"]

# In this order: Linux; ESXi (microseconds); anything else with /proc. One line, so one round trip.
_WHICH_BOOT = (
    "if test -r /proc/sys/kernel/random/boot_id; then echo id $(cat /proc/sys/kernel/random/boot_id);"
    " elif up=$(esxcli system stats uptime get 2>/dev/null); then echo us $up;"
    " else echo s $(cut -d. -f1 /proc/uptime); fi"
)
_SLACK = 30.0
"""Seconds by which uptime may lag behind our clock without a reboot (clock steps on our side, slow answers).
No machine boots to a working sshd in less, counted from the moment before it was told to shut down."""


class Reboot:
    """``reboot``, then a login to the next boot."""

    def check(self, context: Context) -> Result | None:
        """Done if the host is in another boot than the remembered one."""
        before = context.recall("boot")
        if before is None:
            return checked(context)
        if same_boot(before, boot_of(_reach_again(context), context.left)):
            return None
        return Result(changed=False, output="rebooted before midwife was restarted")

    def apply(self, context: Context) -> Result:
        """Remember, reboot, wait."""
        connection = context.hands.reach()
        before = context.recall("boot")
        if before is None:
            before = boot_of(connection, context.left)
            context.remember("boot", before)
        began = time.monotonic()
        try:
            output = connection.run("reboot", timeout=min(60.0, context.left))
        except (ConnectionLost, StepTimeout):
            pass  # the shell went down before it could tell its exit status: that is what a reboot is like
        else:
            if output.rc:
                raise StepError(f"'reboot' exits {output.rc}", output.text)
        _await_next_boot(context, before)
        return Result(changed=True, output=f"back after {time.monotonic() - began:.0f} s")

    def verify(self, context: Context) -> None:
        """Another boot was seen."""


def _await_next_boot(context: Context, before: str) -> None:
    try:
        while True:
            try:
                connection = _reach_again(context)
                if not same_boot(before, boot_of(connection, context.left)):
                    return
            except ConnectionLost:
                context.hands.let_go()
            context.cancel.pause(min(context.poll, context.left))
    except UnreachableError as error:
        raise StepError(f"not back {context.step.timeout:g} s after 'reboot': {error}") from None
    except StepTimeout:
        raise StepError(f"still in the same boot {context.step.timeout:g} s after 'reboot'") from None


def _reach_again(context: Context) -> Connection:
    """Log in to a host that may have made new host keys as it booted (ESXi that runs from memory does).

    Its sshd may be up before its callback has told them, so another key than the pinned one is waited out; the
    login itself never takes a key that no authenticated callback named.
    """
    other: HostKeyError | None = None
    while True:
        try:
            if other:
                context.cancel.pause(min(context.poll, context.left))
            return context.hands.reach(context.left)
        except HostKeyError as error:
            other = error
        except StepTimeout as late:
            raise other or late from None


def boot_of(connection: Connection, timeout: float) -> str:
    """Which boot the host is in: ``id UUID``, or ``up UPTIME AT`` in seconds, AT by our clock."""
    said = connection.run(_WHICH_BOOT, timeout=timeout).stdout.strip()
    if re.fullmatch(r"id [0-9a-f-]{36}", said):
        return said
    if found := re.fullmatch(r"(us|s) (\d{1,18})", said):
        up = int(found[2]) / (1e6 if found[1] == "us" else 1)
        return f"up {up:.0f} {time.time():.0f}"
    raise PermanentError("the host does not tell which boot it is in: no boot_id, no uptime", said)


def same_boot(before: str, now: str) -> bool:
    """Whether two answers of ``boot_of`` are of one boot."""
    if before.startswith("id ") or now.startswith("id "):
        return before == now
    up_before, at_before = map(float, before.split()[1:3])
    up_now, at_now = map(float, now.split()[1:3])
    return up_now >= up_before and up_now >= up_before + (at_now - at_before) - _SLACK
