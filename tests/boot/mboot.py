"""A stand-in for ESXi's own boot loader (mboot.efi), request by request, as the real one was seen to ask.

The real loader may not enter this repository and needs ESXi's signed modules to go on; what it asks a boot
server for, in which order, and what it makes of the answers, is repeated here: the search for boot.cfg, the
sizes of all modules before the first is read, the names resolved against prefix=, the kernel line put together.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

from .mboot_cfg import NOT_FOUND, SYNTAX, Config, MbootError, parse
from .mboot_http import HttpFiles
from .mboot_tftp import TftpFiles

__all__ = ["BootSkippedError", "Loaded", "Mboot", "MbootError", "Module"]

# Options of mboot that take a value and change nothing of what it asks for.
_VALUED = frozenset({"-p", "-S", "-s", "-t", "-R", "-b", "-E", "-L"})
_PLAIN = frozenset({"-a", "-e", "-V", "-D", "-H", "-Q", "-U", "-r"})


class BootSkippedError(Exception):
    """skip=1: the loader gives the machine back to the firmware, which goes on to its next boot option."""


@dataclass(frozen=True, slots=True)
class Module:
    """A file that was loaded."""

    name: str
    """As it was asked for: a path on the TFTP server, or a full URL."""
    sha256: str
    options: str
    size: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the loader would start."""

    kernel_line: str
    kernel: Module
    modules: tuple[Module, ...]
    config: str
    """Where the boot.cfg was."""
    crypto: str
    """Where crypto64.efi was, "" if it is nowhere: then ESXi 7.0 U2 and later do not boot under Secure Boot."""
    journal: tuple[str, ...]
    """Every request: ``size NAME`` and ``read NAME`` over TFTP, ``HEAD URL`` and ``GET URL`` over HTTP."""

    @property
    def parameters(self) -> dict[str, str]:
        """The words KEY=VALUE of the kernel line."""
        return dict(word.split("=", 1) for word in self.kernel_line.split() if "=" in word)


