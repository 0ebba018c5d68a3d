"""Plans: the resolved list of steps for one host, as data. A plan is made once, stored as JSON and run by a
fixed loop, so the code may be upgraded under it. Secrets are named in it, never held; files are named by path
and sha256. No I/O here: files are read by the ``Bundles`` that is passed in.
"""

import hashlib
import posixpath
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Protocol

from pydantic import TypeAdapter, ValidationError

from midwife.core.facts import Facts
from midwife.core.plantext import NOTHING, Renderer, RenderError, SecretName, Text
from midwife.site.model import Configuration, Host, Ssh, Step

__all__ = [
    "SCHEMA",
    "BundleError",
    "Bundles",
    "Kind",
    "Plan",
    "PlanError",
    "PlannedStep",
    "SecretName",
    "Text",
    "build_plan",
    "effective_ssh",
]

SCHEMA = 1
REBOOT_TIMEOUT = 1200.0
"""Seconds a reboot may take unless the step says otherwise: servers test their memory for minutes."""

Kind = Literal["run", "esxcli", "upload", "wait_online", "reboot"]


class PlanError(ValueError):
    """A plan cannot be made or read. The message names the configuration, the step and the expression."""


class BundleError(ValueError):
    """A file cannot be had from ``bundles/``: missing, outside, not text, changed."""


