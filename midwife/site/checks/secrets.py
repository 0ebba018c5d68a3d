"""Are secrets where they belong: not in the site's files, and to be had on this machine?

Only warnings, because ``midwife check`` may run as another user, or on another machine, than the service.
Nothing here reads a secret or repeats one.
"""

import re
import stat
from collections.abc import Iterator, Mapping
from typing import Any

from midwife.site.draft import Draft
from midwife.site.model import Ssh
from midwife.site.problems import Problem
from midwife.site.yaml import Place

__all__ = ["check_secrets"]

_TELLING = re.compile(r"pass(word|wd|phrase)|secret|token|api[-_]?key|private[-_]?key|license[-_]?key", re.I)
_TELLING_WORD = re.compile(r"(?:^|\s)(\S*(?:pass(?:word|wd)|rootpw|secret|token)\S*)=", re.I)


def check_secrets(draft: Draft, environ: Mapping[str, str]) -> Iterator[Problem]:
    """References that cannot be resolved here, and texts that look like secrets in clear."""
    for name, found in draft.secrets.items():
        yield from _check_reference(draft, environ, found.value, found.place, name)
    places = [(draft.main.place.at("ssh"), draft.main.value.ssh)] if draft.main else []
    places += [(found.place.at("ssh"), found.value.ssh) for found in draft.hosts if found.value.ssh]
    places += [(found.place.at("ssh"), found.value.ssh) for found in draft.configurations if found.value.ssh]
    for place, ssh in places:
        yield from _check_ssh(draft, environ, place, ssh)
    for host in draft.hosts:
        yield from _clear_in(host.value.vars, host.place.at("vars"))
        yield from _clear_in(host.value.labels, host.place.at("labels"))
        yield from _clear_options(host.value.options, host.place.at("options"))
    for image in draft.images.values():
        yield from _clear_options(image.value.options, image.place.at("options"))


def _check_ssh(draft: Draft, environ: Mapping[str, str], place: Place, ssh: Ssh) -> Iterator[Problem]:
    if ssh.password:
        yield from _check_reference(draft, environ, ssh.password, place.at("password"), "the SSH password")
    if ssh.key is not None:
        yield from _check_file(draft, str(ssh.key), place.at("key"), "the SSH key")


def _check_reference(
    draft: Draft, environ: Mapping[str, str], reference: str, place: Place, name: str
) -> Iterator[Problem]:
    kind, _, rest = reference.partition(":")
    if kind == "clear":
        hint = "for anything but a throw-away lab use env:NAME or file:/path"
        yield place.problem(f"{place.name}: a secret in clear", hint, level="warning")
    elif kind == "env" and rest not in environ:
        hint = "the service must have it; under systemd it comes from EnvironmentFile="
        what = f"{place.name}: the environment variable {rest} is not set here"
        yield place.problem(what, hint, level="warning")
    elif kind == "file":
        yield from _check_file(draft, rest, place, name)


def _check_file(draft: Draft, text: str, place: Place, name: str) -> Iterator[Problem]:
    path = draft.root / text
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        what = f"{place.name}: the file of {name}, {path}: {reason}"
        yield place.problem(what, "create it, readable for the service only", level="warning")
        return
    if not stat.S_ISREG(mode):
        yield place.problem(f"{place.name}: {path} is not a file", "name a file", level="warning")
    elif mode & stat.S_IROTH:
        what = f"{place.name}: everybody on this machine can read {path}"
        yield place.problem(what, f"chmod 600 {path}", level="warning")


def _clear_in(data: Mapping[str, Any], place: Place) -> Iterator[Problem]:
    for key, value in data.items():
        spot = place.at(key)
        if isinstance(value, Mapping):
            yield from _clear_in(value, spot)
        elif _TELLING.search(key):
            hint = "declare it under secrets: in midwife.yaml and write secret('NAME') in the step"
            yield spot.problem(f"{spot.name} looks like a secret in clear", hint, level="warning")


def _clear_options(options: str, place: Place) -> Iterator[Problem]:
    for word in _TELLING_WORD.findall(options):
        hint = "everybody on the boot network can fetch the kernel line"
        what = f"{place.name}: {word}= looks like a secret in clear"
        yield place.problem(what, hint, level="warning")
