"""Keeps secrets out of everything that is shown or stored: outputs, error texts, events.

Every secret that was resolved is replaced wherever it turns up, also in the forms in which commands like to
repeat it: base64, percent-encoded, quoted for a shell, escaped for JSON and XML, in hexadecimal, by the line.
This is a net under the acrobat, not the rope: plans and events are made so that no secret gets into them.
"""

import base64
import html
import json
import re
import shlex
import textwrap
import urllib.parse

__all__ = ["SHORTEST", "Masker"]

SHORTEST = 4
"""Characters. Masking something shorter would riddle every output with holes, and the holes would tell it."""


class Masker:
    """The secrets of one run. One thread adds and masks."""

    def __init__(self) -> None:
        self._forms: dict[str, str] = {}
        self._pattern: re.Pattern[str] | None = None

    def __repr__(self) -> str:
        return f"<Masker of {len(set(self._forms.values()))} secrets>"

    def add(self, name: str, secret: str) -> None:
        """From now on ``secret`` reads ``<secret NAME>``. Raises ValueError if it is too short."""
        if len(secret) < SHORTEST:
            raise ValueError(f"shorter than {SHORTEST} characters")
        for form in _forms(secret):
            self._forms.setdefault(form, name)
        longest_first = sorted(self._forms, key=lambda form: (-len(form), form))
        self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def mask(self, text: str, *, cut_before: bool = False, cut_after: bool = False) -> str:
        """``cut_before``, ``cut_after``: the text was cut off there, so half a secret may be at that end."""
        if self._pattern is None:
            return text
        text = self._pattern.sub(lambda match: f"<secret {self._forms[match[0]]}>", text)
        if cut_before:
            text = self._without_tail_of_secret(text)
        if cut_after:
            text = self._without_head_of_secret(text)
        return text

    def _without_tail_of_secret(self, text: str) -> str:
        size = max(
            (n for form in self._forms for n in range(1, len(form)) if text.startswith(form[-n:])), default=0
        )
        return f"<secret>{text[size:]}" if size else text

    def _without_head_of_secret(self, text: str) -> str:
        size = max(
            (n for form in self._forms for n in range(1, len(form)) if text.endswith(form[:n])), default=0
        )
        return f"{text[: len(text) - size]}<secret>" if size else text


def _forms(secret: str) -> set[str]:
    data = secret.encode()
    pieces = {secret, secret.strip(), *(line.strip() for line in secret.splitlines())}
    forms = set(pieces)
    for piece in pieces:
        forms |= _escaped(piece)
    for encoded in (data, data.strip(), data + b"\n"):
        forms |= _base64(encoded)
    forms |= {data.hex(), data.hex().upper()}
    return {form for form in forms if len(form) >= SHORTEST}


def _escaped(text: str) -> set[str]:
    percent = {urllib.parse.quote(text, safe=""), urllib.parse.quote(text), urllib.parse.quote_plus(text)}
    return {
        *percent,
        *(re.sub(r"%[0-9A-F]{2}", lambda code: code[0].lower(), form) for form in percent),
        shlex.quote(text),
        text.replace("'", "'\\''"),  # as ``set -x`` of ash and dash prints it
        text.replace("'", "'\"'\"'"),
        json.dumps(text)[1:-1],
        json.dumps(text, ensure_ascii=False)[1:-1],
        html.escape(text),
        html.escape(text, quote=False),
        repr(text)[1:-1],
    }


def _base64(data: bytes) -> set[str]:
    """Also of a longer text that has the secret in it ("user:password"): such base64 comes in three phases,
    and the characters at the ends, which mix in neighbours, are left off."""
    whole = base64.b64encode(data).decode()
    forms = {whole, whole.rstrip("=")}
    for phase in range(3):
        encoded = base64.b64encode(b"\0" * phase + data).decode()
        first = (phase * 8 + 5) // 6
        last = (phase + len(data)) * 8 // 6
        # Shorter than 6 it would be likelier to hit ordinary text than base64 of the secret.
        if last - first >= 6:
            forms.add(encoded[first:last])
    for width in (64, 76):  # PEM, MIME
        forms |= set(textwrap.wrap(whole, width))
    return forms | {form.replace("+", "-").replace("/", "_") for form in forms}
