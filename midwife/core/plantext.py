"""Texts of a plan: what a template rendered to, with holes where secrets go. Templates are Jinja2, sandboxed
and strict. This module never sees a secret: ``secret('name')`` renders to a marker that carries a random
number, the markers are cut out of the result, and what is left is text and names. A host cannot name a secret
in its own facts, because it cannot guess the number.
"""

import re
import secrets as randomness
import shlex
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

__all__ = ["NOTHING", "RenderError", "Renderer", "SecretName", "Text"]

_LONGEST = 1024 * 1024
"""Characters of one rendered text; a runaway loop in a template should not fill the database."""


class RenderError(ValueError):
    """A text cannot be rendered; the message names the line, the expression and what is missing."""


@dataclass(frozen=True, slots=True)
class SecretName:
    """A hole that the secret of this name fills when the step runs."""

    name: str
    quoted: bool = False
    """Filled with the secret quoted for a POSIX shell."""


@dataclass(frozen=True, slots=True)
class Text:
    """Rendered text with named holes; never holds a secret."""

    parts: tuple[str | SecretName, ...] = ()

    @classmethod
    def plain(cls, text: str) -> "Text":
        """Text without holes."""
        return cls((text,)) if text else cls()

    def __bool__(self) -> bool:
        return bool(self.parts)

    @property
    def secrets(self) -> frozenset[str]:
        """Names of the secrets it needs."""
        return frozenset(part.name for part in self.parts if isinstance(part, SecretName))

    @property
    def shown(self) -> str:
        """For people: holes read ``<secret NAME>``."""
        return "".join(part if isinstance(part, str) else f"<secret {part.name}>" for part in self.parts)

    def filled(self, secret: Callable[[str], str]) -> str:
        """With the secrets in it. Only for the moment of execution: never keep, log or raise the result."""
        return "".join(part if isinstance(part, str) else _fill(part, secret) for part in self.parts)


NOTHING = Text()


def _fill(hole: SecretName, secret: Callable[[str], str]) -> str:
    return shlex.quote(secret(hole.name)) if hole.quoted else secret(hole.name)


class _Missing(StrictUndefined):
    """StrictUndefined that says what there is instead (Jinja2 says "'dict object' has no attribute")."""

    @property
    def _undefined_message(self) -> str:
        if self._undefined_hint:
            return self._undefined_hint
        if isinstance(self._undefined_obj, Mapping):
            return (
                f"there is no {self._undefined_name!r}{_instead(self._undefined_name, self._undefined_obj)}"
            )
        return f"{self._undefined_name!r} is not known here: a template knows host, facts and secret('name')"


def _instead(wanted: object, known: Collection[Any]) -> str:
    names = sorted(str(name) for name in known)
    near = get_close_matches(str(wanted), names, 1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return (
        f"; there is {', '.join(names[:12])}{' …' if len(names) > 12 else ''}" if names else "; it is empty"
    )


class Renderer:
    """Renders the texts of one host's plan. ``secrets`` are the names that exist."""

    def __init__(self, host: Mapping[str, Any], facts: Mapping[str, Any], secrets: Collection[str]) -> None:
        self._number = randomness.token_hex(12)
        self._hole = re.compile(f"\ue000{self._number}([q-])([^\ue001]*)\ue001")
        self._secrets = frozenset(secrets)
        # Not HTML: these are shell commands and configuration files.
        self._jinja = ImmutableSandboxedEnvironment(
            undefined=_Missing, autoescape=False, keep_trailing_newline=True
        )
        self._jinja.filters["quote"] = self._quote
        self._jinja.globals = {
            "host": host,
            "facts": facts,
            "secret": self._secret,
            "range": self._jinja.globals["range"],
        }

    def render(self, template: str) -> Text:
        """Raises RenderError."""
        try:
            text = self._jinja.from_string(template).render()
        except TemplateSyntaxError as error:
            line = _line(template, error.lineno)
            raise RenderError(f"line {error.lineno}: {line}: {error.message}") from None
        except (TemplateError, RenderError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            # A template is code: dividing by a variable that is 0 is a mistake in the site, not in midwife.
            raise RenderError(f"{_expression(template, error)}: {error}") from None
        if len(text) > _LONGEST:
            raise RenderError(f"renders to {len(text)} characters; {_LONGEST} is the most")
        return self._cut(text)

    def _secret(self, name: object) -> str:
        if name not in self._secrets:
            hint = _instead(name, self._secrets) if self._secrets else "; the site has no secrets:"
            raise RenderError(f"secret {str(name)!r} is not in midwife.yaml{hint}")
        return f"\ue000{self._number}-{name}\ue001"

    def _quote(self, value: object) -> str:
        text = str(value)
        if self._number not in text:
            return shlex.quote(text)
        hole = self._hole.fullmatch(text)
        if not hole:
            raise RenderError("quote a secret alone: {{ secret('name') | quote }}")
        return f"\ue000{self._number}q{hole[2]}\ue001"

    def _cut(self, text: str) -> Text:
        parts: list[str | SecretName] = []
        at = 0
        for hole in self._hole.finditer(text):
            parts += [text[at : hole.start()], SecretName(hole[2], hole[1] == "q")]
            at = hole.end()
        parts.append(text[at:])
        plain = "".join(part for part in parts if isinstance(part, str)).lower()
        # Half of the number is enough to know a marker that was sliced.
        number = self._number, self._number[::-1]
        if any(way[i : i + 12] in plain for way in number for i in range(len(way) - 11)):
            raise RenderError(
                "a secret goes through no filter but quote: it is filled in when the step runs, not before"
            )
        return Text(tuple(part for part in parts if part))


def _line(template: str, number: int) -> str:
    lines = template.splitlines()
    return lines[number - 1].strip() if 0 < number <= len(lines) else template.strip()[:80]


def _expression(template: str, error: BaseException) -> str:
    """The expression that failed: Jinja2 rewrites tracebacks so that they carry the template's own lines."""
    number = 0
    trace = error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename == "<template>":
            number = trace.tb_lineno
        trace = trace.tb_next
    line = _line(template, number)
    there = re.findall(r"\{\{.*?\}\}|\{%.*?%\}", line)
    named = [
        text for text in there if any(word in text for word in re.findall(r"'([^']+)'", str(error)[:80]))
    ]
    found = (named or there or [line])[0]
    return f"line {number}: {found}" if "\n" in template.strip() else found
