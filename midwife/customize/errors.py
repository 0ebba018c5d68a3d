"""What can go wrong while a host is customized. Whether a step is tried again depends on the class alone.

CustomizeError
├── StepError            the step did not work; tried again as often as the step allows
│   ├── StepTimeout      it took longer than its timeout
│   └── ConnectionLost   the connection broke while it ran; tried again on a new one
├── PermanentError       trying again cannot help
│   ├── HostKeyError     the machine that answered is not the one that called back
│   ├── LoginError       the host refuses our key or password
│   ├── UnreachableError no SSH server answered until the deadline (it was tried all the time)
│   └── SecretError      a secret cannot be had, or must not go to this host
└── Cancelled            somebody, or the service's end, stopped the run
"""

__all__ = [
    "Cancelled",
    "ConnectionLost",
    "CustomizeError",
    "HostKeyError",
    "LoginError",
    "PermanentError",
    "SecretError",
    "StepError",
    "StepTimeout",
    "UnreachableError",
]


class CustomizeError(Exception):
    """``str`` is the reason, for people; ``output`` is what the host printed, if it got that far."""

    def __init__(self, reason: str, output: str = "") -> None:
        super().__init__(reason)
        self.output = output


class StepError(CustomizeError):
    """The step did not work this time."""


class StepTimeout(StepError):
    """The step took longer than its timeout."""


class ConnectionLost(StepError):
    """The SSH connection broke; what the command did is unknown, so the step is checked and done again."""


class PermanentError(CustomizeError):
    """Trying again cannot help."""


class HostKeyError(PermanentError):
    """The host key is none of the pinned ones. Nothing was sent to the host."""


class LoginError(PermanentError):
    """Key and password were refused. Not retried: ESXi locks an account after five wrong passwords."""


class UnreachableError(PermanentError):
    """No SSH server answered until the deadline."""


class SecretError(PermanentError):
    """A secret cannot be resolved, or must not be sent to this host."""


class Cancelled(CustomizeError):
    """The run was stopped from outside."""
