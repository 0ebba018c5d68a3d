"""``esxcli``: one esxcli command, with what is known of its ways to say no. It prints its errors on either
stream and exits 1 for all of them, so the text decides whether trying again makes sense.
"""

import re

from midwife.customize.capture import Output
from midwife.customize.errors import PermanentError, StepError
from midwife.customize.operations.base import Context, Result, checked

__all__ = ["Esxcli"]

# A wrong command stays wrong.
_WRONG = re.compile(
    r"Unknown command or namespace|Missing required parameter|Invalid option"
    r"|[Uu]nrecognized (option|argument)|^Usage: esxcli ",
    re.MULTILINE,
)
# Names that `esxcli software` puts in brackets; MetadataDownloadError and the like are left out on purpose:
# a depot that does not answer now may answer in a minute.
_REFUSED = re.compile(
    r"\[(AcceptanceConfig|Dependency|VibValidation|ProfileValidation|NoMatch|VibSigMissing|VibSigInvalid"
    r"|VibPayloadDigest|ChecksumVerification|Downgrade|MaintenanceMode|Stateless|Value|VibFormat)Error\]"
)
# hostd starts late; `esxcli` needs it, and says so in these words.
_NOT_READY = re.compile(
    r"Connect to localhost failed|Connection failure|hostd.*not (running|respond)", re.IGNORECASE
)
# "add" of what is there: "A portgroup with the name X already exists", "… already been mounted". It is what
# was asked for, unless its other parameters differ; a `check:` or `verify:` in the step tells that.
_EXISTS = re.compile(r"already (exists?\b|been |present\b)", re.IGNORECASE)
_NOT_FOUND = 127
"""Exit status of a POSIX shell for a command that does not exist."""


class Esxcli:
    """``esxcli …``; "already exists" counts as unchanged."""

    def check(self, context: Context) -> Result | None:
        """The step's own check."""
        return checked(context)

    def apply(self, context: Context) -> Result:
        """Run it."""
        output = context.hands.reach().run(context.fill(context.step.command), timeout=context.left)
        if output.rc == 0:
            return Result(changed=True, output=output.text)
        if output.rc != _NOT_FOUND and _EXISTS.search(output.text):
            return Result(changed=False, output=output.text)
        raise _error(output)

    def verify(self, context: Context) -> None:
        """The exit status said it."""


def _error(output: Output) -> StepError | PermanentError:
    if output.rc == _NOT_FOUND:
        return PermanentError("the host has no esxcli: it is not ESXi, or its PATH is odd", output.text)
    said = next((line.strip() for line in output.text.splitlines() if line.strip()), "nothing")
    if _WRONG.search(output.text):
        return PermanentError(f"esxcli does not understand the command: {said}", output.text)
    if refused := _REFUSED.search(output.text):
        return PermanentError(f"esxcli refuses: {refused[0]}", output.text)
    if _NOT_READY.search(output.text):
        return StepError(f"hostd is not ready yet: {said}", output.text)
    return StepError(f"esxcli exits {output.rc}: {said}", output.text)
