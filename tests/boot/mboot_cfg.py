"""ESXi's boot.cfg as ESXi's own loader reads it, quirks included.

Written from observations of the real mboot and not from midwife's parser, so that the two can disagree. The
facts are in ``docs/reference/boot-cfg.md``; where mboot ends with a fatal error this raises ``MbootError`` with
mboot's number for it.
"""

import re
from dataclasses import dataclass

__all__ = ["NOT_FOUND", "PROTOCOL", "SYNTAX", "Config", "MbootError", "parse"]

NOT_FOUND = 15
PROTOCOL = 18
"""Not among the numbers seen; stands for the loader's network errors."""
SYNTAX = 32

# In mboot's own order: a key that is the beginning of several options sets the first of them.
_OPTIONS = (
    "kernel", "kernelopt", "modules", "title", "prefix", "nobootif", "timeout", "noquirks", "norts", "crypto",
    "tftpblksize", "runtimewd", "runtimewdtimeout", "acpitables", "skip", "errtimeout", "bootstate", "build",
    "updated", "quickboot",
)  # fmt: skip
_NUMBERS = frozenset({
    "nobootif", "timeout", "noquirks", "norts", "tftpblksize", "runtimewd", "runtimewdtimeout", "skip",
    "errtimeout",
})  # fmt: skip
_PATHS = frozenset({"kernel", "prefix", "crypto"})


class MbootError(Exception):
    """The loader stops; ``code`` is the number it shows after "Fatal error"."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"Fatal error: {code} ({text})")
        self.code = code


@dataclass(frozen=True, slots=True)
class Config:
    """What mboot takes from a boot.cfg."""

    kernel: str
    kernelopt: str = ""
    modules: tuple[tuple[str, str], ...] = ()
    """File name and the module's own options."""
    prefix: str = ""
    crypto: str = ""
    nobootif: bool = False
    skip: bool = False


def parse(data: bytes) -> Config:
    """Any bytes: a configuration, or MbootError."""
    values: dict[str, str] = {}
    for line in data.decode("latin-1").replace("\r\n", "\n").split("\n"):
        text = line.strip()
        if text.startswith("#") or "=" not in text:
            continue
        key, _, value = text.partition("=")
        # A blank before "=" belongs to the key, which then is none of the options.
        name = next((option for option in _OPTIONS if key and option.startswith(key.lower())), None)
        if name is not None:
            values[name] = "".join(value.split()) if name in _PATHS else " ".join(value.split())
    for name in _NUMBERS & values.keys():
        if not re.fullmatch(r"-?\d*", values[name]):
            raise MbootError(SYNTAX, f"{name}={values[name]} is not a number")
    skip = _number(values.get("skip", "")) != 0
    if not values.get("kernel") and not skip:
        raise MbootError(SYNTAX, "kernel=<FILEPATH> must be set in boot.cfg")
    modules = (part.strip().partition(" ") for part in values.get("modules", "").split("---"))
    return Config(
        kernel=values.get("kernel", ""),
        kernelopt=values.get("kernelopt", ""),
        modules=tuple((name, options) for name, _, options in modules if name),
        prefix=values.get("prefix", ""),
        crypto=values.get("crypto", ""),
        nobootif=_number(values.get("nobootif", "")) != 0,
        skip=skip,
    )


def _number(text: str) -> int:
    """An empty value is 0, as mboot has it."""
    return int(text) if text.strip("-") else 0
