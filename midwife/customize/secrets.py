"""Resolves secret references (``env:NAME``, ``file:/path``, ``clear:TEXT``) at the moment a step needs them,
and tells the masker about each. Knows nothing of hosts; who may get a secret is decided by the runner. No
message of this module repeats a reference's ``clear:`` text or anything read.
"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

import structlog

from midwife.customize.errors import SecretError
from midwife.customize.masking import SHORTEST, Masker

__all__ = ["Secrets"]

_LARGEST = 64 * 1024


class Secrets:
    """The site's ``secrets:`` by name. ``root``: where relative ``file:`` references start."""

    def __init__(
        self,
        references: Mapping[str, str],
        *,
        root: Path = Path("/"),
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._references = dict(references)
        self._root = root
        self._environ = environ
        self._log = structlog.get_logger()

    def __repr__(self) -> str:
        return f"<Secrets {', '.join(sorted(self._references))}>"

    def named(self, name: str, masker: Masker) -> str:
        """The secret that ``secret('name')`` means. Raises SecretError."""
        if name not in self._references:
            raise SecretError(f"secret {name!r} is no longer in midwife.yaml; put it back or start a new run")
        return self.resolve(name, self._references[name], masker)

    def resolve(self, name: str, reference: str, masker: Masker) -> str:
        """What a reference stands for; ``name`` is what people are shown. Raises SecretError."""
        kind, _, rest = reference.partition(":")
        if kind == "env":
            value = self._from_environment(name, rest)
        elif kind == "file":
            value = self._from_file(name, rest)
        elif kind == "clear":
            value = rest
        else:
            raise SecretError(f"secret {name!r} is not a reference; write env:NAME or file:/path")
        if "\0" in value:
            raise SecretError(f"secret {name!r} has a NUL character in it")
        try:
            masker.add(name, value)
        except ValueError:
            raise SecretError(
                f"secret {name!r} is empty or shorter than {SHORTEST} characters; such a one cannot be masked"
            ) from None
        return value

    def _from_environment(self, name: str, variable: str) -> str:
        try:
            return self._environ[variable]
        except KeyError:
            raise SecretError(
                f"secret {name!r}: the environment variable {variable} is not set in the service; "
                "under systemd it comes from EnvironmentFile="
            ) from None

    def _from_file(self, name: str, text: str) -> str:
        path = self._root / text
        try:
            found = path.stat()
            if not stat.S_ISREG(found.st_mode):  # opening a FIFO would wait for ever
                raise SecretError(f"secret {name!r}: {path} is not a file")
            with path.open("rb") as file:
                data = file.read(_LARGEST + 1)
        except OSError as error:
            raise SecretError(f"secret {name!r}: {path}: {error.strerror}") from None
        if len(data) > _LARGEST:
            raise SecretError(f"secret {name!r}: {path} is larger than {_LARGEST} bytes")
        if found.st_mode & stat.S_IROTH:
            self._log.warning("everybody can read a secret; chmod 600", secret=name, file=str(path))
        try:
            # One newline at the end is the editor's, not the password's.
            return data.decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            raise SecretError(f"secret {name!r}: {path} is not UTF-8 text") from None
