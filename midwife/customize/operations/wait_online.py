"""``wait-online``: until the host takes an SSH login and, with ``check:``, until that command exits 0 (hostd
answers, a datastore is mounted)."""

from midwife.customize.errors import ConnectionLost, StepError, StepTimeout, UnreachableError
from midwife.customize.operations.base import Context, Result

__all__ = ["WaitOnline"]


class WaitOnline:
    """Changes nothing, so it is always "unchanged"."""

    def check(self, context: Context) -> Result | None:
        """Always looks anew: a connection that is there may be a dead one."""
        context.hands.let_go()
        return None

    def apply(self, context: Context) -> Result:
        """Look until the deadline."""
        last = "no SSH login"
        output = ""
        try:
            while True:
                try:
                    connection = context.hands.reach(context.left)
                    if not context.step.check:
                        return Result(changed=False)
                    answer = connection.run(context.fill(context.step.check), timeout=context.left)
                    if answer.rc == 0:
                        return Result(changed=False, output=answer.text)
                    last, output = f"its check exits {answer.rc}", answer.text
                except ConnectionLost as error:
                    last = str(error)
                    context.hands.let_go()
                context.cancel.pause(min(context.poll, context.left))
        except UnreachableError as error:
            raise StepError(f"not online after {context.step.timeout:g} s: {error}") from None
        except StepTimeout:
            raise StepError(f"not online after {context.step.timeout:g} s: {last}", output) from None

    def verify(self, context: Context) -> None:
        """Seen with own eyes."""
