"""boot.cfg, the file that tells ESXi's loader (mboot) what to load: read as mboot does, rewritten, written.

The rules were observed on the real loader of ESXi 9.0 and are told in ``docs/reference/boot-cfg.md``; where
mboot passes over a line in silence, the parser keeps a warning. Knows text only, no files and no images.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

__all__ = [
    "INSTALL_DROP",
    "STATELESS_DROP",
    "BootCfg",
    "BootCfgError",
    "Module",
    "ascii_lower",
    "kernel_line",
    "local_boot_cfg",
    "parse",
    "render",
    "rewrite",
    "wait_boot_cfg",
    "words",
]

# mboot compares with the C library in the C locale. Python's str.lower() would also fold the Kelvin sign to
# "k", and its str.split() would take U+00A0 for a blank.
_UPPER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")
_BLANKS = re.compile(r"[ \t\v\f\r\n\0]+")
_INTEGER = re.compile(r"[+-]?[0-9]{1,10}")
_WORD = re.compile(r'(?:[^ \t\v\f\r\n\0"]|"[^"]*"?)+')
_SEPARATOR = "---"

# mboot's options, in the order in which it compares: a key that is short for several is the first of them.
_TEXT, _PATH, _LIST, _NUMBER = "text", "path", "list", "number"
_OPTIONS = {
    "kernel": _PATH,
    "kernelopt": _TEXT,
    "modules": _LIST,
    "title": _TEXT,
    "prefix": _PATH,
    "nobootif": _NUMBER,
    "timeout": _NUMBER,
    "noquirks": _NUMBER,
    "norts": _NUMBER,
    "crypto": _PATH,
    "tftpblksize": _NUMBER,
    "runtimewd": _NUMBER,
    "runtimewdtimeout": _NUMBER,
    "acpitables": _LIST,
    "skip": _NUMBER,
    "errtimeout": _NUMBER,
}
# Read by safeboot from an installed disk, not by mboot; no abbreviations, but upper case happens.
_SAFEBOOT = frozenset({"bootstate", "build", "updated", "quickboot"})

STATELESS_DROP = ("cdromBoot", "runweasel", "ks=")
"""Kernel words that would start the installer, or make it look for a CD drive."""
INSTALL_DROP = ("cdromBoot",)
"""Kernel words that are wrong for an installation over the network: there is no CD drive."""


class BootCfgError(ValueError):
    """mboot would stop at this text. ``line`` counts from 1; 0 where no single line is at fault."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"boot.cfg line {line}: {reason}" if line else f"boot.cfg: {reason}")
        self.line = line
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Module:
    """A file that mboot loads after the kernel, and the option text that goes with it."""

    name: str
    options: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.options}".rstrip()


@dataclass(frozen=True, slots=True)
class BootCfg:
    """A boot.cfg. ``entries`` holds every key in file order with its value, blanks collapsed; keys that mboot
    knows are spelled out in lower case, others are kept as they were written.
    """

    entries: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = field(default=(), compare=False)
    """What mboot passes over in silence or takes for something else, one sentence each."""

    def get(self, key: str, default: str = "") -> str:
        """The value of a key, spelled as in ``entries``."""
        return dict(self.entries).get(key, default)

    def number(self, key: str, default: int) -> int:
        """An integer option; an empty value is 0, as mboot has it, and not the default."""
        text = dict(self.entries).get(key)
        return default if text is None else int(text or "0")

    @property
    def kernel(self) -> str:
        """Path of the first file to load; "" if missing, and then mboot refuses the file."""
        return self.get("kernel")

    @property
    def kernelopt(self) -> str:
        """Words for the kernel's command line."""
        return self.get("kernelopt")

    @property
    def modules(self) -> tuple[Module, ...]:
        """What is loaded after the kernel, in order."""
        return tuple(_modules(self.get("modules")))

    @property
    def title(self) -> str:
        """Shown above the progress bar."""
        return self.get("title")

    @property
    def prefix(self) -> str:
        """Directory or URL for relative names; "": the directory of the boot.cfg itself."""
        return self.get("prefix")

    @property
    def timeout(self) -> int:
        """Seconds until the loading starts (5 where the file does not say)."""
        return self.number("timeout", 5)

    @property
    def build(self) -> str:
        """``8.0.2-0.0.22380479``: version and build of the image; empty in old images."""
        return self.get("build")

    def replaced(self, **values: str | None) -> "BootCfg":
        """With these keys set, in place or at the end; None takes a key out. Blanks and line breaks collapse,
        so no value can smuggle in a line of its own.
        """
        clean = {key: None if value is None else _value(key, value) for key, value in values.items()}
        kept = [(key, clean.get(key, value)) for key, value in self.entries]
        kept += [(key, value) for key, value in clean.items() if key not in dict(self.entries)]
        return BootCfg(tuple((key, value) for key, value in kept if value is not None), self.warnings)


