"""``upload``: a file from ``bundles/``, or text from the step itself, to a place on the host. Unchanged if
the host has the same bytes with the same mode."""

import hashlib

from midwife.core.plan import BundleError
from midwife.customize.errors import PermanentError, StepError
from midwife.customize.operations.base import Context, Result, checked
from midwife.customize.transfer import present, put, source_of

__all__ = ["Upload"]


class Upload:
    """Idempotent by content."""

    def check(self, context: Context) -> Result | None:
        """The same file is there, or the step's own check says that it need not be."""
        done = checked(context)
        if done is not None:
            return done
        return Result(changed=False, output=f"{context.step.to} is up to date") if _there(context) else None

    def apply(self, context: Context) -> Result:
        """Send it."""
        step = context.step
        connection = context.hands.reach()
        if not step.source:
            data = context.fill(step.content).encode()
            return Result(
                True,
                put(
                    connection,
                    source_of(data),
                    step.to,
                    sha256=_sha256(context),
                    mode=step.mode,
                    timeout=context.left,
                ),
            )
        try:
            return Result(
                True,
                put(
                    connection,
                    lambda: context.bundles.open(step.source),
                    step.to,
                    sha256=step.sha256,
                    mode=step.mode,
                    timeout=context.left,
                ),
            )
        except BundleError as error:
            raise PermanentError(str(error)) from None

    def verify(self, context: Context) -> None:
        """It is there now, under its own name."""
        if not _there(context):
            raise StepError(
                f"{context.step.to} is not what was uploaded; does something on the host rewrite it?"
            )


def _there(context: Context) -> bool:
    step = context.step
    return present(
        context.hands.reach(), step.to, sha256=_sha256(context), mode=step.mode, timeout=context.left
    )


def _sha256(context: Context) -> str:
    # The plan does not store it for content with secrets: it would be something to guess against.
    return context.step.sha256 or hashlib.sha256(context.fill(context.step.content).encode()).hexdigest()