class Bundles(Protocol):
    """The site's ``bundles/`` directory (``midwife.customize.bundles.BundleFolder``)."""

    def digest(self, path: str) -> str:
        """Hexadecimal sha256 of a file. Raises BundleError."""

    def text(self, path: str) -> str:
        """A small UTF-8 file. Raises BundleError."""


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step, resolved. Which fields count depends on the kind."""

    index: int
    """From 0; people are shown index + 1."""
    name: str
    kind: Kind
    command: Text = NOTHING
    """run, esxcli (with the leading ``esxcli``)."""
    source: str = ""
    """upload: path inside ``bundles/``, "" where ``content`` is uploaded."""
    content: Text = NOTHING
    sha256: str = ""
    """upload: of the bytes; "" where they hold a secret (computed when the step runs, never stored)."""
    to: str = ""
    mode: int = 0o644
    reason: str = ""
    """reboot."""
    check: Text = NOTHING
    verify: Text = NOTHING
    timeout: float = 120.0
    """Seconds for one attempt, connecting not counted (reboot, wait_online: connecting counted)."""
    retries: int = 2

    @property
    def secrets(self) -> frozenset[str]:
        """Names of the secrets that running it needs."""
        return self.command.secrets | self.content.secrets | self.check.secrets | self.verify.secrets


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be done to one host."""

    host: str
    configuration: str
    user: str = "root"
    port: int = 22
    steps: tuple[PlannedStep, ...] = ()
    version: int = SCHEMA

    @property
    def secrets(self) -> frozenset[str]:
        """Names of all secrets in it."""
        return frozenset().union(*(step.secrets for step in self.steps))

    def to_json(self) -> dict[str, Any]:
        """Plain data; the same plan gives the same data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: object) -> "Plan":
        """The inverse of ``to_json``. Raises PlanError for everything else."""
        version = data.get("version") if isinstance(data, dict) else None
        if version != SCHEMA:
            raise PlanError(
                f"a stored plan has version {version!r}, this midwife reads {SCHEMA}: start a new run"
            )
        try:
            return TypeAdapter(cls).validate_python(data)
        except ValidationError as error:
            # include_input=False: what was stored is not repeated in logs.
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise PlanError(f"a stored plan is damaged at {where}: {first['msg']}; start a new run") from None


def effective_ssh(default: Ssh, configuration: Configuration, host: Host | None) -> Ssh:
    """How to log in: what the host says, else the configuration, else the site; taken as a whole."""
    return (host.ssh if host else None) or configuration.ssh or default


def build_plan(
    configuration: Configuration,
    *,
    host: Host | None,
    facts: Facts,
    ssh: Ssh,
    bundles: Bundles,
    secrets: Collection[str] = (),
    name: str = "",
    address: str = "",
) -> Plan:
    """Resolve a configuration for one host.

    ``host`` is None for a machine that only a rule knows; it is then called ``name`` (default: its MAC
    address). ``address`` is where it called from. ``ssh`` is the login in force (``effective_ssh``); of it
    the plan keeps user and port, never key or password. Templates see ``host`` (name, address, labels, vars,
    image, configuration), ``facts`` (every field of Facts, "" where not known) and ``secret('name')``.
    Raises PlanError.
    """
    called = host.name if host else name or facts.mac or "unknown"
    known_address = (host.address if host else None) or address or facts.ipv4 or facts.ipv6
    variables = {
        "name": called,
        "address": known_address,
        "labels": dict(host.labels) if host else {},
        "vars": dict(host.vars) if host else {},
        "image": (host.image if host else None) or "",
        "configuration": configuration.name,
    }
    seen = asdict(facts) | {"mac": facts.mac}
    maker = _Maker(configuration.name, Renderer(variables, seen, secrets), bundles)
    return Plan(
        host=called,
        configuration=configuration.name,
        user=ssh.user,
        port=ssh.port,
        steps=tuple(maker.step(index, step) for index, step in enumerate(configuration.steps)),
    )


class _Maker:
    """Turns the steps of one configuration into planned steps."""

    def __init__(self, configuration: str, renderer: Renderer, bundles: Bundles) -> None:
        self._configuration = configuration
        self._renderer = renderer
        self._bundles = bundles

    def step(self, index: int, step: Step) -> PlannedStep:
        where = f"configuration {self._configuration!r}, step {index + 1}"
        where += f" ({step.name})" if step.name else ""
        kind = _kind(step, where)
        base = PlannedStep(
            index=index,
            name="",
            kind=kind,
            check=self._text(step.check, f"{where}: check"),
            verify=self._text(step.verify, f"{where}: verify"),
            timeout=step.timeout,
            retries=step.retries,
        )
        planned = self._fields(base, step, where)
        title = self._word(step.name, f"{where}: name") if step.name else _title(planned)
        return replace(planned, name=" ".join(title.split())[:60])

    def _fields(self, base: PlannedStep, step: Step, where: str) -> PlannedStep:
        match base.kind:
            case "run":
                return replace(base, command=self._text(step.run, f"{where}: run"))
            case "esxcli":
                return replace(base, command=_esxcli(self._text(step.esxcli, f"{where}: esxcli"), where))
            case "upload":
                return self._upload(base, step, where)
            case "wait_online":
                # Its own duration is its deadline, and waiting again after it is not what was asked for.
                return replace(base, timeout=step.wait_online or 0.0, retries=_said(step, "retries", 0))
            case "reboot":
                return replace(
                    base,
                    reason=self._word(step.reboot or "", f"{where}: reboot"),
                    timeout=_said(step, "timeout", REBOOT_TIMEOUT),
                    retries=_said(step, "retries", 0),
                )

    def _upload(self, base: PlannedStep, step: Step, where: str) -> PlannedStep:
        to = posixpath.normpath(self._word(step.to or "", f"{where}: to"))
        if not to.startswith("/") or to == "/" or (step.to or "").endswith("/"):
            raise PlanError(f"{where}: to: {step.to!r} is not the absolute path of a file on the host")
        placed = replace(base, to=to, mode=int(step.mode, 8))
        if step.upload is None:
            content = self._text(step.content, f"{where}: content")
            return replace(placed, content=content, sha256=_digest(content))
        path = self._word(str(step.upload), f"{where}: upload")
        try:
            if not step.template:
                return replace(placed, source=path, sha256=self._bundles.digest(path))
            content = self._text(self._bundles.text(path), f"{where}: bundles/{path}")
        except BundleError as error:
            raise PlanError(f"{where}: upload: {error}") from None
        return replace(placed, content=content, sha256=_digest(content))

    def _text(self, template: str | None, where: str) -> Text:
        if template is None:
            return NOTHING
        try:
            return self._renderer.render(template)
        except RenderError as error:
            raise PlanError(f"{where}: {error}") from None

    def _word(self, template: str, where: str) -> str:
        """A text that people are shown or that names a place: no secret, no control characters."""
        text = self._text(template, where)
        if text.secrets:
            raise PlanError(f"{where}: this text is shown to people; a secret cannot be in it")
        if any(ord(c) < 32 or ord(c) == 127 for c in text.shown.strip()):
            raise PlanError(f"{where}: {text.shown.strip()!r} has control characters in it")
        return text.shown.strip()


def _kind(step: Step, where: str) -> Kind:
    given: list[tuple[Kind, object]] = [
        ("run", step.run),
        ("esxcli", step.esxcli),
        ("upload", step.upload),
        ("upload", step.content),
        ("wait_online", step.wait_online),
        ("reboot", step.reboot),
    ]
    kinds = [kind for kind, value in given if value is not None]
    if len(kinds) != 1:
        raise PlanError(
            f"{where}: a step is exactly one of run, esxcli, upload, content, wait-online, reboot; "
            f"this one is {' and '.join(kinds) or 'none of them'}"
        )
    return kinds[0]


def _said(step: Step, field: str, otherwise: float) -> Any:
    """What the user wrote, else a default that fits the kind better than the model's."""
    return getattr(step, field) if field in step.model_fields_set else otherwise


def _esxcli(text: Text, where: str) -> Text:
    first = text.parts[0] if text.parts else ""
    words = first.lstrip() if isinstance(first, str) else ""
    words = words.removeprefix("esxcli ").lstrip()
    if not words:
        raise PlanError(
            f"{where}: esxcli: a command begins with its namespace, as in 'system hostname set …'"
        )
    parts: tuple[str | SecretName, ...] = (f"esxcli {words}", *text.parts[1:])
    # A folded YAML block ends with a newline; one in the middle would start a second shell command.
    if isinstance(parts[-1], str):
        parts = (*parts[:-1], parts[-1].rstrip())
    if any("\n" in part for part in parts if isinstance(part, str)):
        raise PlanError(f"{where}: esxcli: one command a step; use 'run' for a script of several lines")
    return Text(tuple(part for part in parts if part))


def _digest(content: Text) -> str:
    return "" if content.secrets else hashlib.sha256(content.shown.encode()).hexdigest()


def _title(step: PlannedStep) -> str:
    match step.kind:
        case "upload":
            return f"upload {step.to}"
        case "wait_online":
            return f"wait-online {step.timeout:g}s"
        case "reboot":
            return f"reboot: {step.reason}" if step.reason else "reboot"
        case _:
            return step.command.shown