def ascii_lower(text: str) -> str:
    """Lower case for A to Z only, as the C library folds names and keys."""
    return text.translate(_UPPER)


def words(text: str) -> list[str]:
    """A kernel command line word by word; double quotes hold blanks together and are kept."""
    return _WORD.findall(text)


def parse(text: str | bytes) -> BootCfg:
    """Read a boot.cfg by mboot's rules. Any input gives a BootCfg or a BootCfgError.

    A BootCfg without kernel is a value too (``skip=1`` needs none); who wants to boot it must look.
    """
    warnings: list[str] = []
    if isinstance(text, bytes):
        text = _decode(text, warnings)
    entries: dict[str, str] = {}
    for number, raw in enumerate(text.split("\n"), 1):
        if "\0" in raw:
            raise BootCfgError(number, "holds a zero byte: this is not a text file")
        line = _collapse(raw)
        if not line or line.startswith("#"):
            continue
        written, equals, value = line.partition("=")
        if not equals:
            warnings.append(f"line {number} has no '=' and is ignored: {line[:60]!r}")
        elif written.endswith(" "):
            # Seen on the real loader: "kernel =b.b00" ends in "kernel=<FILEPATH> must be set".
            warnings.append(
                f"line {number} is ignored by mboot: there is a blank before '=', after {written!r}"
            )
        else:
            key = _key(written, number, warnings)
            value = _value(key, value)
            if _OPTIONS.get(key) == _NUMBER and value and not _INTEGER.fullmatch(value):
                raise BootCfgError(number, f"{key}={value[:60]!r} must be a whole number; mboot stops here")
            if key in entries:
                warnings.append(f"line {number}: {key} is given twice, the last one counts")
            entries[key] = value
    return BootCfg(tuple(entries.items()), tuple(warnings))


def render(cfg: BootCfg) -> bytes:
    """The text of a boot.cfg: ``key=value``, no blanks around ``=``, one key a line."""
    return "".join(f"{_collapse(key)}={_collapse(value)}\n" for key, value in cfg.entries).encode()


def rewrite(
    cfg: BootCfg,
    *,
    prefix: str,
    kernelopt_add: str = "",
    kernelopt_drop: Collection[str] = INSTALL_DROP,
    extra_modules: Sequence[str | Module] = (),
    title: str | None = None,
    timeout: int = 0,
) -> BootCfg:
    """The boot.cfg of an image as it is served to one host.

    ``prefix``: relative to the TFTP root (``a/k3v9/8.0U3``) or a whole URL (``http://server:port/a/k3v9/8.0U3``):
    mboot booted by HTTP finds nothing unless every name becomes a URL. Names lose their leading ``/``, which
    would mean the root of a boot volume, and become lower case, as the image library has them.
    ``kernelopt_drop``: words to leave out; one that ends in ``=`` stands for that key with any value. A word
    of ``kernelopt_add`` takes the place of the image's word with the same key, ``ks=`` that of ``runweasel``.
    ``timeout``: seconds before loading starts. Keys that nobody here knows are kept.
    """
    modules = [*cfg.modules, *(m if isinstance(m, Module) else Module(m) for m in extra_modules)]
    values: dict[str, str | None] = {
        "title": title,
        "timeout": str(timeout),
        "prefix": prefix.rstrip("/"),
        "kernel": _relative(cfg.kernel),
        "kernelopt": _kernelopt(cfg.kernelopt, kernelopt_add, kernelopt_drop),
        "modules": _join([Module(_relative(m.name), m.options) for m in modules]),
    }
    if title is None:
        del values["title"]
    if cfg.get("crypto"):
        values["crypto"] = _relative(cfg.get("crypto"))
    if cfg.get("acpitables"):
        tables = _modules(cfg.get("acpitables"))
        values["acpitables"] = _join([Module(_relative(t.name), t.options) for t in tables])
    return cfg.replaced(**values)