class Mboot:
    """One boot of one machine.

        Mboot("192.0.2.3", "52:54:00:12:34:56").boot().kernel_line
        Mboot("192.0.2.3:8080", mac, mode="http", loader="esx/mboot.efi").boot()

    To run it in a network namespace: ``lab.mw.call(lambda: Mboot(…).boot())``.
    """

    def __init__(
        self,
        server: str,
        mac: str,
        mode: Literal["tftp", "http"] = "tftp",
        *,
        loader: str = "mboot.efi",
        arguments: Sequence[str] = (),
        timeout: float = 10.0,
    ) -> None:
        """server: an address, with a port after a colon if it is not the usual one ([v6]:port).

        loader: the name by which the firmware loaded mboot; its directory is searched for boot.cfg. Over HTTP it
        may carry mboot's arguments as ``?-c&cfg%2Fx.cfg``. timeout: seconds, as mboot's own.
        """
        self._journal: list[str] = []
        self._mac = "01-" + mac.lower().replace(":", "-")
        self._http = mode == "http"
        words = list(arguments)
        if self._http:
            loader, _, query = loader.partition("?")
            words = [unquote(word) for word in query.split("&") if word] + words
            if "/" in query:
                # Seen: the directory is cut at the last slash, wherever that is, and the boot fails.
                raise MbootError(SYNTAX, f"a slash in {query!r}; write %2F")
        self._options = _Options.parse(words)
        host, port = _endpoint(server, 80 if self._http else 69)
        if self._http:
            base = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
            self._directory = base + loader.lstrip("/").rpartition("/")[0]
            self._files: TftpFiles | HttpFiles = HttpFiles(
                self._journal, self._options.query, timeout=timeout
            )
        else:
            self._directory = loader.rpartition("/")[0]
            self._files = TftpFiles(host, port, self._journal, timeout=timeout / 5)

    def boot(self) -> Loaded:
        """Loads everything. Raises MbootError where the real one stops, BootSkippedError for skip=1."""
        where, text = self._configuration()
        config = parse(text)
        if config.skip:
            raise BootSkippedError(where)
        names = [(config.kernel, ""), *config.modules, *((name, "") for name in self._options.extra)]
        files = [(self._resolve(name, config, where), options) for name, options in names]
        for name, _ in files:  # the sizes of all, for the progress bar, before anything is read
            self._files.size(name)
        crypto = self._crypto(config, where)
        loaded = [self._load(name, options) for name, options in files]
        if isinstance(self._files, HttpFiles):
            self._files.close()
        return Loaded(
            kernel_line=self._kernel_line(loaded[0].name, config),
            kernel=loaded[0],
            modules=tuple(loaded[1:]),
            config=where,
            crypto=crypto,
            journal=tuple(self._journal),
        )

    def _configuration(self) -> tuple[str, bytes]:
        if self._options.config:
            wanted = self._options.config
            candidates = [self._join(self._directory, wanted), "/" + wanted.lstrip("/")]
            if self._http:
                candidates = [wanted] if "://" in wanted else candidates[:1]
            return self._first(candidates)
        own = self._join(self._directory, f"{self._mac}/boot.cfg")
        try:
            self._files.read(own)  # is it there? then it is read once more, to be parsed
        except MbootError as problem:
            if problem.code != NOT_FOUND:
                raise
            return self._first([self._join(self._directory, "boot.cfg")])
        return own, self._files.read(own)

    def _first(self, candidates: list[str]) -> tuple[str, bytes]:
        problem = MbootError(NOT_FOUND, "no boot.cfg")
        for name in candidates:
            try:
                return name, self._files.read(name)
            except MbootError as error:
                problem = error
        raise problem

    def _resolve(self, name: str, config: Config, where: str) -> str:
        """The name against prefix=, or against boot.cfg's own directory where there is no prefix."""
        prefix = config.prefix or where.rpartition("/")[0]
        resolved = name if name.startswith("/") or "://" in name else self._join(prefix, name)
        if self._http and not resolved.startswith("http://"):
            raise MbootError(NOT_FOUND, f"{resolved}: over HTTP every file needs a full URL")
        return resolved

    def _crypto(self, config: Config, where: str) -> str:
        """crypto64.efi, where mboot searches for it."""
        names = [self._join(self._directory, "crypto64.efi")]
        others = (config.crypto, "crypto64.efi", "efi/boot/crypto64.efi")
        names += [self._resolve(name, config, where) for name in others if name]
        for name in dict.fromkeys(names):
            try:
                self._files.read(name)
            except MbootError:
                continue
            return name
        return ""

    def _load(self, name: str, options: str) -> Module:
        data = self._files.read(name)
        return Module(name, hashlib.sha256(data).hexdigest(), options, len(data))

    def _kernel_line(self, kernel: str, config: Config) -> str:
        words = [kernel, *config.kernelopt.split(), *self._options.kernel_words]
        if not config.nobootif and not any(word.startswith("BOOTIF=") for word in words):
            words.append(f"BOOTIF={self._mac}")
        return " ".join(words)

    @staticmethod
    def _join(directory: str, name: str) -> str:
        return f"{directory.rstrip('/')}/{name}" if directory else name


@dataclass(frozen=True, slots=True)
class _Options:
    config: str = ""
    extra: tuple[str, ...] = ()
    query: tuple[str, ...] = ()
    kernel_words: tuple[str, ...] = ()

    @classmethod
    def parse(cls, words: Sequence[str]) -> "_Options":
        config = ""
        extra: list[str] = []
        query: list[str] = []
        rest = list(words)
        while rest and rest[0].startswith("-"):
            option = rest.pop(0)
            if option in _PLAIN:
                continue
            if option not in _VALUED | {"-c", "-A", "-q"} or not rest:
                raise MbootError(SYNTAX, f"option {option}")
            value = rest.pop(0)
            if option == "-c":
                config = value
            elif option == "-A":
                extra.append(value)
            elif option == "-q":
                query.append(value)
        return cls(config, tuple(extra), tuple(query), tuple(rest))


def _endpoint(server: str, port: int) -> tuple[str, int]:
    """Host and port out of ``host``, ``host:port``, ``[v6]:port`` or a bare IPv6 address."""
    if server.count(":") > 1 and not server.startswith("["):
        return server, port
    host, colon, text = server.rpartition(":")
    if not colon or server.endswith("]"):
        return server.strip("[]"), port
    return host.strip("[]"), int(text)
