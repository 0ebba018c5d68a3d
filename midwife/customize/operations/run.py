"""``run``: a command or script for the host's login shell. Its exit status decides."""

from midwife.customize.errors import PermanentError, StepError
from midwife.customize.operations.base import Context, Result, checked

__all__ = ["Run"]

_NOT_EXECUTABLE, _NOT_FOUND = 126, 127
"""POSIX shell, "Exit Status for Commands". ESXi's execInstalledOnly refuses programs that way too."""


class Run:
    """Without ``check:`` it is run every time."""

    def check(self, context: Context) -> Result | None:
        """The step's own check."""
        return checked(context)

    def apply(self, context: Context) -> Result:
        """Run it."""
        output = context.hands.reach().run(context.fill(context.step.command), timeout=context.left)
        if output.rc in (_NOT_EXECUTABLE, _NOT_FOUND):
            what = "not found" if output.rc == _NOT_FOUND else "not permitted to run (execInstalledOnly?)"
            raise PermanentError(f"exit status {output.rc}: a command in it is {what}", output.text)
        if output.rc:
            raise StepError(f"exit status {output.rc}", output.text)
        return Result(changed=True, output=output.text)

    def verify(self, context: Context) -> None:
        """The exit status said it."""