def kernel_line(cfg: BootCfg, bootif: str = "01-00-00-00-00-00-00") -> str:
    """The command line that mboot makes of it: path of the kernel, ``kernelopt``, ``BOOTIF=`` if allowed.

    The path counts: with a URL as prefix it is the longest word.
    """
    path = f"{cfg.prefix}/{cfg.kernel}" if cfg.prefix and not cfg.kernel.startswith("/") else cfg.kernel
    parts = [path, cfg.kernelopt]
    if not cfg.number("nobootif", 0) and "BOOTIF=" not in cfg.kernelopt:
        parts.append(f"BOOTIF={bootif}")
    return " ".join(part for part in parts if part)


def local_boot_cfg(title: str = "midwife: this host boots from its own disk") -> BootCfg:
    """Makes mboot give up at once, so that the firmware goes on to its next boot entry.

    ``skip=1`` is for UEFI. ``errtimeout=1`` (seconds) keeps a loader that is too old to know ``skip`` from
    stopping for ever at the missing kernel.
    """
    return BootCfg((("title", title), ("timeout", "0"), ("skip", "1"), ("errtimeout", "1")))


def wait_boot_cfg(title: str) -> BootCfg:
    """Makes mboot show this title for 30 seconds and then fail, because it has no way to wait and ask again.

    The kernel is a name that is not there. ``errtimeout`` gives the machine back to its firmware after that, which
    may try the network again.
    """
    return BootCfg((("title", title), ("timeout", "30"), ("kernel", "nothing-to-boot"), ("errtimeout", "30")))


def _decode(data: bytes, warnings: list[str]) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        warnings.append(f"line {line} is not UTF-8; the bytes in question became U+FFFD")
        return data.decode(errors="replace")


def _collapse(text: str) -> str:
    return _BLANKS.sub(" ", text).strip(" ")


def _key(written: str, line: int, warnings: list[str]) -> str:
    """mboot compares only as many characters as were written: an abbreviation is the first option it begins.

    (So does "" before "=", which therefore sets the kernel.)
    """
    lower = ascii_lower(written)
    if lower in _OPTIONS or lower in _SAFEBOOT:
        return lower
    for option in _OPTIONS:
        if option.startswith(lower):
            warnings.append(f"line {line}: mboot takes {written!r} for {option}; spell it out")
            return option
    warnings.append(f"line {line}: mboot does not know {written!r}; the line is kept")
    return written


def _value(key: str, value: str) -> str:
    kind = _OPTIONS.get(key)
    if kind == _PATH:
        return _BLANKS.sub("", value)  # mboot squeezes all white space out of path names
    if kind == _LIST:
        return _join(_modules(value))
    return _collapse(value)


def _modules(value: str) -> Iterable[Module]:
    for part in value.split(_SEPARATOR):
        name, _, options = _collapse(part).partition(" ")
        if name:  # a trailing separator is harmless
            yield Module(name, options)


def _join(modules: Iterable[Module]) -> str:
    return f" {_SEPARATOR} ".join(str(module) for module in modules)


def _relative(name: str) -> str:
    return name if "://" in name else ascii_lower(name).lstrip("/")


def _kernelopt(old: str, new: str, drop: Collection[str]) -> str:
    added = words(new)
    gone = {ascii_lower(word) for word in drop} | {_stem(word) for word in added if "=" in word}
    if "ks=" in gone:
        gone.add("runweasel")  # the installer is started by either; both at once is a conflict
    kept = [word for word in words(old) if not {ascii_lower(word), _stem(word)} & gone]
    return " ".join([*kept, *added])


def _stem(word: str) -> str:
    key, equals, _ = word.partition("=")
    return ascii_lower(key + equals)
